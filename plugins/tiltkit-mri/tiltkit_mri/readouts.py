"""Readouts with a trajectory from ISMRMRD acquisitions: single slices, and stacks of partitions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tiltkit.errors import InputError
from tiltkit_mri.acquisitions import Acquisitions
from tiltkit_mri.slicing import ifft_along
from tiltkit_mri.trajectories import positions_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["read_readouts", "read_stack"]

# Positions of samples in different partitions are equal within this share of the largest.
_SAME = 1e-3


def read_readouts(part: Acquisitions) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
    """Samples (coil, sample) of acquisitions, and their positions (2, sample) as in the file.

    Raises:
        InputError: Positions are missing, or have three dimensions.
    """
    samples, positions = _kept(part)
    return np.concatenate(samples, axis=1), positions_of(positions, part.path)


def read_stack(
    part: Acquisitions, partition: NDArray[np.int64], total: int
) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
    """Samples (partition, coil, sample) of a stack of stars or spirals, and positions (2, sample).

    The samples are transformed along the partitions, which must be complete and have the same
    positions.

    Args:
        part: Acquisitions of one volume.
        partition: Partition of each in k-space, from 0.
        total: Number of partitions.

    Raises:
        InputError: Partitions are missing, or differ in their positions.
    """
    samples, positions = _kept(part)
    planes, places = [], []
    order = np.argsort(part.field("kspace_encode_step_1"), kind="stable")
    for number in range(total):
        chosen = [row for row in order if partition[row] == number]
        if not chosen:
            raise InputError(
                f"{part.path} has no readouts of partition {number} of {total}: partitions must be"
                " complete.",
                "use a scan with all partitions, or transform it along them first.",
            )
        planes.append(np.concatenate([samples[row] for row in chosen], axis=1))
        places.append(positions_of([positions[row][:, :2] for row in chosen], part.path))
    first = places[0]
    same = all(
        place.shape == first.shape and np.abs(place - first).max() <= _SAME * np.abs(first).max()
        for place in places
    )
    if not same:
        raise InputError(
            f"The partitions of {part.path} have different trajectories, which is not supported.",
            "use a scan whose spokes or interleaves are the same in all partitions.",
        )
    return ifft_along(np.stack(planes), 0), first


def _kept(part: Acquisitions) -> tuple[list[NDArray[np.complex64]], list[NDArray[np.float32]]]:
    """Samples (coil, sample) and positions (sample, dimension) that are not to be discarded."""
    before, after = part.field("discard_pre"), part.field("discard_post")
    kept = [slice(b, n - a) for b, a, n in
            zip(before, after, part.field("number_of_samples"), strict=True)]  # fmt: skip
    samples: list[NDArray[np.complex64]] = [np.empty((0, 0), np.complex64)] * len(part)
    for rows, block in part.blocks():
        for row, values in zip(rows, block, strict=True):
            samples[row] = values[:, kept[row]]
    return samples, [p[part] for p, part in zip(part.trajectories(), kept, strict=True)]
