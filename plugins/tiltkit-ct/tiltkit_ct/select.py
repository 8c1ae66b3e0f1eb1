"""Selection of a part of a scan: ranges, binning, units and directions."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tiltkit.errors import UsageError
from tiltkit.problem import Note
from tiltkit_ct.angles import check_angles, settle_angles
from tiltkit_ct.bad_frames import listed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tiltkit_ct.options import PrepareOptions
    from tiltkit_ct.projections import Projections

__all__ = ["binned_position", "parse_range", "parse_views", "select"]

# A gap of so many median gaps is the end of the turn; the jitter of an encoder makes smaller ones.
_WIDE = 1.5


def select(projections: Projections, options: PrepareOptions) -> Projections:
    """The wanted part of a scan, checked; frames are still read later, and only that part.

    Projections come in the order of their angles, however often and in which order the sample was
    turned (golden ratio, TIMBIR, dose symmetric): neighbours have similar views.

    Raises:
        UsageError: A range or name that the file does not have.
        InputError: Angles that are not usable, or not in the unit that the file says.
    """
    p = settle_angles(_entry(projections, options.entry), options)
    if options.tilt_axis not in (None, p.axis_along):
        p = p.transposed()
    rows, columns = _window(p, options)
    n_rows, n_columns = options.bins
    p = _kept(p, options)
    hint = p.axis_hint
    p = replace(
        p,
        rows=rows,
        columns=columns,
        bin_rows=n_rows,
        bin_columns=n_columns,
        pixel_mm=_scaled(options.pixel_mm, p.pixel_mm, n_columns),
        energy_kev=options.energy_kev or p.energy_kev,
        distance_mm=options.distance_mm or p.distance_mm,
        kind=options.kind or p.kind,
        axis_hint=None if hint is None else binned_position(hint - columns.start, n_columns),
        middle_row=binned_position((p.rows[0] + p.rows[-1]) / 2 - rows.start, n_rows),
    )
    check_angles(p)
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
    for what, pixels, n in zip(("rows", "columns"), (rows, columns), options.bins, strict=True):
        if len(pixels) < n:
            raise UsageError(
                f"Binning by {n} leaves nothing of {len(pixels)} {what}.",
                f"use --bin-{what} of at most {len(pixels)}.",
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


def binned_position(position: float, n: int) -> float:
    """Position of a point on the detector, in pixels, after binning by ``n``."""
    return (position - (n - 1) / 2) / n


def _scaled(given: float | None, found: float | None, binning: int) -> float | None:
    """Side of a binned pixel; sizes are given for pixels of the file."""
    size = given or found
    return None if size is None else size * binning
