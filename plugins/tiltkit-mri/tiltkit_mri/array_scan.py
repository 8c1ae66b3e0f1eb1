"""A scan from one array of k-space whose axes are known."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tiltkit.errors import InputError
from tiltkit.problem import Note
from tiltkit_mri.axes import Array, Axes
from tiltkit_mri.geometry import Grid
from tiltkit_mri.kspace import KSpace
from tiltkit_mri.samples import check_samples, find_measured, usable_points

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["array_scan", "image_shape"]

# Rows and columns that a k-space has at least; fewer mean axes in another order.
_LEAST = 6


def image_shape(axes: Axes, path: Path, hint: str) -> tuple[int, int]:
    """Rows and columns of the images.

    Raises:
        InputError: There are too few, with the hint.
    """
    rows, columns = axes.size("row"), axes.size("column")
    if min(rows, columns) < _LEAST:
        raise InputError(
            f"The k-space of {path} has shape {axes.shape}, so {rows} rows and {columns} columns;"
            f" each must be at least {_LEAST}.",
            hint,
        )
    return rows, columns


def array_scan(
    data: Array,
    axes: Axes,
    path: Path,
    layout: str,
    *,
    image: Grid,
    limits: NDArray[np.bool_] | None = None,
    mask: NDArray[np.bool_] | None = None,
    notes: tuple[Note, ...] = (),
) -> KSpace:
    """The scan, with every slice checked.

    Args:
        data: The array.
        axes: Its axes.
        path: The file.
        layout: Name of the file layout, for people.
        image: Pixels of the image.
        limits: Columns (column,) that may have data; all when None.
        mask: Columns (column,), or points (row, column), that the file's mask marks as measured;
            None where there is none.
        notes: Notes on the file, before those on its samples.

    Raises:
        InputError: No slice can be used.
    """
    shape, count = (axes.size("row"), axes.size("column")), math.prod(axes.images)
    within = np.ones(shape[1], dtype=np.bool_) if limits is None else limits

    def read(index: int) -> NDArray[np.complex64]:
        kspace = axes.read(data, index)
        check_samples(kspace, usable_points(kspace, within, mask), path, index)
        return np.ascontiguousarray(kspace, dtype=np.complex64)

    measured = find_measured(read, count, within, mask)
    return KSpace(
        path=path,
        n_slices=count,
        n_coils=axes.size("coil"),
        shape=shape,
        columns=measured.columns,
        image=image,
        read=read,
        layout=layout,
        notes=notes + measured.notes,
        unusable=measured.unusable,
        points=None if measured.points is None else measured.points.__getitem__,
        slice_names=axes.image_names,
    )
