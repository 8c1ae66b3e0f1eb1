"""Positions of the slices of a result in space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from tiltkit.io.reading import open_result, tree
from tiltkit.io.units import LENGTHS, unit_size

__all__ = ["Places", "read_places", "read_slice_names"]

_FIELDS = ("position", "read_dir", "phase_dir", "slice_dir", "voxel_mm")
# Parts of slice names that state a position; all others state which volume a slice belongs to.
_POSITIONS = ("slice", "partition")

# Directions with a smaller determinant, 1 for perpendicular unit vectors, span no volume.
_FLAT = 0.1

Vectors = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Places:
    """Positions of slices (row, column), or of volumes (plane, row, column).

    They are in mm in the coordinates of the patient (x to the left, y to the back, z to the head:
    LPS) where the scan has a geometry. Otherwise they are the coordinates of the result's axes, in
    mm where the axes have units of length.

    Attributes:
        first: Position of the first pixel of each slice (slice, 3).
        right: Step from one column to the next (slice, 3).
        down: Step from one row to the next (slice, 3).
        across: Step across the slice, by its thickness (slice, 3); from one plane to the next of a
            volume.
        volumes: Name of the volume that a slice belongs to (``"contrast 1"``), one per slice; empty
            texts where there is only one.
        numbers: Numbers of the slices in the scan.
        patient: Whether positions are those of the patient.
        unknown: What is not known in mm: ``"pixel size"``, ``"slice distance"``; it is 1 here.
    """

    first: Vectors
    right: Vectors
    down: Vectors
    across: Vectors
    volumes: tuple[str, ...]
    numbers: tuple[int, ...]
    patient: bool
    unknown: tuple[str, ...] = ()


def read_places(result: Path) -> Places:
    """Positions of the slices of a result.

    The geometry is that of the metadata group ``geometry``: ``position`` (centre of the slice: the
    pixel in row ``ny // 2`` and column ``nx // 2``), ``read_dir`` (from row to row), ``phase_dir``
    (from column to column), ``slice_dir`` and ``voxel_mm`` (row, column, slice), each (slice, 3).

    Raises:
        InputError: The result cannot be read.
    """
    with open_result(result) as file:
        data = file["entry/data"]
        names = [str(name) for name in data.attrs["axes"]]
        axes = [np.asarray(data[name][()], float) for name in names]
        units = [str(data[name].attrs.get("units", "")) for name in names]
        geometry = _geometry(file.get("entry/scan_header/geometry")) if len(axes) == 3 else {}
        numbers = _numbers(file)
        volumes, ranks = _volumes(_names(file, numbers))
    if len(next(iter(geometry.values()), ())) > max(numbers):
        chosen = {name: values[list(numbers)] for name, values in geometry.items()}
        return _patient(chosen, (len(axes[1]), len(axes[2])), volumes, tuple(numbers))
    return _axes(axes, units, volumes, ranks, tuple(numbers))


def read_slice_names(result: Path) -> list[str]:
    """Names of slices (``"slice 2, contrast 1"``); empty texts where they are only numbered.

    Raises:
        InputError: The result cannot be read.
    """
    with open_result(result) as file:
        return _names(file, _numbers(file))


def _numbers(file: h5py.File) -> list[int]:
    """Numbers of the result's slices in the scan."""
    count = len(file["entry/data/data"])
    chosen = file.get("entry/reconstruction/parameters/slices")
    numbers = [] if chosen is None else np.ravel(chosen[()]).tolist()
    return numbers if len(numbers) == count else list(range(count))


def _names(file: h5py.File, numbers: Sequence[int]) -> list[str]:
    stored = file.get("entry/scan_header/slice_names")
    texts = [] if stored is None else str(stored.asstr()[()]).split("; ")
    return [texts[i] if i < len(texts) else "" for i in numbers]


def _geometry(group: h5py.Group | None) -> dict[str, Vectors]:
    """Arrays (slice, 3) of a geometry; empty where the group has another content."""
    found = tree(group) if isinstance(group, h5py.Group) else {}
    try:
        arrays = {name: np.asarray(found[name], float) for name in _FIELDS}
    except (KeyError, TypeError, ValueError):
        return {}
    shapes = {array.shape for array in arrays.values()}
    finite = all(np.isfinite(array).all() for array in arrays.values())
    if not (len(shapes) == 1 and finite and next(iter(shapes))[1:] == (3,)):
        return {}
    turns = np.stack([arrays[name] for name in ("read_dir", "phase_dir", "slice_dir")], axis=1)
    spanned = np.abs(np.linalg.det(turns)) > _FLAT
    return arrays if spanned.all() and (arrays["voxel_mm"] > 0).all() else {}


def _volumes(names: Sequence[str]) -> tuple[tuple[str, ...], list[int]]:
    """Names of volumes, and for each slice the number of its position among those of all slices."""
    parts = [[part for part in name.split(", ") if part] for name in names]
    spatial = [", ".join(p for p in one if p.split(" ")[0] in _POSITIONS) for one in parts]
    volumes = tuple(", ".join(p for p in one if p.split(" ")[0] not in _POSITIONS) for one in parts)
    order = list(dict.fromkeys(spatial))
    return volumes, [order.index(one) for one in spatial] if any(volumes) else []


def _patient(
    geometry: dict[str, Vectors],
    shape: tuple[int, int],
    volumes: tuple[str, ...],
    numbers: tuple[int, ...],
) -> Places:
    voxel = geometry["voxel_mm"]
    down, right, across = (
        _unit(geometry[name]) * voxel[:, i : i + 1]
        for i, name in enumerate(("read_dir", "phase_dir", "slice_dir"))
    )
    first = geometry["position"] - shape[0] // 2 * down - shape[1] // 2 * right
    return Places(first, right, down, across, volumes, numbers, patient=True)


def _unit(vectors: Vectors) -> Vectors:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def _axes(
    axes: Sequence[Vectors],
    units: Sequence[str],
    volumes: tuple[str, ...],
    ranks: Sequence[int],
    numbers: tuple[int, ...],
) -> Places:
    """Positions along the axes of the result: x, y, z from columns, rows, planes or slices."""
    sizes = [unit_size(unit, LENGTHS) for unit in units]
    n = len(axes[0])
    # Images of one axis are single rows.
    in_plane, planes = list(range(1, len(axes)))[-2:][::-1], len(axes) > 3
    steps, starts = np.ones(3), np.zeros((n, 3))
    for x, axis in enumerate([*in_plane, len(axes) - 3] if planes else in_plane):
        size = sizes[axis] or 1.0
        starts[:, x] = axes[axis][0] * size
        steps[x] = size * (axes[axis][1] - axes[axis][0] if len(axes[axis]) > 1 else 1)
    if not planes:
        starts[:, 2] = ranks or axes[0] * (sizes[0] or 1.0)
        # Along slices the step is that between neighbours; one slice has no thickness.
        gaps = np.abs(np.diff(np.unique(starts[:, 2])))
        steps[2] = gaps.min() if len(gaps) else 1.0
    unknown = [] if all(sizes[axis] for axis in in_plane) else ["pixel size"]
    if not sizes[len(axes) - 3 if planes else 0] or (not planes and (n == 1 or ranks)):
        unknown.append("slice distance")
    right, down, across = (np.tile(row, (n, 1)) for row in np.diag(steps))
    if planes and n > 1:
        volumes = tuple(f"image {number}" for number in numbers)
    return Places(
        starts, right, down, across, volumes, numbers, patient=False, unknown=tuple(unknown)
    )
