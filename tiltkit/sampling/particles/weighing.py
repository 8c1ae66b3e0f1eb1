"""Weighting and resampling of one level: flattened weights, systematic resampling, its report."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import numpy as np
import torch
from pydantic import Field

from tiltkit.posterior.level import Info
from tiltkit.sampling.particles.weights import (
    effective_power,
    ess,
    on_host,
    principal_order,
    systematic_resampling,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from tiltkit.sampling.particles.rng import ParticleRng
    from tiltkit.sampling.state import State

__all__ = ["MOST_SHARED_ANCESTRY", "MinEss", "MostSharedAncestry", "resample", "uneven", "weigh"]


# Particles with a common ancestor are correlated, so that the sample variance is biased low by the
# share of such pairs. Chosen by hand: a fifth of the variance.
MOST_SHARED_ANCESTRY = 0.2

# Options of all weighted samplers.
MinEss = Annotated[float, Field(
    ge=0, description="flatten the weights of a level, or skip them, where they would leave a "
    "smaller effective sample size than this (or than half of the samples)")]  # fmt: skip
MostSharedAncestry = Annotated[float, Field(
    ge=0, le=1, description="skip the weights of a level where more than this share of pairs of "
    "samples would have a common ancestor; 1 never skips them, for 50 or more samples of images "
    "with clearly different explanations")]  # fmt: skip


def weigh(
    state: State,
    increment: Tensor,
    rng: ParticleRng,
    *,
    min_ess: float,
    resample_below: float,
    most_shared_ancestry: float,
) -> tuple[State, Info]:
    """The state with the weights of its level, resampled where they are uneven, and the report.

    Args:
        state: Particles at the new level, with the weights of the level before.
        increment: Log of the exact weights of the level, (particle,) float64; on any device.
        rng: Randomness of resampling.
        min_ess: Effective sample size to keep, at most half of the particles; weights are
            flattened or skipped for it.
        resample_below: Resample where the ESS is below this share of the particles.
        most_shared_ancestry: Weights are skipped where resampling by them would raise
            `State.shared_ancestry` beyond this.
    """
    change, log_weight, n = on_host(increment), on_host(state.log_weight), len(increment)
    power = effective_power(change, log_weight, min(min_ess, n / 2))
    if _shared_ancestry(state.shared_ancestry, log_weight + power * change) > max(
        most_shared_ancestry, state.shared_ancestry
    ):
        power = 0.0
    new = log_weight + power * change
    info = Info(
        noise_level=state.level,
        ess=ess(log_weight + change),
        weight_power=power,
        resampled=uneven(new) and ess(new) < resample_below * n,
    )
    state = replace(state, log_weight=torch.from_numpy(new))
    return (resample(state, rng) if info.resampled else state), info


def _shared_ancestry(before: float, log_weight: NDArray[np.float64] | Tensor) -> float:
    """Share of pairs of particles with a common ancestor after resampling by these weights.

    Two resampled particles have the same parent with probability ``(n / ess - 1) / (n - 1)``.
    """
    n = len(log_weight)
    return before + (1 - before) * max((n / ess(log_weight) - 1) / (n - 1), 0.0) if n > 1 else 0.0


def uneven(log_weight: NDArray[np.float64] | Tensor) -> bool:
    """True where weights differ between particles."""
    values = on_host(log_weight)
    return bool((values != values[0]).any())


def resample(state: State, rng: ParticleRng) -> State:
    """Equally weighted particles by systematic resampling along their principal component."""
    order = principal_order(state.c)
    log_weight = on_host(state.log_weight)[order.numpy()]
    rows = order[systematic_resampling(log_weight, rng.uniform())].to(state.c.device)
    return replace(
        state,
        c=state.c[rows],
        score=state.score[rows],
        log_weight=torch.zeros_like(state.log_weight),
        last_noise=state.last_noise and state.last_noise.at(rows),
        likelihood_term=state.likelihood_term and state.likelihood_term.at(rows),
        shared_ancestry=_shared_ancestry(state.shared_ancestry, state.log_weight),
    )
