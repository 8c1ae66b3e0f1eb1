"""Coil maps that the frames of a dynamic series share."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from tiltkit.problem import Note
from tiltkit_mri.masks import around, complete_centre

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tiltkit_mri.kspace import KSpace

__all__ = ["with_shared_maps"]

# Columns of the mean of all frames that are kept.
_MOST_LINES = 64


def with_shared_maps(scan: KSpace) -> KSpace:
    """A scan whose calibration data are the mean of all frames of a slice.

    The mean of frames with interleaved lines is complete where single frames are not, and has less
    noise (Kellman et al., TSENSE, Magn. Reson. Med. 45 (2001) 846-852). Each frame is turned by one
    phase, so that it adds up with the others.

    Args:
        scan: A Cartesian scan; returned as it is where it has calibration data of its own, or no
            frames.
    """
    frames = defaultdict(list)
    for index, place in enumerate(scan.places):
        if index not in scan.unusable:
            frames[place].append(index)
    most = max(map(len, frames.values()), default=0)
    if most < 2 or scan.reference is not None or scan.trajectory is not None:
        return scan

    @cache
    def block(place: int) -> tuple[slice, slice]:
        return _block(scan, frames[place])

    @cache
    def mean(place: int) -> NDArray[np.complex64]:
        return _mean(scan, frames[place], block(place))

    def reference(index: int) -> NDArray[np.complex64]:
        """Mean of the frames at the centre of k-space (coil, row, column), else 0."""
        place = scan.places[index]
        full = np.zeros((scan.n_coils, *scan.shape), dtype=np.complex64)
        full[:, *block(place)] = mean(place)
        return full

    def points(index: int) -> NDArray[np.bool_]:
        """Points of `reference` with data, bool (row, column); known without reading any."""
        full = np.zeros(scan.shape, dtype=np.bool_)
        full[block(scan.places[index])] = True
        return full

    text = (
        f"The frames of a slice, up to {most}, share coil maps, from the mean of their k-space:"
        " for maps of each frame, as after motion, -s task.shared_maps=false."
    )
    notes = (*scan.notes, Note("maps_shared", text))
    return replace(scan, reference=reference, reference_points=points, notes=notes)


def _block(scan: KSpace, frames: list[int]) -> tuple[slice, slice]:
    """Rows and columns of the centre of k-space that all frames together measure."""
    union = np.any([scan.mask(index) for index in frames], axis=0)
    rows, columns = complete_centre(union)
    columns = around(columns, scan.shape[1] // 2, _MOST_LINES)
    return slice(rows.start, rows.stop), slice(columns.start, columns.stop)


def _mean(scan: KSpace, frames: list[int], block: tuple[slice, slice]) -> NDArray[np.complex64]:
    """Mean k-space (coil, row, column) of a block of frames."""
    shape = [part.stop - part.start for part in block]
    total = np.zeros((scan.n_coils, *shape), dtype=np.complex64)
    count = np.zeros(shape, dtype=np.int64)
    for index in frames:
        data, measured = scan.read(index)[:, *block], scan.mask(index)[block]
        common = measured & (count > 0)
        overlap = np.vdot(data[:, common], (total / np.maximum(count, 1))[:, common])
        total += data * (overlap / abs(overlap) if overlap else 1)
        count += measured
    total /= np.maximum(count, 1)
    return total
