"""Selection of the samples of a slice that were measured and can be used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiltkit.errors import InputError
from tiltkit.problem import Note
from tiltkit_mri.masks import (
    describe_masks,
    seems_transposed,
    whole_columns,
    with_whole_columns,
    written,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Measured", "check_samples", "find_measured", "usable_points"]

# Squares of values in this range, and of the noise below them, fit single precision.
_SMALLEST, _LARGEST = 1e-14, 1e14
# Marked columns without data at one side are more than zero filling from this share of all on.
_ONE_SIDE = 0.1


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of every slice of a scan.

    Attributes:
        columns: Columns with measured points, bool (slice, column); none of a slice that is
            refused.
        points: Measured points of each slice, bool (row, column); None where whole columns are
            measured in all slices.
        unusable: Slices that are refused, and why.
        notes: Unusual features, as sentences.
    """

    columns: NDArray[np.bool_]
    points: tuple[NDArray[np.bool_], ...] | None
    unusable: Mapping[int, str]
    notes: tuple[Note, ...]


def usable_points(
    data: NDArray[Any], limits: NDArray[np.bool_], mask: NDArray[np.bool_] | None
) -> NDArray[np.bool_]:
    """Points (row, column) of a slice that count as measured where they have data.

    They are those of the mask. A mask that marks empty columns between columns with data, and does
    not mark others that have data, belongs to other data; it is not used.

    Args:
        data: k-space (coil, row, column).
        limits: Columns (column,) within the limits that the header states.
        mask: Columns (column,), or points (row, column), that the file's mask marks; None where
            there is none.
    """
    shape = data.shape[1:]
    if mask is None:
        return np.broadcast_to(limits, shape)
    empty, unmarked = _contradictions(_filled(data, mask.ndim), limits, mask)
    return np.broadcast_to(limits if empty and unmarked else limits & mask, shape)


def _filled(data: NDArray[Any], ndim: int) -> NDArray[np.bool_]:
    """Columns with data where ``ndim`` is 1, points with data (row, column) where it is 2."""
    points = (data != 0).any(axis=0)
    return np.asarray(points if ndim == 2 else points.any(axis=0))


def _contradictions(
    filled: NDArray[np.bool_], limits: NDArray[np.bool_], mask: NDArray[np.bool_]
) -> tuple[int, int]:
    """Marked columns without data between columns with data, and unmarked columns with data.

    The same of points, anywhere, where the mask is one of points.
    """
    empty = mask & limits & ~filled
    place = np.flatnonzero(filled & limits)
    if not len(place):
        return 0, 0
    if mask.ndim == 1:
        empty = empty[place[0] : place[-1] + 1]
    return int(empty.sum()), int((filled & limits & ~mask).sum())


def find_measured(
    read: Callable[[int], NDArray[Any]],
    n_slices: int,
    limits: NDArray[np.bool_],
    mask: NDArray[np.bool_] | None = None,
) -> Measured:
    """Points with data of every slice, and what is unusual about them.

    Args:
        read: Reads a slice (coil, row, column), or refuses it.
        n_slices: Number of slices.
        limits: Columns (column,) that may have data.
        mask: Columns (column,), or points (row, column), that the file's mask marks as measured;
            None where there is none.

    Raises:
        InputError: All slices are refused; the error is that of the first.
    """
    masks: dict[bytes, NDArray[np.bool_]] = {}  # most slices share theirs
    points: list[NDArray[np.bool_]] = []
    filled = np.zeros_like(limits if mask is None else mask)
    faults: dict[int, InputError] = {}
    rounding, empty_coils = 0, 0
    for index in range(n_slices):
        try:
            data = np.abs(read(index))
        except InputError as fault:
            faults[index] = fault
            points.append(np.zeros((), dtype=np.bool_))
            continue
        found, errors = _measured_points(data, usable_points(data, limits, mask))
        points.append(masks.setdefault(found.tobytes(), found))
        filled |= _filled(data, filled.ndim)
        rounding = max(rounding, errors)
        empty_coils = max(empty_coils, int((data == 0).all(axis=(1, 2)).sum()))
    if len(faults) == n_slices:
        raise faults[0]
    shape = next(iter(masks.values())).shape
    points = [np.broadcast_to(found, shape) for found in points]
    notes = describe_masks(list(masks.values())) + _notes_on_rounding(rounding)
    notes += _notes_on_coils(empty_coils)
    if mask is not None:
        notes += _notes_on_mask(filled, limits, mask)
    return Measured(
        columns=np.stack([found.any(axis=0) for found in points]),
        points=None if all(map(whole_columns, masks.values())) else tuple(points),
        unusable={index: fault.message for index, fault in faults.items()},
        notes=notes,
    )


