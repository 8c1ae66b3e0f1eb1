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

    from tiltkit.sampling.particles.rng import ParticleRng
    from tiltkit.sampling.state import State

__all__ = ["MOST_SHARED_ANCESTRY", "MinEss", "MostSharedAncestry", "resampled", "uneven", "weigh"]


# Pairs of particles are as alike as their last common ancestor made them, and the spread of all is
# too small by their share: weights that would cost more than this say less than they take, unless
# clearly different images fit the data.
MOST_SHARED_ANCESTRY = 0.2

# Settings that weighted samplers share.
MinEss = Annotated[float, Field(
    ge=0, description="weights are flattened, or left out, where they would leave fewer effective "
    "particles than this (or half of all, if that is less)")]  # fmt: skip
MostSharedAncestry = Annotated[float, Field(
    ge=0, le=1, description="share of pairs of particles with a common ancestor beyond which "
    "weights are left out; with 1, and 50 or more samples, weights alone choose between different "
    "images")]  # fmt: skip


def weigh(
    level: float,
    increment: Tensor,
    log_weight: Tensor,
    *,
    shared_ancestry: float,
    min_ess: float,
    resample_below: float,
    most_shared_ancestry: float,
) -> tuple[Tensor, Info]:
    """New log weights, and what happened; the caller resamples where `Info` says so.

    Args:
        level: Noise level of the prior that the particles reach.
        increment: (particle,) log of the exact weights of the level.
        log_weight: (particle,) before it.
        shared_ancestry: See `State`.
        min_ess: Weights are flattened, or left out, where they would leave fewer effective
            particles than this, or than half of all.
        resample_below: Resample when the ESS falls below this share.
        most_shared_ancestry: Weights are left out where they would raise the kinship beyond this.
    """
    n = len(log_weight)
    power = flatten(increment, log_weight, min(min_ess, n / 2))
    if shared_ancestry_after(shared_ancestry, log_weight + power * increment) > max(
        most_shared_ancestry, shared_ancestry
    ):
        power = 0.0
    new = log_weight + power * increment
    info = Info(
        noise_level=level,
        ess=ess(log_weight + increment),
        log_evidence=float(torch.logsumexp(increment + torch.log_softmax(log_weight, 0), 0)),
        kl=path_kl(increment, log_weight),
        weight_power=power,
        resampled=uneven(new) and ess(new) < resample_below * n,
    )
    return new, info


def shared_ancestry_after(before: float, log_weight: Tensor) -> float:
    """Share of pairs of particles with a common ancestor, once these weights are resampled."""
    n = len(log_weight)
    return before + (1 - before) * max((n / ess(log_weight) - 1) / (n - 1), 0.0) if n > 1 else 0.0


def uneven(log_weight: Tensor) -> bool:
    """Whether particles count differently, so that resampling has something to do."""
    return bool((log_weight != log_weight[0]).any())


def resampled(state: State, rng: ParticleRng) -> State:
    """Particles that count equally, with all that belongs to them, by systematic resampling."""
    order = along_widest(state.c)
    rows = order[systematic(state.log_weight[order], rng.uniform())]
    likelihood_term = state.likelihood_term
    if likelihood_term is not None:
        likelihood_term = replace(
            likelihood_term,
            potential=likelihood_term.potential[rows],
            likelihood_score=likelihood_term.likelihood_score[rows],
        )
    return replace(
        state,
        c=state.c[rows],
        score=state.score[rows],
        log_weight=torch.zeros_like(state.log_weight),
        last_noise=state.last_noise and state.last_noise.at(rows),
        likelihood_term=likelihood_term,
        shared_ancestry=shared_ancestry_after(state.shared_ancestry, state.log_weight),
    )
