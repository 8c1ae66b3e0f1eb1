"""Cartesian k-space of one image from its acquisitions, in any order and of any length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tiltkit.errors import InputError
from tiltkit_mri.acquisitions import Acquisitions, Flag

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Lines", "place_lines"]


@dataclass(frozen=True, slots=True)
class Lines:
    """Acquisitions with their places on a grid (row, column, partition).

    Attributes:
        acquisitions: One row of the table per line.
        first: First row of the grid that a line measures.
        last: One past the last row of the grid.
        skip: Samples left out at the start of a line, in the order of the grid's rows.
        column: Column of the grid.
        partition: Partition of the grid.
        rank: Number of earlier lines at the same place: averages.
        shape: Rows, columns and partitions of the grid.
    """

    acquisitions: Acquisitions
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    skip: NDArray[np.int64]
    column: NDArray[np.int64]
    partition: NDArray[np.int64]
    rank: NDArray[np.int64]
    shape: tuple[int, int, int]

    def where(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> Lines:
        """The chosen lines."""
        return Lines(
            self.acquisitions.where(chosen), self.first[chosen], self.last[chosen],
            self.skip[chosen], self.column[chosen], self.partition[chosen], self.rank[chosen],
            self.shape,
        )  # fmt: skip

    def read(self) -> NDArray[np.complex64]:
        """Mean of the averages (partition, coil, row, column); zero where nothing is measured."""
        acquisitions = self.acquisitions
        n_coils = int(acquisitions.field("active_channels")[0])
        rows, columns, partitions = self.shape
        total = np.zeros((partitions, columns, n_coils, rows), dtype=np.complex64)
        count = np.zeros((partitions, columns, 1, rows), dtype=np.int32)
        reverse = acquisitions.has(Flag.REVERSE)
        for where, block in acquisitions.blocks():
            kinds = np.stack([self.rank, self.first, self.last, self.skip, reverse])[:, where]
            for rank, first, last, skip, flip in np.unique(kinds, axis=1).T:
                same = np.all(np.array([rank, first, last, skip, flip]) == kinds.T, axis=1)
                lines = block[same][..., ::-1] if flip else block[same]
                lines = lines[..., skip : skip + last - first]
                # Places of lines of one rank differ from each other.
                at = self.partition[where[same]], self.column[where[same]]
                total[*at, :, first:last] += lines
                count[*at, :, first:last] += 1
        total /= np.maximum(count, 1)
        return total.transpose(0, 2, 3, 1)


def place_lines(
    acquisitions: Acquisitions,
    image: NDArray[np.intp],
    shape: tuple[int, int, int],
    centre: tuple[int, int],
) -> Lines:
    """Find the place of every acquisition on the grid.

    Args:
        acquisitions: The acquisitions.
        image: Number of the image that each belongs to.
        shape: Rows, columns and partitions of the grid.
        centre: Phase encoding step and partition step of the k-space centre.

    Raises:
        InputError: A line lies outside of the grid.
    """
    rows = shape[0]
    column = acquisitions.field("kspace_encode_step_1") + shape[1] // 2 - centre[0]
    partition = acquisitions.field("kspace_encode_step_2") + shape[2] // 2 - centre[1]
    outside = (column < 0) | (column >= shape[1]) | (partition < 0) | (partition >= shape[2])
    if outside.any():
        worst = acquisitions.where(outside)
        raise InputError(
            f"Acquisition {worst.number[0]} of {acquisitions.path} has phase encoding step"
            f" {worst.field('kspace_encode_step_1')[0]} and partition step"
            f" {worst.field('kspace_encode_step_2')[0]}, outside of the encoded matrix of"
            f" {shape[1]} x {shape[2]} with its centre at step {centre[0]}, {centre[1]}.",
            "correct encodedSpace or the centres in encodingLimits of the header.",
        )
    first, last, skip = _rows(acquisitions, rows)
    keys = np.stack([np.asarray(image, dtype=np.int64), partition, column])
    return Lines(acquisitions, first, last, skip, column, partition, _rank(keys), shape)


def _rows(acquisitions: Acquisitions, rows: int) -> tuple[NDArray[np.int64], ...]:
    """First and one past the last row of each line, and samples to skip before the first."""
    before, after = acquisitions.field("discard_pre"), acquisitions.field("discard_post")
    samples = acquisitions.field("number_of_samples")
    length = samples - before - after
    middle = acquisitions.field("center_sample") - before
    # Writers that leave the centre at zero mean the middle of the line.
    middle = np.where(acquisitions.field("center_sample") > 0, middle, length // 2)
    flip = acquisitions.has(Flag.REVERSE)
    # An even number of samples has its middle at one of two places when it is reversed.
    middle = np.where(flip, np.where(2 * middle == length, middle, length - 1 - middle), middle)
    skip = np.where(flip, after, before)
    start = rows // 2 - middle
    first, last = np.maximum(start, 0), np.minimum(start + length, rows)
    bad = np.flatnonzero((length < 1) | (last <= first) | (middle < 0) | (middle >= length))
    if len(bad):
        row = bad[0]
        raise InputError(
            f"Acquisition {acquisitions.number[row]} of {acquisitions.path} has {samples[row]}"
            f" samples, discards {before[row]} and {after[row]} of them and has its centre at"
            f" sample {acquisitions.field('center_sample')[row]}: no sample at the centre is left.",
            "correct these fields of its header.",
        )
    return first, last, skip + first - start


def _rank(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of earlier entries with the same key (key, entry)."""
    order = np.lexsort(keys)
    fresh = np.ones(len(order), dtype=np.bool_)
    fresh[1:] = (np.diff(keys[:, order], axis=1) != 0).any(axis=0)
    position = np.arange(len(order))
    start = np.maximum.accumulate(np.where(fresh, position, 0))
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = position - start
    return rank
