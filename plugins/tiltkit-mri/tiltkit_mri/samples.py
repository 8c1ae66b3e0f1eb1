"""Selection of the samples of a slice that were measured and can be used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiltkit.errors import InputError
from tiltkit.problem import Note

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Measured", "check_samples", "measured_columns", "usable_columns"]

# Squares of values in this range, and of the noise below them, fit single precision.
_SMALLEST, _LARGEST = 1e-14, 1e14
# Largest share of zeros in a measured column: stored integers are sometimes zero in pure noise.
_ZEROS = 0.1
# Ratio of the strengths of two columns, next to each other in order, between which no measured
# column lies: noise is in all of them, rounding errors of single precision are 1e-7 of the signal.
_GAP = 1000.0


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of every slice of a scan.

    Attributes:
        columns: Measured columns, bool (slice, column); none of a slice that is refused.
        unusable: Slices that are refused, and why.
        notes: Unusual features, as sentences.
    """

    columns: NDArray[np.bool_]
    unusable: Mapping[int, str]
    notes: tuple[Note, ...]


def usable_columns(
    data: NDArray[Any], limits: NDArray[np.bool_], mask: NDArray[np.bool_] | None
) -> NDArray[np.bool_]:
    """Columns (column,) of a slice that count as measured where they have data.

    They are those of the mask. A mask that marks empty columns between columns with data, and does
    not mark others that have data, belongs to other data; it is not used.

    Args:
        data: k-space (coil, row, column).
        limits: Columns (column,) within the limits that the header states.
        mask: Columns (column,) that the file's mask marks; None where there is none.
    """
    if mask is None:
        return limits
    filled = (data != 0).any(axis=(0, 1))
    empty, unmarked = _contradictions(filled, limits, mask)
    return limits if empty and unmarked else limits & mask


def _contradictions(
    filled: NDArray[np.bool_], limits: NDArray[np.bool_], mask: NDArray[np.bool_]
) -> tuple[int, int]:
    """Marked columns without data between columns with data, and unmarked columns with data."""
    place = np.flatnonzero(filled & limits)
    if not len(place):
        return 0, 0
    inside = slice(place[0], place[-1] + 1)
    empty = (mask & limits & ~filled)[inside]
    return int(empty.sum()), int((filled & limits & ~mask).sum())


def measured_columns(
    read: Callable[[int], NDArray[Any]],
    n_slices: int,
    limits: NDArray[np.bool_],
    mask: NDArray[np.bool_] | None = None,
) -> Measured:
    """Columns with data of every slice, and what is unusual about them.

    Args:
        read: Reads a slice, or refuses it.
        n_slices: Number of slices.
        limits: Columns (column,) that may have data.
        mask: Columns (column,) that the file's mask marks as measured; None where there is none.

    Raises:
        InputError: All slices are refused; the error is that of the first.
    """
    columns = np.zeros((n_slices, len(limits)), dtype=np.bool_)
    filled = np.zeros_like(columns)
    faults: dict[int, InputError] = {}
    rounding, empty_coils = 0, 0
    for index in range(n_slices):
        try:
            data = np.abs(read(index))
        except InputError as fault:
            faults[index] = fault
            continue
        written = _written(data.max(axis=(0, 1)))
        filled[index] = (data != 0).any(axis=(0, 1)) & written
        columns[index] = usable_columns(data, limits, mask) & filled[index]
        rounding = max(rounding, int((~written).sum()))
        empty_coils = max(empty_coils, int((data == 0).all(axis=(1, 2)).sum()))
    if len(faults) == n_slices:
        raise faults[0]
    notes = (*_notes_on(columns), *_notes_on_rounding(rounding), *_notes_on_coils(empty_coils))
    if mask is not None:
        notes += _notes_on_mask(np.asarray(filled.any(axis=0)), limits, mask)
    return Measured(columns, {index: fault.message for index, fault in faults.items()}, notes)


