"""Masks in NIfTI files, on the pixels of a result."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiltkit.errors import InputError
from tiltkit.io.grid import Grid, make_grid
from tiltkit.io.images import read_nifti
from tiltkit.io.nifti import nifti_affine
from tiltkit.io.places import read_places
from tiltkit.io.reading import result_shape

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

__all__ = ["read_nifti_mask"]

# Corners of the mask may be off those of the result by so much of a voxel.
_TOLERANCE = 0.1


def read_nifti_mask(path: Path, result: Path) -> Array:
    """Values of a NIfTI file (slices, *image) on the pixels of a result.

    The voxels of the file and those that `write_nifti` gives the result must be the same: axes may
    be in another order or direction. Where the file or the result has no coordinates of the
    scanner, equal shapes are enough. A file of one volume holds for all volumes of the result.

    Args:
        path: The file.
        result: The result.

    Raises:
        InputError: A file cannot be read, or the voxels are others.
        UsageError: nibabel is not installed.
    """
    values, image = read_nifti(path)
    coded = _has_coordinates(image)
    values = values.reshape(*values.shape, *[1] * (3 - values.ndim))
    places = read_places(result)
    grid = make_grid(places, result)
    step = np.linalg.inv(nifti_affine(grid, places)) @ image.affine
    found = _turned(values, step, grid.shape[:3]) if coded else None
    if found is None and not (coded and places.patient) and values.shape[:3] == grid.shape[:3]:
        found = values
    if found is None or found.shape[3:] not in ((), (1,), grid.shape[3:]):
        same = values.shape[:3] == grid.shape[:3]
        raise InputError(
            f"{path} has voxels {_sizes(values.shape)}, which are not those of {result},"
            f" {_sizes(grid.shape)}{', but at other positions' if same else ''}.",
            "draw the mask on a file of 'tiltkit export RESULT --as nifti', or resample it to one.",
        )
    return _slices(found, grid, result_shape(result))


def _has_coordinates(image: Any) -> bool:
    """Return whether a file states where its voxels are."""
    return int(image.header["sform_code"]) > 0 or int(image.header["qform_code"]) > 0


def _turned(values: Array, step: NDArray[np.float64], shape: tuple[int, ...]) -> Array | None:
    """Values with axes in the order and direction of a grid; None where the voxels are others.

    Args:
        values: Values (i, j, k) or (i, j, k, volume).
        step: Matrix (4, 4) from (i, j, k) to indices on the grid.
        shape: Shape of the grid.
    """
    order = np.abs(step[:3, :3]).argmax(axis=0).tolist()  # axis of the grid for each of the file
    if sorted(order) != [0, 1, 2] or [shape[axis] for axis in order] != list(values.shape[:3]):
        return None
    backwards = [step[axis, own] < 0 for own, axis in enumerate(order)]
    for corner in product(*((0, n - 1) for n in values.shape[:3])):
        expected = np.empty(3)
        for own, axis in enumerate(order):
            expected[axis] = shape[axis] - 1 - corner[own] if backwards[own] else corner[own]
        if np.abs((step @ [*corner, 1])[:3] - expected).max() > _TOLERANCE:
            return None
    flipped: Array = np.flip(values, tuple(own for own in range(3) if backwards[own]))
    return flipped.transpose([*np.argsort(order), *range(3, values.ndim)])


def _slices(values: Array, grid: Grid, shape: tuple[int, ...]) -> Array:
    """Images (slices, *image) from volumes on a grid; the inverse of `Grid.slices`."""
    whole = np.broadcast_to(values.reshape((*grid.shape[:3], -1)), grid.shape)
    if len(shape) > 3:
        return whole.T.reshape(shape)
    return whole[:, :, grid.plane, grid.volume].T.reshape(shape)


def _sizes(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape if shape[3:] != (1,) else shape[:3]))
