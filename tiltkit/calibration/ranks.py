"""Ranks of a true image among posterior samples, and of each sample in its place.

Under a right sampler the truth and the samples are exchangeable. Ranks of the samples in the place
of the truth therefore have the same distribution as those of the truth, with all correlations
between pixels: they are the null distribution of every statistic of ranks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tiltkit.calibration.regions import Regions

__all__ = ["Ranks", "member_ranks", "rank_counts"]

# Pixels that are sorted together, to bound the memory.
_BLOCK = 1 << 18


@dataclass(frozen=True, slots=True)
class Ranks:
    """Numbers of pixels and of functions by rank, for the truth (member 0) and each sample.

    Attributes:
        pixels: Numbers of pixels (member, row, rank); rows are those of `Regions`.
        groups: Numbers of functions (member, rank) by group of functions.
    """

    pixels: NDArray[np.float64]
    groups: Mapping[str, NDArray[np.float64]]


def member_ranks(values: NDArray[Any], rng: np.random.Generator) -> NDArray[np.intp]:
    """Rank of each member among all, (member, ...): 0 for the smallest, ties in random order.

    Args:
        values: The truth, then the samples (member, ...).
        rng: Random numbers for ties, such as pixels that a constraint sets to 0.
    """
    order = np.lexsort((rng.random(values.shape), values), axis=0)
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(len(values)).reshape(-1, *[1] * (values.ndim - 1)), 0)
    return ranks


def rank_counts(
    truth: NDArray[Any],
    samples: NDArray[Any],
    values: Mapping[str, NDArray[Any]],
    regions: Regions,
    rng: np.random.Generator,
) -> Ranks:
    """Count the ranks of one true image and its samples.

    Args:
        truth: True image (*image).
        samples: Samples given the data of the truth (n, *image).
        values: Functions of truth and samples (member, function) by group.
        regions: Regions of the pixels.
        rng: Random numbers for ties.
    """
    members = np.concatenate([truth[None], samples]).reshape(len(samples) + 1, -1)
    n, labels = len(members), regions.labels.ravel()
    parts = np.zeros((n, len(regions.names), n))
    for first in range(0, members.shape[1], _BLOCK):
        block = slice(first, first + _BLOCK)
        ranks = member_ranks(members[:, block], rng)
        for member, row in enumerate(ranks):
            flat = labels[block].astype(np.int64) * n + row
            parts[member] += np.bincount(flat, minlength=parts[0].size).reshape(parts[0].shape)
    whole = parts.sum(1, keepdims=True)
    groups = {name: _counts(member_ranks(found, rng)) for name, found in values.items()}
    return Ranks(np.concatenate([whole, parts], axis=1), groups)


def _counts(ranks: NDArray[np.intp]) -> NDArray[np.float64]:
    """Number of functions (member, rank) with each rank, from ranks (member, function)."""
    n = len(ranks)
    return np.stack([np.bincount(row, minlength=n) for row in ranks]).astype(np.float64)
