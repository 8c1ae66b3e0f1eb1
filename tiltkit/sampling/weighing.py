"""From the weights of one level to those of the next: flattening, when to resample, the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from tiltkit.sampling.particles import along_widest, ess, flatten, path_kl, systematic
from tiltkit.sampling.state import Info

if TYPE_CHECKING:
    from torch import Tensor

    from tiltkit.sampling.draw import Draw

__all__ = ["survivors", "weigh"]


def weigh(
    level: float,
    increment: Tensor,
    log_weight: Tensor,
    *,
    least_ess: float,
    resample_below: float,
) -> tuple[Tensor, Info]:
    """New log weights, and what happened; the caller resamples where `Info` says so.

    Args:
        level: Noise level of the prior that the particles reach.
        increment: (particle,) log of the exact weights of the level.
        log_weight: (particle,) before it.
        least_ess: Weights are flattened, or left out, where they would leave fewer effective
            particles than this, or than half of all.
        resample_below: Resample when the ESS falls below this share.
    """
    n = len(log_weight)
    power = flatten(increment, log_weight, min(least_ess, n / 2))
    new = log_weight + power * increment
    info = Info(
        noise_level=level,
        ess=ess(log_weight + increment),
        log_evidence=float(torch.logsumexp(increment + torch.log_softmax(log_weight, 0), 0)),
        kl=path_kl(increment, log_weight),
        temper=power,
        resampled=ess(new) < resample_below * n,
    )
    return new, info


def survivors(c: Tensor, log_weight: Tensor, draw: Draw) -> Tensor:
    """Indices of particles ``c`` that then count equally, by systematic resampling."""
    order = along_widest(c)
    return order[systematic(log_weight[order], draw.uniform())]