def _measured_points(
    magnitude: NDArray[np.floating[Any]], usable: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], int]:
    """Points (row, column) with data, and the number of columns with rounding errors.

    Args:
        magnitude: Of k-space (coil, row, column).
        usable: Points (row, column) that count as measured where they have data.
    """
    strength = magnitude.max(axis=0)
    columns = written(strength.max(axis=0))
    found = usable & (strength > 0) & columns & written(strength)
    return with_whole_columns(found), int((~columns).sum())


def _notes_on_mask(
    filled: NDArray[np.bool_], limits: NDArray[np.bool_], mask: NDArray[np.bool_]
) -> tuple[Note, ...]:
    """Notes where the mask and the columns, or points, with data differ.

    A mask that marks fewer columns than have data chooses among them; that is no fault.
    """
    unit = "columns" if mask.ndim == 1 else "points"
    empty, unmarked = _contradictions(filled, limits, mask)
    if empty and unmarked:
        shifts = [
            k for k in sorted(range(-10, 11), key=abs)
            if (np.roll(mask, k, axis=-1) == filled).all()
        ]  # fmt: skip
        cause = f"it fits when it is moved by {shifts[0]}" if shifts else "it is of another scan"
        text = (
            f"The mask does not fit k-space ({cause}): {empty} {unit} that it marks are empty, and"
            f" {unmarked} {unit} with data are not marked. The mask is ignored, and all {unit}"
            " with data count as measured. Correct the dataset 'mask', or leave it out."
        )
        return (Note("mask_ignored", text, assumed=True),)
    if missing := empty or _missing_at_one_side(filled, limits & mask):
        text = (
            f"{missing} {unit} are empty, though the mask marks them as measured. They count as"
            " not measured: check that the scan was saved completely."
        )
        return (Note("columns_empty", text, assumed=True),)
    if unmarked:
        text = f"{unmarked} {unit} with data are not used: the mask does not mark them."
        return (Note("columns_unmarked", text),)
    return ()


def _missing_at_one_side(filled: NDArray[np.bool_], marked: NDArray[np.bool_]) -> int:
    """Marked columns beyond the data at one side, where they are more than zero filling.

    Zero filling is nearly the same at both sides.
    """
    place = np.flatnonzero(filled)
    if filled.ndim > 1 or not len(place):
        return 0
    before, after = int(marked[: place[0]].sum()), int(marked[place[-1] + 1 :].sum())
    return max(before, after) if abs(before - after) > _ONE_SIDE * marked.sum() else 0


def _notes_on_rounding(count: int) -> tuple[Note, ...]:
    text = (
        f"{count} columns of k-space are taken as not measured: their values are less than a"
        " 1000th of those of all others, as rounding errors of zero are."
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
    axes_known: bool = False,
) -> None:
    """Refuse a slice that cannot be used.

    Args:
        data: k-space (coil, row, column).
        allowed: Points (row, column) that may be measured.
        path: The file, for messages.
        index: Slice number, for messages.
        axes_known: Rows are the readout for sure; otherwise rows that are left out mean that they
            are not.

    Raises:
        InputError: Values are not finite, too large or too small, all zero, or the phase encoding
            runs along the rows.
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
    mask = allowed & (data != 0).any(axis=0)
    if not mask.any():
        raise InputError(
            f"The k-space of {path} is zero in slice {index} wherever its mask or its header's"
            " encoding limits mark it as measured.",
            "check that mask, header and k-space belong together.",
        )
    if mask.sum() < min(mask.shape):
        raise InputError(
            f"Slice {index} of {path} has data at {mask.sum()} of {mask.size} points of k-space.",
            "check that the scan was saved completely.",
        )
    if not axes_known and seems_transposed(mask):
        empty = int((~mask.any(axis=1)).sum())
        raise InputError(
            f"Slice {index} of {path} has {empty} empty rows among its {len(mask)}: the phase"
            " encoding seems to run along the rows.",
            "swap the last two axes of 'kspace': rows are the readout, complete; columns are the"
            " phase encoding.",
        )
