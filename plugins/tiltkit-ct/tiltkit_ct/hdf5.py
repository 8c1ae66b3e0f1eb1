"""Texts, and numbers with units, that instruments write into HDF5 files beside images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from tiltkit.errors import InputError
from tiltkit.io.reading import open_hdf5
from tiltkit.io.units import unit_names, unit_size
from tiltkit.problem import Note

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = [
    "DEFAULT_UNIT", "angle_unit", "dataset", "metadata", "numbers", "open_scan", "quantity", "text",
]  # fmt: skip

# Code of the note that degrees were assumed.
DEFAULT_UNIT = "angle_unit_default"

# Larger arrays are data, not header.
_HEADER_SIZE = 16384


@contextmanager
def open_scan(path: Path) -> Iterator[h5py.File]:
    """Open a file read-only, with the compression filters that facilities use.

    Raises:
        InputError: It cannot be read.
    """
    import hdf5plugin  # noqa: F401  (registers bitshuffle, zstd, blosc and others)

    with open_hdf5(path) as file:
        yield file


def dataset(group: h5py.Group, *names: str) -> h5py.Dataset | None:
    """The first of some datasets that is there; broken links count as absent."""
    for name in names:
        try:
            item = group.get(name)
        except (KeyError, OSError):
            continue
        if isinstance(item, h5py.Dataset):
            return item
    return None


def text(value: Any) -> str:
    """A string, however it is stored: bytes, fixed or variable length, scalar or of length 1."""
    if isinstance(value, h5py.Dataset):
        value = value[()]
    items = np.asarray(value, dtype=object).reshape(-1)
    if not items.size:
        return ""
    item = items[0]
    found = item.decode(errors="replace") if isinstance(item, bytes) else str(item)
    return found.strip("\0 ")


def numbers(item: h5py.Dataset, path: Path) -> NDArray[np.float64]:
    """A small dataset as float64 (n,); scalars get length 1.

    Raises:
        InputError: It holds no numbers.
    """
    if item.dtype.kind not in "biuf" or item.shape is None:
        raise InputError(
            f"{item.name} of {path} has type {item.dtype}, but must hold numbers.",
            "export the scan again.",
        )
    return np.asarray(item[()], dtype=np.float64).reshape(-1)


def quantity(
    item: h5py.Dataset | None, table: dict[str, float], default: str, path: Path
) -> float | None:
    """One positive number in the table's own unit; None where it is absent, zero or NaN.

    Args:
        item: A scalar, or an array of which the first element counts.
        table: Table of `tiltkit.io.units`.
        default: Its unit where the file states none.
        path: The file, for messages.

    Raises:
        InputError: Its unit is not in the table.
    """
    if item is None or item.dtype.kind not in "biuf" or not item.size:
        return None
    value = float(numbers(item, path)[0])
    if not (np.isfinite(value) and value > 0):
        return None
    unit = text(item.attrs.get("units", "")) or default
    size = unit_size(unit, table)
    if size is None:
        raise InputError(
            f"{item.name} of {path} is in {unit!r}, which is none of: {unit_names(table)}.",
            "correct its attribute 'units' in a copy of the file.",
        )
    return value * size


def angle_unit(item: h5py.Dataset, notes: list[Note]) -> str:
    """Unit of angles as the file has it; degrees, with a note, where it states none."""
    unit = text(item.attrs.get("units", ""))
    if not unit:
        words = "The angles have no unit: degrees are assumed (--angle-unit)."
        notes.append(Note(DEFAULT_UNIT, words, assumed=True))
    return unit or "deg"


def metadata(group: h5py.Group, skip: Callable[[str], bool]) -> dict[str, Any]:
    """Texts, numbers and short arrays of a group as nested mappings, with their units.

    Args:
        group: Group to copy; links are not followed.
        skip: True for names of datasets to leave out.
    """
    found: dict[str, Any] = {}

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset) and not skip(name):
            *parents, last = name.split("/")
            place = found
            for parent in parents:
                place = place.setdefault(parent, {})
            place |= _plain(last, item)

    group.visititems(visit)
    return found


def _plain(name: str, item: h5py.Dataset) -> dict[str, Any]:
    if item.shape is None or item.size > _HEADER_SIZE or item.dtype.kind not in "biufcSO":
        return {}
    if item.dtype.kind in "SO":
        if not h5py.check_string_dtype(item.dtype) or item.size != 1:
            return {}
        return {name: text(item)}
    value = item[()]
    found = {name: value.item() if np.ndim(value) == 0 else value}
    unit = text(item.attrs.get("units", ""))
    return found | ({f"{name}_units": unit} if unit else {})
