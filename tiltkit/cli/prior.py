"""``tiltkit prior``: check priors; convert, download and fit their weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tiltkit.cli.shared import call_plugins, json_option, print_json
from tiltkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["prior"]

_FILE = click.Path(path_type=Path)


@click.group(short_help="Check priors; convert, fetch and fit their weights.")
def prior() -> None:
    """Check priors; convert, download and fit their weights."""


@prior.command()
@click.argument("name")
@click.option("--images", multiple=True, type=_FILE, metavar="FILE",
              help="Held-out images: npz, npy, HDF5, TIFF, PNG; repeatable. Without them the prior"
              " is checked on its own samples.")  # fmt: skip
@click.option("-s", "--set", "settings", multiple=True, metavar="KEY=VALUE",
              help="Option of the prior, such as strength=0.5; repeatable.")  # fmt: skip
@click.option("--levels", metavar="LIST", help="Noise levels, such as 0.02,0.1,0.5.")
@click.option("--count", type=click.IntRange(1), default=4, show_default=True,
              help="Images to use.")  # fmt: skip
@click.option("--scale", default="auto", show_default=True, metavar="NUMBER",
              help="Divisor of image values; auto scales the 99th percentile of bright pixels to 1,"
              " none leaves values unchanged.")  # fmt: skip
@click.option("--samples", type=click.IntRange(0, 64), default=4, show_default=True,
              help="Unconditional samples to draw.")  # fmt: skip
@click.option("--size", type=click.IntRange(16), default=64, show_default=True,
              help="Side of its own samples, in pixels.")  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--device", default="auto", show_default=True, metavar="NAME")
@click.option("-o", "--output", type=_FILE, metavar="FILE", help="Picture (.png) or page (.html).")
@click.option("--overwrite", is_flag=True, help="Replace a file that is there.")
@json_option
def check(
    name: str, settings: tuple[str, ...], overwrite: bool, as_json: bool, **choice: Any
) -> None:
    """Measure the quality of the prior NAME as a score model.

    \b
    tiltkit prior check mri.brain --images heads.npz -o brain.html
    """
    from tiltkit.cli.prior_check import check_by_name, print_report
    from tiltkit.priors.check.findings import findings, overall
    from tiltkit.report.prior_check import check_suffix, write_page

    output: Path | None = choice.pop("output")
    if output is not None:
        check_suffix(output)
        _check_output(output, overwrite=overwrite, keep=choice["images"])
    report = check_by_name(name, settings, quiet=as_json, **choice)
    found = findings(report)
    if output is not None:
        write_page(report, found, output)
    if as_json:
        rows = [{"about": f.about, "judgement": f.judgement, "text": f.text} for f in found]
        print_json(report.figures() | {"findings": rows, "verdict": overall(found)})
        return
    print_report(report, found)
    if output is not None:
        click.echo(f"\nWrote {output}.")


@prior.command(short_help="Convert a torch checkpoint to safetensors.")
@click.argument("old", type=_FILE)
@click.option("-o", "--output", type=_FILE, required=True, metavar="FILE",
              help="The safetensors file to write.")  # fmt: skip
@click.option("--key", metavar="NAME", help="Key of the weights in the checkpoint, such as"
              " state_dict or callbacks.ema; found automatically when not given.")  # fmt: skip
@click.option("--strip", multiple=True, metavar="PREFIX",
              help="Prefix to remove from every name; repeatable. module. and similar ones are"
              " removed in any case.")  # fmt: skip
@click.option("--note", multiple=True, metavar="KEY=TEXT",
              help="Metadata for the file, such as licence=MIT; repeatable.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace a file that is there.")
@json_option
def convert(
    old: Path, output: Path, key: str | None, strip: tuple[str, ...], note: tuple[str, ...],
    overwrite: bool, as_json: bool,
) -> None:  # fmt: skip
    """Convert the checkpoint OLD (.pt, .pth, .ckpt) to safetensors, without running its code.

    \b
    tiltkit prior convert drunet.pth -o drunet.safetensors --note licence=MIT
    """
    from dataclasses import asdict

    from tiltkit.priors.convert import PREFIXES
    from tiltkit.priors.convert import convert as convert_file

    _check_output(output, overwrite=overwrite, keep=[old])
    done = convert_file(
        old, output, key=key, prefixes=(*strip, *PREFIXES), notes=dict(map(_note, note))
    )
    if as_json:
        print_json({"output": str(output), **asdict(done)})
        return
    where = f" from {done.key!r}" if done.key else ""
    click.echo(f"Wrote {output}: {done.tensors} tensors, {done.parameters:,} parameters{where}.")
    if done.prefix:
        click.echo(f"Removed from every name: {done.prefix}")
    if done.left_out:
        click.echo(f"Left out, as they are no weights: {', '.join(done.left_out)}")
    click.echo(f"sha256 {done.sha256}")


@prior.command()
@click.argument("name")
@json_option
def fetch(name: str, as_json: bool) -> None:
    """Download the weights of the prior NAME once, and check their sha256."""
    from tiltkit.hookspecs import PriorEntry
    from tiltkit.priors.fetch import fetch as fetch_weights

    entry = call_plugins().get("prior", name)
    assert isinstance(entry, PriorEntry)  # noqa: S101  (the host has checked it)
    path = fetch_weights(entry)
    if as_json:
        print_json({"prior": name, "path": str(path), "sha256": entry.sha256})
        return
    click.echo(f"{name} is ready: {path}")
    if entry.licence:
        click.echo(f"licence {entry.licence}")


@prior.command(name="fit-patches", short_help="Fit a patch mixture to images.")
@click.argument("images", nargs=-1, required=True, type=_FILE)
@click.option("-o", "--output", type=_FILE, required=True, metavar="FILE",
              help="The safetensors file to write.")  # fmt: skip
@click.option("--side", type=click.IntRange(2, 16), default=6, show_default=True,
              help="Side of a patch in pixels.")  # fmt: skip
@click.option("--components", type=click.IntRange(1), default=40, show_default=True,
              help="Gaussians of the mixture.")  # fmt: skip
@click.option("--patches", "count", type=click.IntRange(100), default=40_000, show_default=True,
              help="Number of patches.")  # fmt: skip
@click.option("--steps", type=click.IntRange(1), default=25, show_default=True,
              help="Steps of expectation-maximisation.")  # fmt: skip
@click.option("--channels", type=click.IntRange(0), default=0, help="2 makes complex images of real"
              " ones, with a smooth random phase.")  # fmt: skip
@click.option("--scale", default="auto", show_default=True, metavar="NUMBER",
              help="As of 'tiltkit prior check'.")  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace a file that is there.")
def fit_patches(images: tuple[Path, ...], output: Path, overwrite: bool, **choice: Any) -> None:
    """Fit a Gaussian mixture to patches of IMAGES, for the prior patches; takes 1 to 2 minutes.

    \b
    tiltkit prior fit-patches scans/*.tif -o mine.safetensors
    tiltkit run TASK FILE --prior patches -s prior.file=mine.safetensors
    """
    _check_output(output, overwrite=overwrite, keep=images)
    origin, likelihood = _fit(images, output, **choice)
    click.echo(f"Wrote {output}: fitted to {origin}.")
    click.echo(f"log-likelihood per patch {likelihood:.2f}")


def _fit(
    images: Sequence[Path], output: Path, *, side: int, components: int, count: int, steps: int,
    channels: int, scale: str, seed: int,
) -> tuple[str, float]:  # fmt: skip
    """Fit and write a mixture; return the origin of the images and the log-likelihood."""
    import torch

    from tiltkit.cli.prior_check import parse_scale
    from tiltkit.io.atomic import part_path, publish
    from tiltkit.io.images import read_images
    from tiltkit.priors.check.material import from_images
    from tiltkit.priors.fit_patches import fit_patches as steps_of
    from tiltkit.priors.fit_patches import patches_of
    from tiltkit.priors.patches import save_patches

    generator = torch.Generator().manual_seed(seed)
    material = from_images(
        read_images(images, channels), ", ".join(path.name for path in images),
        channels, 1000, parse_scale(scale), generator,
    )  # fmt: skip
    pictures = [image[0] for image in material.images]
    patches = patches_of(pictures, side, count, generator)
    fits = steps_of(
        patches, channels=len(pictures[0]), side=side, components=components, steps=steps,
        generator=generator,
    )  # fmt: skip
    for fit in fits:
        click.echo(f"step {fit.step} of {steps}: {fit.log_likelihood:.2f}", err=True)
    part = part_path(output)
    save_patches(part, fit.mixture, {"fitted_to": material.origin, "steps": str(steps)})
    publish(part, output)
    return material.origin, fit.log_likelihood


def _note(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UsageError(
            f"The note {text!r} is not of the form KEY=TEXT.", "write for example licence=MIT."
        )
    return key, value


def _check_output(path: Path, *, overwrite: bool, keep: Sequence[Path]) -> None:
    from tiltkit.io.atomic import check_output

    check_output(path, overwrite=overwrite, resume=True, keep=keep)
