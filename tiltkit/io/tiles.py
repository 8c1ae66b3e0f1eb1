"""Slices of a result that are written in parts: which are there, and the certificate of each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np

from tiltkit.io.diagnostics import RECORDS, plain_value, read_records

__all__ = ["Bounds", "any_tiles", "bounds_of", "read_tiles", "write_tile"]

# First and last plus one along every axis.
Bounds = tuple[tuple[int, int], ...]

_GROUP = "tiles"


def bounds_of(window: tuple[slice, ...]) -> Bounds:
    """The ends of a window, to tell windows apart."""
    return tuple((int(part.start), int(part.stop)) for part in window)


def write_tile(
    entry: h5py.Group, index: int, window: tuple[slice, ...], diagnostics: Mapping[str, Any]
) -> None:
    """Note that a part of a slice is written.

    Args:
        entry: The NXentry of a result file.
        index: Position of the slice in the result.
        window: Where in the image the part is.
        diagnostics: Its certificate.
    """
    group = entry.require_group(_GROUP)
    group.attrs["NX_class"] = "NXcollection"
    bounds = bounds_of(window)
    name = f"slice_{index}_" + "_".join(f"{a}_{b}" for a, b in bounds)
    if name in group:
        del group[name]
    text = json.dumps({key: plain_value(value) for key, value in diagnostics.items()})
    group.create_dataset(name, data=text, dtype=h5py.string_dtype())
    group[name].attrs["slice"] = index
    group[name].attrs["window"] = np.array(bounds)


def read_tiles(entry: h5py.Group, index: int) -> dict[Bounds, dict[str, Any]]:
    """Certificates of the parts of a slice that are written, by where they are."""
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
    """Whether any part of a slice is written."""
    return _GROUP in entry
