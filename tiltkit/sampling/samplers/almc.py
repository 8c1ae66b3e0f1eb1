"""Annealed Langevin Monte Carlo as published (`almc`).

Parulekar, Rout, Shanmugam and Shakkottai, ICLR 2026, arXiv:2508.07631. Ornstein-Uhlenbeck path
``X_t = e^-t X_0 + sqrt(1 - e^-2t) Z`` with density ``p_t``, potential ``R(x) = -log p(y | x)``,
posterior path ``mu_t ~ p_t exp(-R)``:

    x ~ N(0, I)
    warm start   x <- x + delta (-x - grad R(x)) + sqrt(2 delta) xi       for N(0, I) exp(-R)
    anneal       x <- x + delta (score_t(x) - grad R(x)) + sqrt(2 delta) xi
                 with t = i delta / kappa falling from T to tau

Score networks use the variance-exploding form: ``x_ve = e^t x``, ``sigma^2 = e^2t - 1``. Any
differentiable ``R`` will do. There are no weights, so that mode weights can freeze at wrong values
as the modes separate.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from tiltkit.errors import UsageError
from tiltkit.likelihoods import linear_gaussian
from tiltkit.operators.cg import norm_squared
from tiltkit.posterior.level import Info
from tiltkit.sampling.state import State, planned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from tiltkit.sampling.particles.rng import ParticleRng
    from tiltkit.sampling.target import Target

__all__ = ["Almc", "AlmcOptions", "noise_level", "time_of"]


# Time at which paths start, if the prior's noise range allows. Chosen by hand: the prior's part of
# ``X_2`` has e^-4 of its variance.
_LATEST = 2.0
# Rounding error of `noise_level` after `time_of`.
_ROUNDING = 1 + 1e-9


class AlmcOptions(BaseModel):
    """Options of `Almc`, with the names of the paper."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    T: float | None = Field(
        None, gt=0, le=20, description="time at which the path starts; when not given 2, or less"
        " where the prior's noise range ends earlier"
    )  # fmt: skip
    tau: float = Field(0.01, gt=0, description="time at which the path stops early")
    kappa: float = Field(
        1.0, gt=0, description="slowness of the path: after i steps t has fallen by i delta / kappa"
    )
    delta: float | None = Field(
        None, gt=0, description="step size; half of the stability limit when not given"
    )
    warm_steps: int = Field(200, ge=0, description="Langevin steps of the warm start")
    reports: int = Field(50, ge=1, description="number of reports along the path")
    collect: int = Field(4, ge=0, description="further rounds at tau that count as samples")


def noise_level(t: float) -> float:
    """Noise level ``sqrt(e^2t - 1)`` of time ``t`` in variance-exploding form."""
    return math.sqrt(math.expm1(2 * t))


def time_of(level: float) -> float:
    """Time ``t`` of a noise level; the inverse of `noise_level`."""
    return math.log1p(level**2) / 2


