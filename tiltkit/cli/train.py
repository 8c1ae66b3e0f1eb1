"""``tiltkit train``: train a prior on the user's images."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tiltkit.cli.shared import json_option, print_json, print_tree, set_threads, threads_option
from tiltkit.cli.signals import noted_from_first, stop_requested

if TYPE_CHECKING:
    from tiltkit.cli.progress import ProgressBar
    from tiltkit.training.finish import Finished
    from tiltkit.training.recipe import TrainRecipe
    from tiltkit.training.train import Event

__all__ = ["train"]

# Settings that exclude each other, by name.
_BUDGETS = {"training.steps": "minutes", "training.minutes": "steps"}


@click.command(short_help="Train a prior on your own images.")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("-s", "--set", "settings", multiple=True, metavar="KEY=VALUE",
              help="Change one setting, such as training.minutes=60; repeatable.")  # fmt: skip
@click.option(
    "-o", "--output", metavar="OUT", help="Weights file; as in the recipe when not given."
)
@threads_option
@click.option("--check", is_flag=True, help="Read and check the images without training.")
@click.option("--resume", is_flag=True, help="Continue a training that was stopped.")
@click.option("--overwrite", is_flag=True, help="Replace an existing prior.")
@json_option
def train(
    recipe: Path,
    settings: Sequence[str],
    output: str | None,
    threads: int | None,
    check: bool,
    resume: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Train a score network on the images of RECIPE, and measure it on held-out images.

    \b
    tiltkit train recipe.toml
    tiltkit train recipe.toml -s training.minutes=60 -o heads.safetensors
    tiltkit run mri-recon scan.h5 --prior network -s prior.weights=heads.safetensors
    """
    from tiltkit.config import read_toml
    from tiltkit.training.recipe import resolve

    values = read_toml(recipe)
    for setting in settings:
        values = _changed(values, setting)
    given = {"output": output, "threads": threads}
    resolved = resolve(values | {name: x for name, x in given.items() if x is not None})
    set_threads(resolved.threads)
    if check:
        from tiltkit.training.train import check as checked

        facts = checked(resolved)
        print_json(facts) if as_json else print_tree(facts)
        return
    finished = _train(resolved, resume=resume, overwrite=overwrite)
    print_json(_summary(finished)) if as_json else click.echo(_sentence(finished))


def _changed(values: dict[str, Any], setting: str) -> dict[str, Any]:
    """Return values with one setting changed; setting one budget removes the other one."""
    from tiltkit.config import with_setting

    changed = with_setting(values, setting)
    other = _BUDGETS.get(setting.partition("=")[0].strip())
    if other:
        changed["training"].pop(other, None)
    return changed


def _train(recipe: TrainRecipe, *, resume: bool, overwrite: bool) -> Finished:
    """Train with a progress bar.

    Raises:
        KeyboardInterrupt: Training was stopped; how to continue is printed.
    """
    from tiltkit.cli.progress import ProgressBar
    from tiltkit.training.finish import Finished
    from tiltkit.training.train import Stopped
    from tiltkit.training.train import train as events

    training = events(recipe, resume=resume, overwrite=overwrite, stop=stop_requested)
    with ProgressBar("training") as bar:
        for event in noted_from_first(training):
            _show(event, bar)
            if isinstance(event, Finished):
                return event
            if isinstance(event, Stopped):
                command = shlex.join(["tiltkit", *sys.argv[1:]])
                after = f" after step {event.step}" if event.step else ""
                click.echo(f"The state{after} is in {event.state}.", err=True)
                if not resume:
                    command += " --resume"
                click.echo(f"Continue with: {command}", err=True)
    raise KeyboardInterrupt


def _show(event: Event, bar: ProgressBar) -> None:
    """Print or display one event of a training."""
    from tiltkit.training.loop import Checked, Stepped
    from tiltkit.training.train import Drawn, Prepared

    match event:
        case Prepared():
            for name, value in event.facts.items():
                bar.line(f"{name}: {value}")
            bar.line(f"total variation: {_levels(event.levels, event.tv)}")
        case Drawn():
            note = f"round {event.round} of {event.rounds}: {event.images} of {event.total} images"
            bar.update(note, always=event.images == event.total)
        case Checked():
            bar.line(f"step {event.check.step}: {_levels(event.levels, event.check.psnr)}")
        case Stepped():
            note = f"step {event.step}, loss {event.loss:.4f}"
            note += f", {event.seconds_left / 60:.1f} min left"
            bar.update(note, completed=min(1.0, event.spent), total=1.0)


def _levels(levels: Sequence[float], psnr: Sequence[float]) -> str:
    """Format PSNR by noise level: ``0.02: 35.21  0.05: 29.40 dB``."""
    return "  ".join(f"{s:g}: {p:.2f}" for s, p in zip(levels, psnr, strict=True)) + " dB"


def _summary(finished: Finished) -> dict[str, Any]:
    outcome = finished.outcome
    return {
        "output": str(finished.weights),
        "card": str(finished.card),
        "report": str(finished.page),
        "sha256": outcome.sha256,
        "steps": outcome.record.step,
        "best_step": outcome.best.step,
        "seconds": outcome.record.seconds,
        "levels": list(outcome.levels),
        "psnr": list(outcome.best.psnr),
        "psnr_tv": list(outcome.tv),
        "care": outcome.cautions(),
    }


def _sentence(finished: Finished) -> str:
    outcome = finished.outcome
    gain = sum(outcome.gain) / len(outcome.gain)
    text = (
        f"{finished.weights}: {outcome.steps}, {outcome.record.seconds / 60:.1f} min,"
        f" {gain:+.2f} dB compared with total variation, card {finished.card},"
        f" report {finished.page}."
    )
    return text + "".join(f" Take care: {caution}" for caution in outcome.cautions()[:1])
