"""``tiltkit calibrate``: are the intervals of a scan's samples as wide as they say?"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from tiltkit.cli.faults import failures_as_json
from tiltkit.cli.recipe import RecipeCommand, recipe_options, recipe_values, resolve_recipe
from tiltkit.cli.shared import call_plugins, json_option, log, print_json, set_threads
from tiltkit.cli.signals import raise_if_stopped, until_stopped
from tiltkit.errors import TiltkitError, UsageError

if TYPE_CHECKING:
    from tiltkit.calibration.record import Calibration
    from tiltkit.config import Recipe
    from tiltkit.recon.calibrate import CalibrationDone, Chosen, Event

__all__ = ["calibrate"]

_PATH = click.Path(path_type=Path)


@click.command(cls=RecipeCommand, short_help="Test whether intervals are as wide as they say.")
@click.argument("words", nargs=-1, metavar="TASK FILE")
@click.option(
    "-o",
    "--output",
    type=_PATH,
    metavar="OUT",
    help="Calibration file; NAME.calibration.h5 here when not given.",
)
@click.option(
    "--result",
    type=_PATH,
    metavar="FILE",
    help="Take settings, scan and samples from this result instead of a new run.",
)
@click.option(
    "--draws",
    type=click.IntRange(1),
    metavar="N",
    help="Number of known images, each of which costs a run; 8, or all of --images.",
)
@click.option(
    "--images",
    type=_PATH,
    multiple=True,
    metavar="FILE",
    help="Reference images instead of posterior samples: npy, npz, HDF5, TIFF, ..., or a folder;"
    " repeatable.",
)
@click.option(
    "--image-units",
    type=click.Choice(["prior", "scan"]),
    default="prior",
    show_default=True,
    help="prior scales the brightness of each reference image to the prior's range; scan takes"
    " values in the units of the result.",
)
@click.option(
    "--regions",
    type=_PATH,
    metavar="FILE",
    help="NumPy file with a whole number for each pixel; air, object and edges of the mean when"
    " not given.",
)
@recipe_options
@click.option("--report", is_flag=True, help="Write a picture (PNG) beside the calibration.")
@click.option("--resume", is_flag=True, help="Continue a calibration that was stopped.")
@click.option("--overwrite", is_flag=True, help="Replace an existing calibration.")
@json_option
def calibrate(
    words: tuple[str, ...],
    output: Path | None,
    result: Path | None,
    draws: int | None,
    images: tuple[Path, ...],
    image_units: str,
    regions: Path | None,
    report: bool,
    resume: bool,
    overwrite: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Test the intervals of FILE with images that are known, and store the outcome.

    \b
    tiltkit calibrate mri-recon scan.h5 --report
    tiltkit calibrate --result scan.posterior.h5
    tiltkit calibrate mri-recon scan.h5 --images heads.npy
    tiltkit run mri-recon scan.h5 --calibration scan.calibration.h5 --widen

    The known images are posterior samples of the scan, or reference images. Data are simulated from
    each with the operator and the noise of the scan, and sampled like those of a run.
    """  # fmt: skip
    if result is not None:
        if options["recipe"] is not None:
            raise UsageError("--result and -c both name settings.", "leave out one of them.")
        options["recipe"] = result
    values, files = recipe_values(words, **options)
    if len(files) != 1:
        raise UsageError(f"{len(files)} input files are named.", "give one: calibrate TASK FILE.")
    from tiltkit.recon.calibrate import Chosen

    units: Literal["prior", "scan"] = "scan" if image_units == "scan" else "prior"
    chosen = Chosen(draws, images, units, regions, result)
    output = output or Path(f"{files[0].stem}.calibration.h5")
    with failures_as_json(files[0], as_json=as_json):
        recipe = resolve_recipe(values)
        set_threads(recipe.threads)
        with redirect_stdout(sys.stderr):
            done = _run(recipe, files[0], output, chosen, resume=resume, overwrite=overwrite)
            raise_if_stopped()
            picture = output.with_suffix(".png") if report else None
            if picture:
                from tiltkit.report.calibration import write_picture

                write_picture(done.calibration, picture)
        _print(files[0], output, picture, done.calibration, as_json=as_json)


