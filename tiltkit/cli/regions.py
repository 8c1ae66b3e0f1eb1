"""Options of ``tiltkit evaluate`` for figures of regions and profiles, and their tables."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import groupby
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tiltkit.errors import UsageError

if TYPE_CHECKING:
    from tiltkit.report.profiles import ProfilePoint
    from tiltkit.report.regions import RegionFigure

__all__ = [
    "measure_profiles", "measure_regions", "print_profiles", "print_regions", "print_samples",
    "region_options", "write_csv",
]  # fmt: skip

F = TypeVar("F", bound=Callable[..., Any])
_LINE = "ROW,COLUMN:ROW,COLUMN[,PLANE]"
_BOX, _DISK = "Y0:Y1,X0:X1[,PLANE]", "ROW,COLUMN,RADIUS[,PLANE]"


def _finite(_context: click.Context, _option: click.Parameter, value: float | None) -> float | None:
    """Check a number.

    Raises:
        BadParameter: It is infinite or NaN.
    """
    if value is None or isfinite(value):
        return value
    raise click.BadParameter(f"{value} is not a finite number.")


def region_options(command: F) -> F:
    """Add the options to a command."""
    for option in (
        click.option("--csv", "csv_file", type=click.Path(path_type=Path), metavar="FILE",
                     help="Write the figures of regions and profiles to a CSV file, too."),
        click.option("--above", type=float, metavar="VALUE", callback=_finite,
                     help="Give the size of each region above this value, too."),
        click.option("--profile", "lines", multiple=True, metavar=_LINE,
                     help="Values along a line between two points, in pixels."),
        click.option("--disk", "disks", multiple=True, metavar=_DISK,
                     help="Figures of a disk, in pixels."),
        click.option("--box", "boxes", multiple=True, metavar=_BOX,
                     help="Figures of a rectangle, in pixels; the ends are left out."),
        click.option("--regions", "label_file", metavar="FILE",
                     help="Figures of the regions of a label image (.nii.gz, .npy, .tif, HDF5),"
                     " 0 outside; FILE::DATASET for one of several arrays in a file."),
    ):  # fmt: skip
        command = option(command)
    return command


def measure_regions(
    result: Path,
    label_file: str | None,
    boxes: Sequence[str],
    disks: Sequence[str],
    above: float | None,
) -> list[RegionFigure]:
    """Figures of all regions that the options name; empty where they name none.

    Raises:
        UsageError: A box or disk has another form.
        InputError: See `tiltkit.report.masks` and `tiltkit.report.regions`.
    """
    if not (label_file or boxes or disks):
        return []
    from tiltkit.io.reading import result_shape
    from tiltkit.report.masks import box, disk, labels
    from tiltkit.report.regions import region_figures

    shape = result_shape(result)
    found = labels(label_file, result) if label_file else {}
    for text in boxes:
        rows, columns, *plane = _numbers(text, "box", _BOX, 2)
        found[f"box {text}"] = box(shape, _range(rows, text), _range(columns, text), _plane(plane))
    for text in disks:
        row, column, radius, *plane = _numbers(text, "disk", _DISK, 3)
        try:
            circle = float(row), float(column), float(radius)
        except ValueError as error:
            raise _form(text, "disk", _DISK) from error
        found[f"disk {text}"] = disk(shape, *circle, _plane(plane))
    return region_figures(result, found, above)


def measure_profiles(result: Path, lines: Sequence[str]) -> list[ProfilePoint]:
    """Values along all lines, one line after the other.

    Raises:
        UsageError: A line has another form.
        InputError: See `tiltkit.report.profiles`.
    """
    from tiltkit.report.profiles import profile

    found = []
    for text in lines:
        parts = re.fullmatch(r"([^,:]+),([^,:]+):([^,:]+),([^,:]+)(?:,(\d+))?", text)
        try:
            if parts is None:
                raise ValueError(text)
            y0, x0, y1, x1 = (float(number) for number in parts.groups()[:4])
        except ValueError as error:
            raise _form(text, "profile", _LINE) from error
        plane = None if parts[5] is None else int(parts[5])
        found += profile(result, f"profile {text}", (y0, x0), (y1, x1), plane)
    return found


def _numbers(text: str, kind: str, form: str, least: int) -> list[str]:
    parts = text.split(",")
    if not least <= len(parts) <= least + 1 or (len(parts) > least and not parts[-1].isdecimal()):
        raise _form(text, kind, form)
    return parts


def _range(text: str, whole: str) -> slice:
    first, _, last = text.partition(":")
    if not (first.strip().isdecimal() and last.strip().isdecimal()):
        raise _form(whole, "box", _BOX)
    return slice(int(first), int(last))


def _plane(parts: Sequence[str]) -> int | None:
    return int(parts[0]) if parts else None


def _form(text: str, kind: str, form: str) -> UsageError:
    return UsageError(f"The {kind} {text!r} has not the form {form}.", f"give --{kind} {form}.")


def print_regions(figures: Sequence[RegionFigure]) -> None:
    """Print one row per figure of a region, with its interval."""
    width = max(len(one.region) for one in figures)
    kind = max(len(one.figure) for one in figures)
    for one in figures:
        unit = f" {one.unit}" if one.unit else ""
        click.echo(
            f"{one.region:<{width}}  {one.figure:<{kind}}  {one.value:.4g}{unit}, standard"
            f" deviation {one.std:.2g}, {100 * one.coverage:.0f} % interval {one.low:.4g} to"
            f" {one.high:.4g}"
        )


def print_profiles(points: Sequence[ProfilePoint]) -> None:
    """Print a table for each profile: positions, value, standard deviation, interval."""
    for name, group in groupby(points, lambda point: point.region):
        rows = list(group)
        first = rows[0]
        unit = f", values in {first.unit}" if first.unit else ""
        click.echo(f"{name}, positions in {first.length_unit}{unit}")
        interval = f"{100 * first.coverage:.0f} % interval"
        click.echo(f"{'distance':>10}  {'y':>10}  {'x':>10}  {'value':>10}  {'deviation':>10}"
                   f"  {interval:>22}")  # fmt: skip
        for one in rows:
            click.echo(
                f"{one.distance:10.4g}  {one.y:10.4g}  {one.x:10.4g}  {one.value:10.4g}"
                f"  {one.std:10.2g}  {one.low:10.4g}  {one.high:10.4g}"
            )


def print_samples(figures: Sequence[RegionFigure]) -> None:
    """Print how many samples the intervals are from, and what these are worth."""
    first = min(figures, key=lambda one: one.independent)
    worth = ""
    if first.independent < first.samples:
        worth = f", worth {first.independent:.1f} independent ones and widened accordingly"
    click.echo(
        f"Intervals are from {first.samples} samples{worth}. They hold if the posterior is right:"
        " see the verdict."
    )


def write_csv(path: Path, figures: Sequence[RegionFigure]) -> None:
    """Write one row per figure or point of a profile; columns of the other kind are empty.

    Raises:
        UsageError: The file exists or cannot be written.
    """
    rows = [asdict(one) for one in figures]
    try:
        with path.open("x", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
            writer.writeheader()
            writer.writerows(rows)
    except FileExistsError as error:
        raise UsageError(f"{path} exists.", "give another name with --csv.") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.", "check --csv.") from error