class Almc:
    """The sampler. Its levels are times ``t``. It costs one network call per Langevin step."""

    Options = AlmcOptions
    weighted: ClassVar[bool] = False

    def __init__(self, options: AlmcOptions) -> None:
        self.options = options

    def _start(self, target: Target) -> float:
        """Time ``T`` at which the path starts."""
        _, high = target.problem.prior.sigma_range
        return self.options.T or min(_LATEST, time_of(high))

    def levels(self, target: Target) -> list[float]:
        """Times of the reports from ``T`` to ``tau``, which is repeated to collect samples.

        Raises:
            UsageError: The times are outside the prior's noise range.
        """
        o, start = self.options, self._start(target)
        low, high = target.problem.prior.sigma_range
        if not low <= noise_level(o.tau) < noise_level(start) <= high * _ROUNDING:
            raise UsageError(
                f"Times {start:g} to {o.tau:g} are noise levels {noise_level(start):.3g} to"
                f" {noise_level(o.tau):.3g}, but the noise range of the prior is {high:g} to"
                f" {low:g}.",
                "set sampler.T and sampler.tau so that sqrt(exp(2 t) - 1) lies in that range.",
            )
        times = np.linspace(start, o.tau, o.reports + 1)
        return [float(t) for t in times] + [o.tau] * o.collect

    def next_level(
        self, target: Target, state: State | None, infos: Sequence[Info]
    ) -> float | None:
        """See `Sampler`."""
        return planned(self.levels(target), infos)

    def init(self, target: Target, level: float, rng: ParticleRng) -> tuple[State, Info]:
        """Warm start: Langevin steps for ``N(0, I) exp(-R)``, log-concave for convex ``R``."""
        delta = self._step_size(target)
        likelihood, shape = target.problem.likelihood, target.problem.shape
        x = torch.empty((target.n, *shape), dtype=target.dtype, device=target.device)
        for rows in target.chunks():
            particles = rng.normal(rows, shape, target.dtype)
            for _ in range(self.options.warm_steps):
                drift = -particles - likelihood.gradient(particles)
                particles = _langevin(target, particles, drift, delta, rng, rows)
            x[rows] = particles
        return self._state(target, x, level), _info(target, level)

    def step(
        self, target: Target, state: State, level: float, rng: ParticleRng
    ) -> tuple[State, Info]:
        """Langevin steps of size ``delta`` while t falls by ``delta / kappa`` each."""
        delta = self._step_size(target)
        final = level == state.level
        piece = (self._start(target) - self.options.tau) / self.options.reports
        steps = max(1, math.ceil(piece * self.options.kappa / delta))
        times = np.linspace(state.level, level, steps + 1)[1:]
        x = state.c.clone()
        for rows in target.chunks():
            particles = x[rows]
            for t in times:
                drift = _score(target, particles, float(t))
                drift = drift - target.problem.likelihood.gradient(particles)
                particles = _langevin(target, particles, drift, delta, rng, rows)
            x[rows] = particles
        return self._state(target, x, level), _info(target, level, final=final)

    def images(self, target: Target, state: State) -> Tensor:
        """See `Sampler`; particles of the Ornstein-Uhlenbeck path at ``tau``, as in the paper."""
        return state.c

    def scores(self, target: Target, state: State) -> Tensor:
        """See `Sampler`; costs one network call, since a step evaluates no score after its move."""
        return torch.cat([_score(target, state.c[rows], state.level) for rows in target.chunks()])

    def _state(self, target: Target, x: Tensor, level: float) -> State:
        zero = torch.zeros(target.n, dtype=torch.float64, device=target.device)
        return State(x, torch.zeros_like(x), zero, level)

    def _step_size(self, target: Target) -> float:
        """``delta``, or half of the limit ``2 / (L_prior(tau) + |A|^2 / noise_var)``.

        ``L_prior(tau) = 1 / (1 - e^-2tau)`` bounds the curvature of ``log p_tau``.

        Raises:
            UsageError: The likelihood has no Gaussian approximation to take ``A`` from.
        """
        if self.options.delta is not None:
            return self.options.delta
        linear = linear_gaussian(target.problem.likelihood)
        if linear is None:
            name = type(target.problem.likelihood).__name__
            raise UsageError(
                f"No step size is known for the likelihood {name}.",
                "give one: -s sampler.delta=1e-4.",
            )
        prior = 1 / -math.expm1(-2 * self.options.tau)
        image = torch.ones((1, *target.problem.shape), dtype=target.dtype, device=target.device)
        return 1 / (prior + norm_squared(linear.operator, image) / linear.noise_var)


def _score(target: Target, x: Tensor, t: float) -> Tensor:
    """Score of ``p_t`` at ``x``: ``e^t`` times the variance-exploding score at ``e^t x``."""
    scale = math.exp(t)
    return scale * target.score(scale * x, noise_level(t))


def _langevin(
    target: Target, x: Tensor, drift: Tensor, delta: float, rng: ParticleRng, rows: slice
) -> Tensor:
    """``x + delta drift + sqrt(2 delta) xi``, within the support of the problem's constraint."""
    xi = rng.normal(rows, tuple(x.shape[1:]), x.dtype)
    x = x + delta * drift + math.sqrt(2 * delta) * xi
    return target.constrain_images(x)


def _info(target: Target, t: float, *, final: bool = False) -> Info:
    return Info(noise_level=noise_level(t), ess=float(target.n), final=final)
