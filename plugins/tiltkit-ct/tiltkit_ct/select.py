"""Selection of a part of a scan: ranges, binning, units and directions."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tiltkit.errors import InputError, UsageError
from tiltkit.io.units import ANGLES, unit_size
from tiltkit.problem import Note
from tiltkit_ct.bad_frames import listed
from tiltkit_ct.hdf5 import DEFAULT_UNIT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tiltkit_ct.options import PrepareOptions
    from tiltkit_ct.projections import Projections

__all__ = ["parse_range", "parse_views", "select"]

# A gap of so many median gaps is the end of the turn; the jitter of an encoder makes smaller ones.
_WIDE = 1.5
# Fewest angles from whose span a wrong unit is recognised.
_ENOUGH_ANGLES = 16


def select(projections: Projections, options: PrepareOptions) -> Projections:
    """The wanted part of a scan, checked; frames are still read later, and only that part.

    Projections come in the order of their angles, however often and in which order the sample was
    turned (golden ratio, TIMBIR, dose symmetric): neighbours have similar views.

    Raises:
        UsageError: A range or name that the file does not have.
        InputError: Angles that are not usable, or not in the unit that the file says.
    """
    p = _entry(projections, options.entry)
    if options.tilt_axis not in (None, p.axis_along):
        p = p.transposed()
    rows, columns = _window(p, options)
    n = options.binning
    p = _kept(p, options)
    hint = p.axis_hint
    p = replace(
        p,
        angle_unit=options.angle_unit or p.angle_unit,
        notes=tuple(n for n in p.notes if not (options.angle_unit and n.code == DEFAULT_UNIT)),
        rows=rows,
        columns=columns,
        binning=n,
        pixel_mm=_scaled(options.pixel_mm, p.pixel_mm, n),
        energy_kev=options.energy_kev or p.energy_kev,
        distance_mm=options.distance_mm or p.distance_mm,
        kind=options.kind or p.kind,
        axis_hint=None if hint is None else (hint - columns.start - (n - 1) / 2) / n,
        middle_row=((p.rows[0] + p.rows[-1]) / 2 - rows.start - (n - 1) / 2) / n,
    )
    _check_angles(p, given=options.angle_unit is not None)
    return p.subset(_around(p.angles))


def _kept(p: Projections, options: PrepareOptions) -> Projections:
    """The scan without the projections that the options leave out."""
    total = len(p.projections)
    wanted = np.asarray(parse_range(options.angles, range(total), "angles"))
    if options.exclude_views is None:
        return p.subset(wanted)
    excluded = parse_views(options.exclude_views, total)
    kept = np.setdiff1d(wanted, sorted(excluded), assume_unique=True)
    if not len(kept):
        raise UsageError("No projection is left of the scan.", "exclude fewer views.")
    text = f"Projections {listed(excluded)} are left out, as exclude_views says."
    return replace(p.subset(kept), notes=(*p.notes, Note("views_excluded", text)))


def _window(p: Projections, options: PrepareOptions) -> tuple[range, range]:
    """Detector rows and columns of the options, at least as many as are binned."""
    rows = parse_range(options.rows, p.rows, "rows")
    columns = parse_range(options.columns, p.columns, "columns")
    if rows.step != 1 or columns.step != 1:
        raise UsageError(
            "Rows and columns are ranges without gaps, but a step was given.",
            "use FIRST:END, and binning to skip detail.",
        )
    n = options.binning
    if min(len(rows), len(columns)) < n:
        raise UsageError(
            f"Binning by {n} leaves nothing of {len(rows)} rows and {len(columns)} columns.",
            f"use binning up to {min(len(rows), len(columns))}.",
        )
    return rows, columns


def parse_range(text: str | None, total: range, what: str) -> range:
    """A part ``FIRST:END[:STEP]`` of a range, counted from its start, the end left out.

    Raises:
        UsageError: It is no such text, or nothing is left, or it reaches beyond the range.
    """
    if text is None:
        return total
    parts = text.split(":")
    try:
        numbers = [int(part) if part.strip() else None for part in parts]
    except ValueError:
        numbers = []
    if len(numbers) not in (2, 3) or any(number is not None and number < 0 for number in numbers):
        raise UsageError(f"The {what} {text!r} are not FIRST:END or FIRST:END:STEP.", "use 0:100.")
    if len(numbers) == 3 and numbers[2] == 0:
        raise UsageError(f"The {what} {text!r} have a step of 0.", "use a step of 1 or more.")
    part = total[slice(*numbers)]
    if not part or (numbers[1] or 0) > len(total):
        raise UsageError(
            f"The {what} {text!r} are not all in the file, which has {len(total)}.",
            f"use a range within 0:{len(total)}.",
        )
    return part


def parse_views(text: str, total: int) -> set[int]:
    """Numbers of projections from ``20-28,31,50-``: last ones included, counted from 0.

    Raises:
        UsageError: It is no such text, or names projections that the scan does not have.
    """
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        if not (first or last) or not (first + last).isdecimal() or not (first or dash):
            raise UsageError(
                f"The views {text!r} are no numbers or ranges.", "use 20-28,31,50- for example."
            )
        start = int(first or 0)
        end = (int(last) if last else total - 1) if dash else start
        if not start <= end < total:
            raise UsageError(
                f"The views {part.strip()!r} are not all in the scan, which has {total}.",
                f"use numbers from 0 to {total - 1}.",
            )
        found.update(range(start, end + 1))
    return found


def _entry(projections: Projections, name: str | None) -> Projections:
    """The scan with a name among those of the file; the given one without a name."""
    if name is None or name == projections.name:
        return projections
    if name not in projections.others:
        raise UsageError(
            f"{projections.path} has no scan {name!r}.",
            f"choose one of: {', '.join([projections.name, *projections.others])}.",
        )
    return projections.others[name]()


def _around(angles: NDArray[np.float64]) -> NDArray[np.int64]:
    """Indices of projections in the order of their angles, from after the widest gap.

    Without a gap that is wider than the rest it is a full turn, from its smallest angle.
    """
    turn = angles / (2 * math.pi) % 1.0
    order = np.argsort(turn, kind="stable")
    gaps = np.diff(turn[order], prepend=turn[order[-1]] - 1)
    widest = int(gaps.round(9).argmax())
    return np.roll(order, -widest) if gaps[widest] > _WIDE * np.median(gaps) else order


def _scaled(given: float | None, found: float | None, binning: int) -> float | None:
    """Side of a binned pixel; sizes are given for pixels of the file."""
    size = given or found
    return None if size is None else size * binning


def _check_angles(p: Projections, *, given: bool) -> None:
    """Refuse angles that cannot be right.

    Raises:
        InputError: NaN, or a range that only makes sense in the other unit.
    """
    bad = int((~np.isfinite(p.angles)).sum())
    if bad:
        raise InputError(
            f"{bad} of the {len(p.angles)} angles of {p.path} are NaN or infinite.",
            "leave these projections out with angles, or export the scan again.",
        )
    if given or len(p.angles) < _ENOUGH_ANGLES:
        return
    steps = np.abs(np.diff(p.stored_angles))
    turned = float(np.ptp(p.stored_angles))
    whole = turned + float(np.median(steps))  # the last step of the turn is often left out
    degrees = math.isclose(unit_size(p.angle_unit, ANGLES) or 0.0, math.radians(1))
    turns = (math.pi, 2 * math.pi) if degrees else (180.0, 360.0)
    if any(abs(end - turn) < 0.02 * turn for turn in turns for end in (turned, whole)):
        stated, other = ("deg", "rad") if degrees else ("rad", "deg")
        raise InputError(
            f"The angles of {p.path} span {turned:.4g} {p.angle_unit}, which is half or all of a"
            f" turn in {other} instead.",
            f"add --angle-unit {other}, or --angle-unit {stated} if that is right.",
        )
