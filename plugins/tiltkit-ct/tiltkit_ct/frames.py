"""Frames in HDF5 datasets: read in parts, in any order of axes, from chunks of any shape."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tiltkit.errors import InputError
from tiltkit_ct.projections import Stack

if TYPE_CHECKING:
    import h5py
    from numpy.typing import NDArray

    from tiltkit_ct.dataset_view import DatasetView
    from tiltkit_ct.tiff_frames import TiffFrames

__all__ = ["check_sources", "frames_of", "stack"]

_KEPT_BYTES = 2**28  # of rows that are read together


def stack(
    item: h5py.Dataset | DatasetView | TiffFrames,
    order: Sequence[int],
    frames: NDArray[np.int64],
    times: NDArray[np.float64],
) -> Stack:
    """Frames of a 3-D dataset whose axes are stored in any order.

    A chunk is read whole, however few of its rows are wanted: where chunks hold several rows, the
    rows around the wanted ones are kept for the next call, up to a limit of memory.

    Args:
        item: The dataset.
        order: Axes of the dataset for frame, row and column.
        frames: Frame numbers.
        times: When they were taken, as fractional projection number.
    """
    total = int(item.shape[order[1]])
    together = int(item.chunks[order[1]]) if item.chunks else 1
    kept: dict[tuple[bytes, int, int, int], NDArray[np.float32]] = {}

    def load(wanted: NDArray[np.int64], rows: slice, columns: slice) -> NDArray[np.float32]:
        if not len(wanted):
            return np.empty((0, rows.stop - rows.start, columns.stop - columns.start), np.float32)
        row_bytes = 4 * len(wanted) * (columns.stop - columns.start)
        block = min(together, _KEPT_BYTES // row_bytes)
        if block <= 1 or rows.start // block != (rows.stop - 1) // block:
            return _read(item, order, wanted, rows, columns)
        first = rows.start // block * block
        key = (wanted.tobytes(), first, columns.start, columns.stop)
        if key not in kept:
            kept.clear()
            around = slice(first, min(first + block, total))
            kept[key] = _read(item, order, wanted, around, columns)
        return kept[key][:, rows.start - first : rows.stop - first].copy()

    full = float(np.iinfo(item.dtype).max) if item.dtype.kind in "iu" else float("inf")
    return Stack(load, frames, times, full)


def frames_of(item: h5py.Dataset | DatasetView, order: Sequence[int]) -> tuple[int, int, int]:
    """Numbers of frames, rows and columns of a dataset."""
    count, rows, columns = (int(item.shape[axis]) for axis in order)
    return count, rows, columns


def check_sources(item: h5py.Dataset, path: Path) -> None:
    """Refuse a virtual dataset of which a source is missing: HDF5 would read fill values.

    Raises:
        InputError: A source file is not there.
    """
    if not item.is_virtual:
        return
    for source in item.virtual_sources():
        file = path.parent / source.file_name
        if source.file_name != "." and not file.exists():
            raise InputError(
                f"{item.name} of {path} lies in {source.file_name}, which is not there.",
                f"copy it to {file}.",
            )


def _read(
    item: h5py.Dataset | DatasetView,
    order: Sequence[int],
    wanted: NDArray[np.int64],
    rows: slice,
    columns: slice,
) -> NDArray[np.float32]:
    """Some frames, rows and columns as (frame, row, column); read in the order of the file."""
    if (wanted[1:] < wanted[:-1]).any():
        rising = np.argsort(wanted)
        return _read(item, order, wanted[rising], rows, columns)[np.argsort(rising)]
    parts = []
    for run in _runs(wanted):
        index = [slice(None)] * 3
        for axis, part in zip(order, (run, rows, columns), strict=True):
            index[axis] = part
        first, second, third = index
        parts.append(np.asarray(item[first, second, third], np.float32).transpose(order))
    return np.concatenate(parts) if len(parts) != 1 else np.array(parts[0])


def _runs(frames: NDArray[np.int64]) -> Iterator[slice]:
    """Evenly spaced runs of frame numbers as slices, which HDF5 reads far faster than lists."""
    start = 0
    while start < len(frames):
        stop = start + 1
        step = 1
        if stop < len(frames) and frames[stop] > frames[start]:
            step = int(frames[stop] - frames[start])
            while stop < len(frames) and frames[stop] - frames[stop - 1] == step:
                stop += 1
        yield slice(int(frames[start]), int(frames[stop - 1]) + 1, step)
        start = stop
