"""Datasets of one to any number of axes as frames (frame, row, column)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tiltkit.errors import UsageError

if TYPE_CHECKING:
    import h5py
    from numpy.typing import NDArray

__all__ = ["DatasetView", "frames_view", "parse_name", "references_view"]

_INDEX = re.compile(r"(?P<name>.*?)(\[(?P<index>\d+)\]|\[(?P<first>\d*):(?P<last>\d*)\])?")


@dataclass(frozen=True)
class DatasetView:
    """A dataset seen as frames (frame, row, column), read like an HDF5 dataset, by slices.

    Attributes:
        item: The dataset.
        axes: Its axes for frame, row and column; None for one that it does not have.
        fixed: Position along each of its other axes.
        first: Position of the first frame.
        count: Number of frames.
    """

    item: h5py.Dataset
    axes: tuple[int | None, int | None, int]
    fixed: dict[int, int]
    first: int
    count: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Numbers of frames, rows and columns."""
        _, rows, columns = (1 if axis is None else self.item.shape[axis] for axis in self.axes)
        return self.count, rows, columns

    @property
    def chunks(self) -> tuple[int, int, int] | None:
        """Shape of the chunks; None where the dataset has none."""
        if self.item.chunks is None:
            return None
        frames, rows, columns = (
            1 if axis is None else self.item.chunks[axis] for axis in self.axes
        )
        return frames, rows, columns

    @property
    def dtype(self) -> Any:
        """Type of the values."""
        return self.item.dtype

    @property
    def name(self) -> str:
        """Path of the dataset in its file."""
        return str(self.item.name)

    @property
    def axis_names(self) -> Any:
        """Attribute with the names of the axes; None where there is none or axes are left out."""
        return self.item.attrs.get("axes") if self.item.ndim == len(self.shape) else None

    def __getitem__(self, index: tuple[slice, slice, slice]) -> NDArray[Any]:
        """Values (frame, row, column) of slices with positive steps."""
        where: list[Any] = [slice(self.fixed.get(i, 0), self.fixed.get(i, 0) + 1)
                            for i in range(self.item.ndim)]  # fmt: skip
        shape = []
        for axis, part, n in zip(self.axes, index, self.shape, strict=True):
            start, stop, step = part.indices(n)
            shape.append(len(range(start, stop, step)))
            if axis is not None:
                begin = self.first if axis == self.axes[0] else 0
                where[axis] = slice(start + begin, stop + begin, step)
        values = np.asarray(self.item[tuple(where)])
        kept = [axis for axis in self.axes if axis is not None]
        others = [axis for axis in range(values.ndim) if axis not in kept]
        return values.transpose(*kept, *others).reshape(shape)


def parse_name(text: str) -> tuple[str, int | slice | None]:
    """Path of a dataset, and its index: ``exchange/data``, ``data[1]``, ``data[5:15]``."""
    found = _INDEX.fullmatch(text)
    if found is None:
        return text, None
    if found["index"]:
        return found["name"], int(found["index"])
    if found["first"] is None:
        return found["name"], None
    first, last = found["first"], found["last"]
    return found["name"], slice(int(first or 0), int(last) if last else None)


def frames_view(item: h5py.Dataset, index: int | slice | None = None) -> DatasetView | None:
    """Projections: two axes are (angle, column), and axes of length 1 beyond three are left out.

    Args:
        item: The dataset.
        index: Position along its first axis, or part of its frames.

    Returns:
        None where the dataset has fewer than two axes, or more than three longer than 1.

    Raises:
        UsageError: The index is not in the dataset.
    """
    axes, fixed, frames = _axes(item, index)
    while len(axes) > 3:
        single = [axis for axis in axes if item.shape[axis] == 1]
        if not single:
            return None
        axes.remove(single[0])
    if len(axes) < 2:
        return None
    part = frames if axes[0] == 0 else range(item.shape[axes[0]])
    row = axes[1] if len(axes) == 3 else None
    return DatasetView(item, (axes[0], row, axes[-1]), fixed, part.start, len(part))


def references_view(
    item: h5py.Dataset, shape: tuple[int, int], index: int | slice | None = None
) -> DatasetView | None:
    """Flats or darks of a detector of ``shape`` (row, column): several frames or a single one.

    Returns:
        None where the dataset does not fit.

    Raises:
        UsageError: The index is not in the dataset.
    """
    axes, fixed, frames = _axes(item, index)
    lengths = tuple(item.shape[axis] for axis in axes)
    if lengths == shape:
        return DatasetView(item, (None, axes[0], axes[1]), fixed, 0, 1)
    if shape[0] == 1 and lengths == shape[1:]:
        return DatasetView(item, (None, None, axes[0]), fixed, 0, 1)
    if shape[0] == 1 and lengths[1:] == shape[1:]:
        return DatasetView(item, (axes[0], None, axes[1]), fixed, frames.start, len(frames))
    return frames_view(item, index)


def _axes(item: h5py.Dataset, index: int | slice | None) -> tuple[list[int], dict[int, int], range]:
    """Axes of a dataset after an index on the first one, fixed positions, and frames."""
    axes = list(range(item.ndim))
    total = item.shape[0] if axes else 0
    frames = range(total)
    if isinstance(index, slice):
        frames = frames[index]
    if (isinstance(index, int) and index >= total) or not (total and frames):
        raise UsageError(f"{item.name} has {total} entries, without [{_shown(index)}].",
                         "count them from 0; the end of a range is left out.")  # fmt: skip
    if isinstance(index, int):
        return axes[1:], {0: index}, range(item.shape[1]) if len(axes) > 1 else range(0)
    return axes, {}, frames


def _shown(index: int | slice | None) -> str:
    if isinstance(index, slice):
        return f"{index.start}:{'' if index.stop is None else index.stop}"
    return str(index)