def _written(strength: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Columns that are not rounding errors of zero.

    Measured columns differ by less than `_GAP` from the next stronger one, since noise is in all of
    them. Columns below such a gap hold rounding errors, as of a Fourier transform and its inverse.

    Args:
        strength: Largest magnitude of each column.
    """
    order = np.sort(strength[strength > 0])
    gaps = np.flatnonzero(order[1:] > _GAP * order[:-1])
    least = order[gaps[-1] + 1] if len(gaps) else 0.0
    return np.asarray((strength >= least) | (strength == 0))


def _notes_on(columns: NDArray[np.bool_]) -> tuple[Note, ...]:
    """Notes on the measured columns (slice, column) of a scan."""
    differ = len({used.tobytes() for used in columns if used.any()}) > 1
    text = "The measured columns differ from slice to slice."
    return (Note("columns_differ", text),) if differ else ()


def _notes_on_mask(
    filled: NDArray[np.bool_], limits: NDArray[np.bool_], mask: NDArray[np.bool_]
) -> tuple[Note, ...]:
    """Notes where the mask and the columns with data (column,) differ.

    A mask that marks fewer columns than have data chooses among them; that is no fault.
    """
    empty, unmarked = _contradictions(filled, limits, mask)
    if empty and unmarked:
        shifts = [k for k in sorted(range(-10, 11), key=abs) if (np.roll(mask, k) == filled).all()]
        cause = f"it fits when it is moved by {shifts[0]}" if shifts else "it is of another scan"
        text = (
            f"The mask does not fit k-space ({cause}): {empty} columns that it marks are empty, and"
            f" {unmarked} columns with data are not marked. The mask is ignored, and all columns"
            " with data count as measured. Correct the dataset 'mask', or leave it out."
        )
        return (Note("mask_ignored", text, assumed=True),)
    if missing := empty or _missing_at_one_side(filled, limits & mask):
        text = (
            f"{missing} columns are empty, though the mask marks them as measured. They count as"
            " not measured: check that the scan was saved completely."
        )
        return (Note("columns_empty", text, assumed=True),)
    if unmarked:
        text = f"{unmarked} columns with data are not used: the mask does not mark them."
        return (Note("columns_unmarked", text),)
    return ()


def _missing_at_one_side(filled: NDArray[np.bool_], marked: NDArray[np.bool_]) -> int:
    """Marked columns beyond the data at one side, where they are more than zero filling.

    Zero filling is nearly the same at both sides.
    """
    place = np.flatnonzero(filled)
    if not len(place):
        return 0
    before, after = int(marked[: place[0]].sum()), int(marked[place[-1] + 1 :].sum())
    return max(before, after) if abs(before - after) > _ZEROS * marked.sum() else 0


def _notes_on_rounding(count: int) -> tuple[Note, ...]:
    text = (
        f"{count} columns of k-space are taken as not measured: their values are less than a"
        f" {_GAP:g}th of those of all others, as rounding errors of zero are."
    )
    return (Note("columns_of_rounding", text, assumed=True),) if count else ()


def _notes_on_coils(count: int) -> tuple[Note, ...]:
    text = (
        f"Coils without any data are left out, up to {count} of a slice: check that the scan was"
        " saved completely."
    )
    return (Note("coils_empty", text, assumed=True),) if count else ()


def check_samples(
    data: NDArray[Any],
    allowed: NDArray[np.bool_],
    path: Path,
    index: int,
    *,
    whole_columns: bool = True,
) -> None:
    """Refuse a slice that cannot be used.

    Args:
        data: k-space (coil, row, column).
        allowed: Columns (column,) that may be measured.
        path: The file, for messages.
        index: Slice number, for messages.
        whole_columns: Measured columns must have no gaps; otherwise single points may be left out.

    Raises:
        InputError: Values are not finite, too large or too small, all zero, or zero where a
            measured column has no data, which would count as a measurement of zero.
    """
    bad = data.size - int(np.isfinite(data).sum())
    if bad:
        raise InputError(
            f"The k-space of {path} has {bad} NaN or infinite values in slice {index}.",
            "export the scan again; setting them to zero would hide a fault.",
        )
    largest = max(float(np.abs(data.real).max()), float(np.abs(data.imag).max()))
    if largest == 0:
        raise InputError(
            f"The k-space of {path} is zero everywhere in slice {index}.",
            "check that the scan was saved completely.",
        )
    if not _SMALLEST <= largest <= _LARGEST:
        raise InputError(
            f"The largest value of the k-space of {path} in slice {index} is {largest:.3g}, but"
            f" must lie between {_SMALLEST:g} and {_LARGEST:g}.",
            "multiply all slices with the same power of ten.",
        )
    empty = (data == 0).all(axis=0)
    columns = allowed & ~empty.all(axis=0)
    if not columns.any():
        raise InputError(
            f"The k-space of {path} is zero in slice {index} in all columns that its mask or its"
            " header's encoding limits mark as measured.",
            "check that mask, header and k-space belong together.",
        )
    if whole_columns:
        _check_complete(empty[:, columns], f"Slice {index} of {path}")


def _check_complete(empty: NDArray[np.bool_], what: str) -> None:
    """Refuse measured columns with gaps; ``empty`` (row, column) is where all coils are zero."""
    rows = np.asarray(empty.all(axis=1))
    first, last = np.flatnonzero(~rows)[[0, -1]]
    if rows[first : last + 1].any():
        raise InputError(
            f"{what} has {rows.sum()} empty rows among its {len(rows)}: the phase encoding seems"
            " to run along the rows.",
            "swap the last two axes of 'kspace': rows are the readout, complete; columns are the"
            " phase encoding.",
        )
    if rows.any():
        raise InputError(
            f"{what} has data in rows {first} to {last} only, of {len(rows)}: a partial echo or"
            " zero filling, which is not supported.",
            f"keep only rows with data, as many before the centre (row {len(rows) // 2}) as after.",
        )
    worst = float(empty.mean(axis=0).max())
    if worst > _ZEROS:
        raise InputError(
            f"{what} has columns of which up to {worst:.0%} is zero in all coils: single points"
            " seem to be left out.",
            "use a scan whose columns are measured as a whole or not at all.",
        )
