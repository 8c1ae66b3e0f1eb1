"""From the weights of one level to those of the next: flattening, when to resample, the report."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field

from tiltkit.posterior.level import Info
from tiltkit.sampling.particles.weights import along_widest, ess, flatten, path_kl, systematic

if TYPE_CHECKING:
    from torch import Tensor

    from tiltkit.sampling.particles.rng import Draw
    from tiltkit.sampling.state import State

__all__ = ["MOST_KIN", "LeastEss", "MostKin", "resampled", "uneven", "weigh"]


# Pairs of particles are as alike as their last common ancestor made them, and the spread of all is
# too small by their share: weights that would cost more than this say less than they take, unless
# clearly different images fit the data.
MOST_KIN = 0.2

# Settings that weighted samplers share.
LeastEss = Annotated[float, Field(
    ge=0, description="weights are flattened, or left out, where they would leave fewer effective "
    "particles than this (or half of all, if that is less)")]  # fmt: skip
MostKin = Annotated[float, Field(
    ge=0, le=1, description="share of pairs of particles with a common ancestor beyond which "
    "weights are left out; with 1, and 50 or more samples, weights alone choose between different "
    "images")]  # fmt: skip


def weigh(
    level: float,
    increment: Tensor,
    log_weight: Tensor,
    *,
    kinship: float,
    least_ess: float,
    resample_below: float,
    most_kin: float,
) -> tuple[Tensor, Info]:
    """New log weights, and what happened; the caller resamples where `Info` says so.

    Args:
        level: Noise level of the prior that the particles reach.
        increment: (particle,) log of the exact weights of the level.
        log_weight: (particle,) before it.
        kinship: See `State`.
        least_ess: Weights are flattened, or left out, where they would leave fewer effective
            particles than this, or than half of all.
        resample_below: Resample when the ESS falls below this share.
        most_kin: Weights are left out where they would raise the kinship beyond this.
    """
    n = len(log_weight)
    power = flatten(increment, log_weight, min(least_ess, n / 2))
    if kin(kinship, log_weight + power * increment) > max(most_kin, kinship):
        power = 0.0
    new = log_weight + power * increment
    info = Info(
        noise_level=level,
        ess=ess(log_weight + increment),
        log_evidence=float(torch.logsumexp(increment + torch.log_softmax(log_weight, 0), 0)),
        kl=path_kl(increment, log_weight),
        temper=power,
        resampled=uneven(new) and ess(new) < resample_below * n,
    )
    return new, info


def kin(before: float, log_weight: Tensor) -> float:
    """Share of pairs of particles with a common ancestor, once these weights are resampled."""
    n = len(log_weight)
    return before + (1 - before) * max((n / ess(log_weight) - 1) / (n - 1), 0.0) if n > 1 else 0.0


def uneven(log_weight: Tensor) -> bool:
    """Whether particles count differently, so that resampling has something to do."""
    return bool((log_weight != log_weight[0]).any())


def resampled(state: State, draw: Draw) -> State:
    """Particles that count equally, with all that belongs to them, by systematic resampling."""
    order = along_widest(state.c)
    rows = order[systematic(state.log_weight[order], draw.uniform())]
    twist = state.twist
    if twist is not None:
        twist = replace(twist, potential=twist.potential[rows], pull=twist.pull[rows])
    return replace(
        state,
        c=state.c[rows],
        score=state.score[rows],
        log_weight=torch.zeros_like(state.log_weight),
        fresh=state.fresh and state.fresh.at(rows),
        twist=twist,
        kinship=kin(state.kinship, state.log_weight),
    )
