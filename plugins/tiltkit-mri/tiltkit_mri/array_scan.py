"""A scan from one array of k-space whose axes are known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiltkit.errors import InputError
from tiltkit.problem import Note
from tiltkit_mri.axes import Array, Axes
from tiltkit_mri.geometry import Grid
from tiltkit_mri.header import Header
from tiltkit_mri.kspace import KSpace
from tiltkit_mri.samples import check_samples, find_measured, usable_points
from tiltkit_mri.trajectories import positions_of, trajectory_scan

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["array_scan", "array_scan_of_positions", "image_shape"]

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
        return np.array(kspace, dtype=np.complex64, order="C")  # files may be read-only

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
        places=axes.image_places,
    )


def array_scan_of_positions(
    data: Array,
    positions: NDArray[Any],
    path: Path,
    layout: str,
    *,
    header: Header | None = None,
    names: Sequence[str] = (),
) -> KSpace:
    """The scan of an array of samples that are not on a Cartesian grid.

    Args:
        data: Samples: (slice, coil, row, column) or the last two or three of these axes, where rows
            and columns are the readouts and their samples, in any order; (slice, coil, sample) or
            (coil, sample) where positions are one list.
        positions: Position of each sample: real, with an axis of length 2 or 3 in the first or the
            last place.
        path: The file of the samples.
        layout: Name of the file layout, for people.
        header: Geometry; None where there is none.
        names: Names of the axes of ``data``; the above when empty.

    Raises:
        InputError: Samples and positions do not belong together, or no slice can be used.
    """
    # BART stores positions as complex numbers.
    values = positions.real if positions.shape[-1] in (2, 3) else np.moveaxis(positions.real, 0, -1)
    values = values.reshape([n for n in values.shape[:-1] if n > 1] + [values.shape[-1]])
    if values.ndim == 2:
        data, values = data[()][..., None, :], values[None]
    usual = ("slice", "coil", "row", "column")[-len(data.shape) :]
    axes = Axes(tuple(names or usual), data.shape)
    shape = axes.size("row"), axes.size("column")
    if values.shape[:-1] == shape[::-1]:
        values = values.swapaxes(0, 1)
    if values.shape[:-1] != shape or len(axes.names) != len(data.shape):
        raise InputError(
            f"The samples of {path} have shape {data.shape}, their positions"
            f" {positions.shape}: they do not belong together.",
            "give one position (x, y) for each sample of a coil, and samples"
            " (slice, coil, readout, sample), or name their axes with task.axes.",
        )
    places = positions_of([values.reshape(-1, values.shape[-1]).astype(np.float32)], path)

    def read(index: int) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
        samples = axes.read(data, index)
        return samples.reshape(len(samples), -1).astype(np.complex64), places

    count = math.prod(axes.images)
    return trajectory_scan(read, count, header or Header(), path, layout)
