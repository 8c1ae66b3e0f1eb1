"""Regions of a result: label images, boxes and disks.

A region is the positions of its pixels in the flattened result (slices, *image), in rising order: a
label image may have many regions, whose masks would not fit into memory.
"""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiltkit.errors import InputError
from tiltkit.io.images import read_contents
from tiltkit.io.nifti_masks import read_nifti_mask
from tiltkit.io.reading import result_shape

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Region = NDArray[np.intp]

__all__ = ["box", "disk", "labels"]

# More distinct values than this are those of an image, not of labels.
_MOST_LABELS = 1000


def labels(source: str, result: Path) -> dict[str, Region]:
    """Regions of a label image, which are named by its values; 0 is left out.

    Args:
        source: File of whole numbers or truth values: ``.nii`` or ``.nii.gz``, or ``.npy``,
            ``.tif`` or HDF5 in the order of the result's axes; ``FILE::DATASET`` for one of several
            arrays in a file.
        result: The result.

    Raises:
        InputError: The file cannot be read, has other pixels, holds other numbers, or no label.
        UsageError: A library that reads it is not installed.
    """
    name, _, dataset = source.partition("::")
    path, shape = Path(name), result_shape(result)
    if name.lower().endswith((".nii", ".nii.gz")):
        values = read_nifti_mask(path, result)
    else:
        values = read_contents([path], dataset).values
    if _core(values.shape) != _core(shape):
        raise InputError(
            f"The labels in {path} have shape {values.shape}, but the images {shape}.",
            "give one whole number for each pixel of the result.",
        )
    if not _whole(values):
        raise InputError(
            f"The labels in {path} are not whole numbers.", "save them as integers, 0 outside."
        )
    flat = values.reshape(-1)
    found = [int(value) for value in np.unique(flat) if value]
    if not found or len(found) > _MOST_LABELS:
        raise InputError(
            f"{path} has {len(found) or 'no'} labels: "
            + ("this seems to be an image." if found else "all of its values are 0."),
            f"give an image with 1 to {_MOST_LABELS} labels, 0 outside.",
        )
    order = np.argsort(flat, kind="stable")
    ends = np.searchsorted(flat, found, "left", order), np.searchsorted(flat, found, "right", order)
    return {f"label {value}": order[a:b] for value, a, b in zip(found, *ends, strict=True)}


def _whole(values: NDArray[Any]) -> bool:
    """Return whether all values are whole numbers."""
    if values.dtype.kind == "f":
        return bool(np.isfinite(values).all() and (values == np.rint(values)).all())
    return values.dtype.kind in "biu"


def box(shape: tuple[int, ...], rows: slice, columns: slice, plane: int | None) -> Region:
    """Pixels of a rectangle in one plane, or in all planes.

    Args:
        shape: Shape (slices, *image) of the result.
        rows: First row and the one after the last.
        columns: First column and the one after the last.
        plane: Plane, counted from 0 over all slices; all of them when None.

    Raises:
        InputError: The rectangle or the plane is not inside the image.
    """
    height, width = _plane_shape(shape)
    for name, part, length in (("rows", rows, height), ("columns", columns, width)):
        if not 0 <= part.start < part.stop <= length:
            raise InputError(
                f"The box has {name} {part.start}:{part.stop}, but the image has {length}.",
                f"give two {name} from 0 to {length}, the smaller one first.",
            )
    mask = np.zeros(shape, bool)
    mask.reshape(-1, height, width)[_planes(shape, plane), rows, columns] = True
    return np.flatnonzero(mask)


def disk(
    shape: tuple[int, ...], row: float, column: float, radius: float, plane: int | None
) -> Region:
    """Pixels whose centres lie within a radius, in one plane or in all planes.

    Args:
        shape: Shape (slices, *image) of the result.
        row: Row of the centre in pixels.
        column: Column of the centre in pixels.
        radius: Radius in pixels.
        plane: Plane, counted from 0 over all slices; all of them when None.

    Raises:
        InputError: The disk is not wholly inside the image, or there is no such plane.
    """
    height, width = _plane_shape(shape)
    inside = all(
        radius <= centre + 0.5 and centre + radius <= length - 0.5
        for centre, length in ((row, height), (column, width))
    )
    if radius < 0 or not inside:
        raise InputError(
            f"The disk at {row:g},{column:g} with radius {radius:g} is not inside the image of"
            f" {height} x {width} pixels.",
            "give row, column and radius in pixels.",
        )
    y, x = np.ogrid[:height, :width]
    mask = np.zeros(shape, bool)
    flat = mask.reshape(-1, height, width)
    flat[_planes(shape, plane)] = (y - row) ** 2 + (x - column) ** 2 <= radius**2
    return np.flatnonzero(mask)


def _plane_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of the planes of a result."""
    if len(shape) < 3:
        raise InputError(
            "The images of this result have no rows and columns.",
            "give a label image with --regions.",
        )
    return shape[-2], shape[-1]


def _planes(shape: tuple[int, ...], plane: int | None) -> slice:
    """Index of one plane among all planes of a result, or of all of them."""
    count = prod(shape[:-2])
    if plane is None:
        return slice(None)
    if not 0 <= plane < count:
        raise InputError(f"There is no plane {plane}; there are {count}.", "count planes from 0.")
    return slice(plane, plane + 1)


def _core(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape without leading axes of length 1."""
    first = next((k for k, length in enumerate(shape) if length > 1), len(shape))
    return shape[first:]
