"""Particle weights: effective sample size, flattening, and systematic resampling.

All weights are natural logarithms, float64, one per particle, up to a constant that all share. They
are few and decide what is computed next, so that they belong on the host, as arrays or tensors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from torch import Tensor

__all__ = [
    "effective_power", "ess", "normalised", "on_host", "principal_order", "systematic_resampling",
]  # fmt: skip

# Smallest power of the weights that is used. Chosen by hand: at less than half of its log weight a
# particle is chosen by the noise in the weights rather than by its fit.
MIN_POWER = 0.5


def normalised(log_weight: ArrayLike | Tensor) -> Tensor:
    """Weights (particle,) that sum to one, on the host."""
    return torch.from_numpy(_softmax(log_weight))


def ess(log_weight: ArrayLike | Tensor) -> float:
    """Effective sample size ``1 / sum w^2``, between 1 and the number of particles."""
    return float(1.0 / np.square(_softmax(log_weight)).sum())


def on_host(values: ArrayLike | Tensor) -> NDArray[np.float64]:
    """Weights as an array; a tensor may be on any device."""
    return np.asarray(values.cpu() if isinstance(values, torch.Tensor) else values, np.float64)


def _softmax(log_weight: ArrayLike | Tensor) -> NDArray[np.float64]:
    values = on_host(log_weight)
    with np.errstate(invalid="ignore"):
        w = np.exp(values - values.max())
    normal: NDArray[np.float64] = w / w.sum()
    return normal


def effective_power(
    log_increment: ArrayLike | Tensor, log_weight: ArrayLike | Tensor, floor: float
) -> float:
    """The largest power ``alpha <= 1`` of the new weights that keeps the ESS above ``floor``.

    It is 0 where that power is below `MIN_POWER`. In very high dimension nearly all of the
    variance of the weights is noise: flattened weights would choose at random at each level, until
    all particles have one ancestor. With a power below 1 weighting is no longer exact; the
    certificate reports the power.

    Args:
        log_increment: Log weights of the level (particle,).
        log_weight: Log weights before it (particle,).
        floor: Effective number of particles to keep; capped just below the ESS before the level.
    """
    increment, before = on_host(log_increment), on_host(log_weight)
    floor = min(floor, 0.999 * ess(before))
    if ess(before + increment) >= floor:
        return 1.0
    low, high = MIN_POWER, 1.0
    if ess(before + low * increment) < floor:
        return 0.0
    for _ in range(40):  # bisection, down to 2^-41
        middle = (low + high) / 2
        if ess(before + middle * increment) >= floor:
            low = middle
        else:
            high = middle
    return low


def principal_order(c: Tensor) -> Tensor:
    """Indices that sort particles (particle, ...) along their first principal component.

    Systematic resampling in this order keeps the weight of every interval along that direction to
    within one particle, which nearly removes its contribution to the error of mode weights (sorting
    before resampling: Gerber, Chopin and Whiteley, Ann. Stat. 2019). Indices are on the host.
    """
    flat = c.flatten(1)
    flat = flat - flat.mean(0)
    if flat.shape[0] <= flat.shape[1]:
        # The eigenvector of the Gram matrix is the coordinate along the principal component.
        return _principal(flat @ flat.T).argsort()
    return (flat @ _principal(flat.T @ flat).to(flat)).cpu().argsort()


def _principal(gram: Tensor) -> Tensor:
    """Eigenvector of the largest eigenvalue, on the host: the matrix is small."""
    vectors: Tensor = torch.linalg.eigh(gram.cpu().double())[1]
    return vectors[:, -1]


def systematic_resampling(log_weight: ArrayLike | Tensor, u: float) -> Tensor:
    """Indices (particle,) of the ancestors of the resampled particles.

    Args:
        log_weight: Log weights (particle,).
        u: One uniform number in [0, 1).
    """
    edges = _softmax(log_weight).cumsum()
    points = (np.arange(len(edges)) + u) / len(edges)
    return torch.from_numpy(np.searchsorted(edges, points).clip(max=len(edges) - 1))
