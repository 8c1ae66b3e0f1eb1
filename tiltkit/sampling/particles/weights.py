"""Particle weights: effective sample size, systematic resampling, and flattening."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["along_widest", "ess", "flatten", "normalised", "path_kl", "systematic"]

LEAST_POWER = 0.5

# All weights are natural logarithms, float64, one per particle, up to a shared constant.


def normalised(log_weight: Tensor) -> Tensor:
    """Weights that sum to one."""
    return torch.softmax(log_weight, dim=0)


def ess(log_weight: Tensor) -> float:
    """Effective sample size ``1 / sum w^2``, between 1 and the number of particles."""
    return float(1.0 / normalised(log_weight).square().sum())


def path_kl(log_increment: Tensor, log_weight: Tensor) -> float:
    """``log E[w] - E[log w]``: what one level adds to the KL bound of unweighted particles.

    Expectations are over particles weighted by ``log_weight`` before the level. Exact in
    expectation, noisy for few particles, never negative.
    """
    w = normalised(log_weight)
    log_of_mean = torch.logsumexp(log_increment + torch.log_softmax(log_weight, 0), dim=0)
    return float(log_of_mean - (w * log_increment).sum())


def flatten(log_increment: Tensor, log_weight: Tensor, floor: float) -> float:
    """The largest power ``alpha <= 1`` of the new weights that keeps the ESS above ``floor``.

    0 where that would be below 1/2: in very high dimension nearly all of the spread of the
    weights is noise, so that flattened ones would choose at random, level after level, until all
    particles have one ancestor. Below 1 the weighting is no longer exact, and the certificate
    says so.
    """
    floor = min(floor, 0.999 * ess(log_weight))
    if ess(log_weight + log_increment) >= floor:
        return 1.0
    low, high = LEAST_POWER, 1.0
    if ess(log_weight + low * log_increment) < floor:
        return 0.0
    for _ in range(40):
        middle = (low + high) / 2
        if ess(log_weight + middle * log_increment) >= floor:
            low = middle
        else:
            high = middle
    return low


def along_widest(c: Tensor) -> Tensor:
    """Order of particles (particle, ...) along the direction in which they spread most.

    Systematic resampling in this order keeps the share of either end, and of what lies between,
    to within one particle: what it adds to the error of mode weights all but vanishes (sorting
    before resampling: Gerber, Chopin and Whiteley, Ann. Stat. 2019).
    """
    flat = c.flatten(1)
    flat = flat - flat.mean(0)
    if flat.shape[0] <= flat.shape[1]:
        # The eigenvector of the Gram matrix is the coordinate along the direction itself.
        along: Tensor = torch.linalg.eigh((flat @ flat.T).double())[1][:, -1]
    else:
        direction = torch.linalg.eigh((flat.T @ flat).double())[1][:, -1]
        along = flat @ direction.to(flat.dtype)
    return along.argsort()


def systematic(log_weight: Tensor, u: float) -> Tensor:
    """Indices of the particles that survive, by systematic resampling.

    Args:
        log_weight: (particle,).
        u: One uniform number in [0, 1).
    """
    n = len(log_weight)
    edges = normalised(log_weight.double().cpu()).cumsum(0)
    points = (torch.arange(n, dtype=torch.float64) + u) / n
    return torch.searchsorted(edges, points).clamp_max(n - 1).to(log_weight.device)
