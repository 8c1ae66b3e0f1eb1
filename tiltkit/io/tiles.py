"""Tiles of unfinished slices in a result file: which are written, and their certificates."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np

from tiltkit.io.diagnostics import RECORDS, plain_value, read_records

__all__ = ["Bounds", "any_tiles", "window_bounds", "read_tiles", "write_tile"]

# First and last plus one along every axis.
Bounds = tuple[tuple[int, int], ...]

_GROUP = "tiles"


def window_bounds(window: tuple[slice, ...]) -> Bounds:
    """Return first index and end of a window along every axis, as a hashable key."""
    return tuple((int(part.start), int(part.stop)) for part in window)


def write_tile(
    entry: h5py.Group, index: int, window: tuple[slice, ...], diagnostics: Mapping[str, Any]
) -> None:
    """Mark a tile of a slice as written.

    Args:
        entry: The NXentry of a result file.
        index: Position of the slice in the result.
        window: Position of the tile in the image.
        diagnostics: Certificate of the tile.
    """
    group = entry.require_group(_GROUP)
    group.attrs["NX_class"] = "NXcollection"
    bounds = window_bounds(window)
    name = f"slice_{index}_" + "_".join(f"{a}_{b}" for a, b in bounds)
    if name in group:
        del group[name]
    text = json.dumps({key: plain_value(value) for key, value in diagnostics.items()})
    group.create_dataset(name, data=text, dtype=h5py.string_dtype())
    group[name].attrs["slice"] = index
    group[name].attrs["window"] = np.array(bounds)


def read_tiles(entry: h5py.Group, index: int) -> dict[Bounds, dict[str, Any]]:
    """Read the certificates of the written tiles of a slice, by position."""
    found: dict[Bounds, dict[str, Any]] = {}
    for dataset in entry.get(_GROUP, {}).values():
        if dataset.attrs["slice"] == index:
            bounds = tuple((int(a), int(b)) for a, b in dataset.attrs["window"])
            report = json.loads(dataset[()])
            stored = RECORDS.keys() & report.keys()
            records = {name: read_records(name, report[name]) for name in stored}
            found[bounds] = report | records
    return found


def any_tiles(entry: h5py.Group) -> bool:
    """Return whether any tile is written."""
    return _GROUP in entry
