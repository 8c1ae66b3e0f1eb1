"""Preconditioned unadjusted Langevin algorithm with the exact likelihood (pULA).

Blumenthal, Holliber, Tamir and Uecker, arXiv:2512.05791; the algorithm of ``bart sample`` in BART
>= 1.0.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from tiltkit.posterior.level import Info
from tiltkit.sampling.gaussian.conditioning import Step
from tiltkit.sampling.particles.ladder import bounds
from tiltkit.sampling.state import State, planned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from tiltkit.sampling.particles.rng import ParticleRng
    from tiltkit.sampling.target import Target

__all__ = ["Pula", "PulaOptions"]


class PulaOptions(BaseModel):
    """Options of `Pula`; the defaults are those of ``bart sample``, except for the noise range."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    levels: int = Field(100, ge=1, le=100000, description="noise levels after the first")
    moves: int = Field(1, ge=1, le=1000, description="Langevin steps per level")
    gamma: float = Field(0.5, gt=0, lt=2, description="step: x + gamma P grad + sqrt(2 gamma P) xi")
    collect: int = Field(4, ge=1, le=10000, description="further rounds of steps at the last level "
                         "that count towards mean, spread and quantiles")  # fmt: skip
    sigma_max: float | None = Field(
        None, gt=0, description="first noise level; the prior's largest when not given"
    )
    tau: float | None = Field(
        None, gt=0, description="last noise level; the prior's smallest when not given"
    )


class Pula:
    """Langevin steps with the preconditioner ``P = (A^H A / noise_var + I / b^2)^-1``.

    The target at noise level b is ``p_b exp(-R)``, with the exact potential ``R`` at every level.
    There are no weights, so that mode weights can freeze at wrong values. There is no Metropolis
    test: where ``P`` is the covariance of the target, the variance is too large by the factor
    ``1 / (1 - gamma / 2)``.

    It costs ``moves`` network calls per level and no gradients through the network.

    As published: targets, preconditioner, Euler-Maruyama step, levels of constant ratio, and a
    start from the data with a white Gaussian prior of the first level. Not as published: solves
    with ``P`` are exact or converged instead of 10 conjugate gradient iterations; the start is
    centred on the prior's mean; ``gamma`` is for real components (BART's is for complex ones);
    ``collect`` adds rounds at the last level, where the paper takes one sample per chain.

    Cite Blumenthal et al., arXiv:2512.05791.
    """

    Options = PulaOptions
    weighted: ClassVar[bool] = False

    def __init__(self, options: PulaOptions) -> None:
        self.options = options

    def levels(self, target: Target) -> list[float]:
        """Levels of constant ratio; the last one is repeated to collect samples."""
        target.require_gaussian()
        o = self.options
        first, last = bounds(target.problem.prior.sigma_range, o.sigma_max, o.tau)
        inner = np.geomspace(first, last, o.levels + 1)[1:-1]
        return [first, *(float(b) for b in inner), last] + [last] * o.collect

    def next_level(
        self, target: Target, state: State | None, infos: Sequence[Info]
    ) -> float | None:
        """See `Sampler`."""
        return planned(self.levels(target), infos)

    def init(self, target: Target, level: float, rng: ParticleRng) -> tuple[State, Info]:
        """Samples of the noised prior, taken as Gaussian, given the data."""
        c = torch.cat([c for _, c, _ in target.conditioned_gaussian(Step(level**2, 0.0), rng)])
        # The state's score is the one before the last move; there was no move yet.
        return self._state(target, c, torch.zeros_like(c), level)

    def step(
        self, target: Target, state: State, level: float, rng: ParticleRng
    ) -> tuple[State, Info]:
        """``moves`` Langevin steps at ``level``."""
        c, score = torch.empty_like(state.c), torch.empty_like(state.c)
        final = level == state.level
        for rows in target.chunks():
            x = state.c[rows]
            for _ in range(self.options.moves):
                s = target.score_at(x, level)
                x = self._move(target, x, s, level, rng, rows)
            c[rows], score[rows] = x, s
        return self._state(target, c, score, level, final=final)

    def images(self, target: Target, state: State) -> Tensor:
        """See `Sampler`."""
        return target.images(state.c)

    def scores(self, target: Target, state: State) -> Tensor:
        """See `Sampler`; costs one network call, since a step evaluates no score after its move."""
        parts = [target.score_at(state.c[rows], state.level) for rows in target.chunks()]
        return target.images(torch.cat(parts))

    def _move(
        self, target: Target, x: Tensor, score: Tensor, level: float, rng: ParticleRng, rows: slice
    ) -> Tensor:
        """``x + gamma P grad + sqrt(2 gamma) P^(1/2) xi``.

        `Conditioning.predict` from ``x + b^2 score`` with variance ``b^2`` gives
        ``x + P grad + P^(1/2) xi``.
        """
        gamma, step = self.options.gamma, Step(level**2, 0.0)
        full, last_noise, _ = target.conditioning.predict(x + step.v * score, step, rng, rows)
        noise = last_noise.spread * last_noise.xi
        new = x + gamma * (full - x) + (math.sqrt(2 * gamma) - gamma) * noise
        return target.constrain(new, None)[0]

    def _state(
        self, target: Target, c: Tensor, score: Tensor, level: float, *, final: bool = False
    ) -> tuple[State, Info]:
        zero = torch.zeros(target.n, dtype=torch.float64, device=target.device)
        info = Info(noise_level=level, ess=float(target.n), final=final)
        return State(c, score, zero, level), info