def _run(
    recipe: Recipe, source: Path, output: Path, chosen: Chosen, *, resume: bool, overwrite: bool
) -> CalibrationDone:
    """Calibrate with a progress bar; how to continue after a stop is printed."""
    from tiltkit.io.atomic import part_path
    from tiltkit.recon.calibrate import CalibrationDone, calibrate_scan

    command = shlex.join(["tiltkit", *sys.argv[1:]])
    events = calibrate_scan(
        recipe, call_plugins(), source, output, chosen,
        resume=resume, overwrite=overwrite, command=command,
    )  # fmt: skip
    try:
        with closing(events), _shown(source.name) as show:
            for event in until_stopped(events):
                if isinstance(event, CalibrationDone):
                    return event
                show(event)
    except KeyboardInterrupt:
        if part_path(output).exists():
            log("Finished draws are kept: run the same command with --resume.")
        raise
    raise TiltkitError(f"The calibration of {source} ended without a result.")


@contextmanager
def _shown(name: str) -> Iterator[Any]:
    """A function that shows events on a progress bar, or as lines."""
    from tiltkit.cli.progress import ProgressBar
    from tiltkit.recon.calibrate import DrawDone, DrawStarted, LevelDone

    place = f"{name}: samples of the scan"
    with ProgressBar(name, transient=True) as bar:

        def show(event: Event) -> None:
            nonlocal place
            if isinstance(event, DrawStarted):
                place = f"{name}: draw {event.number} of {event.total}"
            elif isinstance(event, DrawDone):
                left = f"about {event.seconds_left:.0f} s left"
                line = f"{name}: draw {event.number} of {event.total} done, {left}"
                bar.update(left, line, always=True)
            elif isinstance(event, LevelDone):
                note = f"level {event.level} of {event.n_levels}"
                bar.update(
                    note, f"{place}: {note}", description=place, completed=event.level,
                    total=event.n_levels,
                )  # fmt: skip

        yield show


def _print(
    source: Path, output: Path, picture: Path | None, calibration: Calibration, *, as_json: bool
) -> None:
    report = calibration.report()
    files = {"input": str(source), "output": str(output)}
    files |= {"report": str(picture)} if picture else {}
    if as_json:
        print_json({**files, **report})
        return
    about = "reference images" if report["kind"] == "images" else "posterior samples"
    _print_table(report)
    where = f"{output}: {report['draws']} {about}, {report['samples']} samples each, "
    where += f"{report['seconds']:.0f} s" + (f", picture {picture}" if picture else "")
    click.echo(f"{where}. {report['verdict'].capitalize()}. {report['text']}")


def _print_table(report: Mapping[str, Any]) -> None:
    """One row for each region: coverage, its band, spreads that agree, factors."""
    factors = report.get("factors", {})
    width = max(len(one["name"]) for one in report["regions"])
    nominal = 100 * report["regions"][0]["nominal"]
    head = f"{'':<{width}}  {f'{nominal:.0f} % intervals hold':>20}  {'if right':>12}"
    head += f"  {'spread over the right one':>26}"
    click.echo(head + ("  factor for 90 %" if factors else ""))
    for one in report["regions"]:
        low, high = (100 * value for value in one["band"])
        line = f"{one['name']:<{width}}  {100 * one['coverage']:18.1f} %"
        line += f"  {f'{low:.0f} to {high:.0f} %':>12}  {_spread(one):>26}"
        if factors:
            value = factors[one["name"]]["0.9"]
            line += f"  {'too few images' if value is None else f'{value:.2f}':>15}"
        click.echo(line)


def _spread(one: Mapping[str, Any]) -> str:
    """Range of spreads that agree with the coverage."""
    low, high = one["low"], one["high"]
    if low is None:
        return "none agrees"
    return f"{low:.2f} to {'any' if high is None else f'{high:.2f}'}"
