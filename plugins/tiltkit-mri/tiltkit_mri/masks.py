"""Masks of measured points of k-space: whole columns or single points, and the complete centre."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tiltkit.problem import Note

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "MOST_LINES", "around", "complete_centre", "describe_masks", "middle_of", "seems_transposed",
    "whole_columns", "with_whole_columns", "written",
]  # fmt: skip

# A larger centre than this, in rows or columns, does not improve coil maps.
MOST_LINES = 32
# Largest share of zeros in a measured column: stored integers are sometimes zero in pure noise.
_ZEROS = 0.1
# Ratio of two strengths, next to each other in order, between which no measured value lies: noise
# is in all of them, rounding errors of single precision are 1e-7 of the signal.
_GAP = 1000.0


def written(strength: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Columns or points that are not rounding errors of zero.

    Measured ones differ by less than a factor of 1000 from the next stronger one, since noise is in
    all of them. Those below such a gap hold rounding errors, as of a Fourier transform and its
    inverse.

    Args:
        strength: Largest magnitude of each.
    """
    order = np.sort(strength[strength > 0])
    gaps = np.flatnonzero(order[1:] > _GAP * order[:-1])
    least = order[gaps[-1] + 1] if len(gaps) else 0.0
    return np.asarray((strength >= least) | (strength == 0))


def whole_columns(mask: NDArray[np.bool_]) -> bool:
    """True where every column of the mask (row, column) is measured as a whole or not at all."""
    return bool((mask.all(axis=0) == mask.any(axis=0)).all())


def with_whole_columns(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask (row, column) with few gaps in its columns filled, where whole columns are measured.

    Up to a tenth of each column may be zero by chance. Otherwise single points are left out, and
    the mask stays as it is.
    """
    used = mask.any(axis=0)
    complete = mask.any(axis=1).all() and mask[:, used].mean(axis=0).min(initial=1) >= 1 - _ZEROS
    return np.broadcast_to(used, mask.shape) if complete else mask


def seems_transposed(mask: NDArray[np.bool_]) -> bool:
    """True where whole rows are measured, with gaps between them, of columns without gaps."""
    rows, columns = (np.asarray(mask.any(axis=axis)) for axis in (1, 0))
    share = mask[rows][:, columns].mean(axis=0).min(initial=1)
    return _gaps(rows) and not _gaps(columns) and bool(share >= 1 - _ZEROS)


def complete_centre(mask: NDArray[np.bool_]) -> tuple[range, range]:
    """Rows and columns of the largest rectangle of measured points around the centre of k-space.

    A side counts as `MOST_LINES` at most. Both are empty where the centre is not measured.
    """
    row, column = (n // 2 for n in mask.shape)
    if not mask[row, column]:
        return range(0), range(0)
    # Measured points of every row next to its middle, to the left and to the right.
    reach = [_run(mask[:, column::-1]), _run(mask[:, column:])]
    # The same for all rows from the middle one up and down to each.
    up, down = ([np.minimum.accumulate(r[part]) for r in reach]
                for part in (slice(row, None, -1), slice(row, None)))  # fmt: skip
    left, right = (np.minimum.outer(a, b) for a, b in zip(up, down, strict=True))
    height = np.add.outer(np.arange(len(up[0])), np.arange(len(down[0]))) + 1
    width = np.where((left > 0) & (right > 0), left + right - 1, 0)
    sides = (np.minimum(side, MOST_LINES) for side in (height, width))
    area = np.prod(list(sides), axis=0) + (height * width) / (1 + mask.size)  # the larger of equals
    above, below = np.unravel_index(area.argmax(), area.shape)
    first, last = column - int(left[above, below]), column + int(right[above, below])
    return range(row - int(above), row + int(below) + 1), range(first + 1, last)


def around(run: range, middle: int, count: int) -> range:
    """At most ``count`` of a run, around the middle as far as possible."""
    count = min(count, len(run))
    first = min(max(middle - count // 2, run.start), run.stop - count)
    return range(first, first + count)


def middle_of(
    data: NDArray[np.complexfloating], columns: NDArray[np.bool_], most: int
) -> NDArray[Any]:
    """Middle of k-space (coil, row, column), as many samples at each side as are measured.

    Args:
        data: k-space (coil, row, column).
        columns: Measured columns, bool (column,).
        most: Samples at each side, at most.
    """
    row, column = (n // 2 for n in data.shape[1:])
    gaps = np.abs(np.flatnonzero(~columns) - column)
    height, width = min(most, row), min([most, column, *gaps.tolist()])
    return data[:, row - height : row + height, column - width : column + width]


def describe_masks(masks: Sequence[NDArray[np.bool_]]) -> tuple[Note, ...]:
    """Notes on the different masks (row, column) of a scan."""
    masks = [mask for mask in masks if mask.any()]
    notes = []
    if len(masks) > 1:
        what = "columns" if all(map(whole_columns, masks)) else "points"
        notes.append(Note("columns_differ", f"The measured {what} differ from slice to slice."))
    first = next((mask for mask in masks if not whole_columns(mask)), None)
    if first is None:
        return tuple(notes)
    rows = np.flatnonzero(first.any(axis=1))
    if first[rows][:, first.any(axis=0)].all():
        text = (
            f"Rows {rows[0]} to {rows[-1]} of {len(first)} are measured (partial echo or zero"
            " filling); the others are left out, not taken as zero."
        )
        notes.append(Note("rows_left_out", text))
    else:
        text = f"Single points are left out: {first.mean():.0%} of k-space is measured."
        notes.append(Note("points_left_out", text))
    return tuple(notes)


def _gaps(used: NDArray[np.bool_]) -> bool:
    """True where something between the first and the last one is not used."""
    places = np.flatnonzero(used)
    return bool(len(places) and not used[places[0] : places[-1]].all())


def _run(mask: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Number of measured points at the start of each row."""
    return np.asarray(np.logical_and.accumulate(mask, axis=1).sum(axis=1))
