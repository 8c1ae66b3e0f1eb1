"""Particle weights: effective sample size, flattening, and systematic resampling.

All weights are natural logarithms, float64, one per particle, up to a constant that all share.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = [
    "effective_power", "ess", "normalised", "path_kl", "principal_order", "systematic_resampling",
]  # fmt: skip

# Smallest power of the weights that is used. Chosen by hand: at less than half of its log weight a
# particle is chosen by the noise in the weights rather than by its fit.
MIN_POWER = 0.5


def normalised(log_weight: Tensor) -> Tensor:
    """Weights (particle,) that sum to one."""
    return torch.softmax(log_weight, dim=0)


def ess(log_weight: Tensor) -> float:
    """Effective sample size ``1 / sum w^2``, between 1 and the number of particles."""
    return float(1.0 / normalised(log_weight).square().sum())


def path_kl(log_increment: Tensor, log_weight: Tensor) -> float:
    """``log E[w] - E[log w]`` in nats: the contribution of one level to the path's KL divergence.

    Expectations are over particles weighted by ``log_weight``, the weights before the level. The
    estimate is never negative. It is biased low for few particles, so that it is no bound.
    """
    w = normalised(log_weight)
    log_of_mean = torch.logsumexp(log_increment + torch.log_softmax(log_weight, 0), dim=0)
    return float(log_of_mean - (w * log_increment).sum())


def effective_power(log_increment: Tensor, log_weight: Tensor, floor: float) -> float:
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
    floor = min(floor, 0.999 * ess(log_weight))
    if ess(log_weight + log_increment) >= floor:
        return 1.0
    low, high = MIN_POWER, 1.0
    if ess(log_weight + low * log_increment) < floor:
        return 0.0
    for _ in range(40):  # bisection, down to 2^-41
        middle = (low + high) / 2
        if ess(log_weight + middle * log_increment) >= floor:
            low = middle
        else:
            high = middle
    return low


def principal_order(c: Tensor) -> Tensor:
    """Indices that sort particles (particle, ...) along their first principal component.

    Systematic resampling in this order keeps the weight of every interval along that direction to
    within one particle, which nearly removes its contribution to the error of mode weights (sorting
    before resampling: Gerber, Chopin and Whiteley, Ann. Stat. 2019).
    """
    flat = c.flatten(1)
    flat = flat - flat.mean(0)
    if flat.shape[0] <= flat.shape[1]:
        # The eigenvector of the Gram matrix is the coordinate along the principal component.
        along: Tensor = torch.linalg.eigh((flat @ flat.T).double())[1][:, -1]
    else:
        direction = torch.linalg.eigh((flat.T @ flat).double())[1][:, -1]
        along = flat @ direction.to(flat.dtype)
    return along.argsort()


def systematic_resampling(log_weight: Tensor, u: float) -> Tensor:
    """Indices (particle,) of the ancestors of the resampled particles.

    Args:
        log_weight: Log weights (particle,).
        u: One uniform number in [0, 1).
    """
    n = len(log_weight)
    edges = normalised(log_weight.double().cpu()).cumsum(0)
    points = (torch.arange(n, dtype=torch.float64) + u) / n
    return torch.searchsorted(edges, points).clamp_max(n - 1).to(log_weight.device)
