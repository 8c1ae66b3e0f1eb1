"""Chains of a replica exchange, and two swaps between neighbouring noise levels.

Symbols as in `tiltkit.sampling.samplers.walmc`: reverse kernel ``N(m, v I)``, potentials ``R_s``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from tiltkit.priors.score import reverse_variance
from tiltkit.sampling.gaussian.conditioning import Step

if TYPE_CHECKING:
    from torch import Tensor

    from tiltkit.sampling.particles.rng import ParticleRng
    from tiltkit.sampling.target import Target

__all__ = ["Chain", "Pair", "step_down", "swap_by_kernel", "swap_by_line"]


@dataclass(frozen=True, slots=True)
class Chain:
    """A chunk of particles at one noise level, in the coordinates of `Conditioning`.

    Attributes:
        x: Particles (particle, ...).
        score: Score of the prior at ``x`` and this level, shaped as ``x``.
        level: Noise level of the prior.
        s: Noise level of the potential ``R_s``.
    """

    x: Tensor
    score: Tensor
    level: float
    s: float


Pair = tuple[Chain, Chain]


def step_down(
    target: Target, hot: Chain, b: float, s: float, rng: ParticleRng, rows: slice
) -> Chain:
    """Particles after a reverse step to noise level ``b``, given the data; one network call."""
    x, _ = _reverse(target, hot, b, s, rng, rows)
    return Chain(x, target.score_at(x, b), b, s)


def swap_by_line(
    target: Target, hot: Chain, cold: Chain, nodes: int, rng: ParticleRng, rows: slice
) -> tuple[Pair, Tensor]:
    """Exchange of the particles of two neighbours, and a mask of accepted swaps (particle,).

    The log of ``p_a(x_b) p_b(x_a) / (p_a(x_a) p_b(x_b))`` is the integral of ``score_a - score_b``
    along the line from ``x_a`` to ``x_b``, computed by Simpson's rule.

    Args:
        target: The problem.
        hot: Chain at level a.
        cold: Chain at level b < a.
        nodes: Number of points of Simpson's rule, odd.
        rng: Randomness.
        rows: The particles of this chunk.
    """
    conditioning, gap = target.conditioning, cold.x - hot.x
    hot_below = target.score_at(hot.x, cold.level)
    cold_above = target.score_at(cold.x, hot.level)
    integral = _dot(hot.score - hot_below, gap) + _dot(cold_above - cold.score, gap)
    for i in range(1, nodes - 1):
        x = hot.x + i / (nodes - 1) * gap
        difference = target.score_at(x, hot.level) - target.score_at(x, cold.level)
        integral += (4 if i % 2 else 2) * _dot(difference, gap)  # Simpson's rule
    log_ratio = integral / (3 * (nodes - 1))
    log_ratio += conditioning.potential(hot.x, hot.s) - conditioning.potential(cold.x, hot.s)
    log_ratio += conditioning.potential(cold.x, cold.s) - conditioning.potential(hot.x, cold.s)
    accepted = _accept(log_ratio, rng, rows)
    up = Chain(cold.x, cold_above, hot.level, hot.s)
    lower = Chain(hot.x, hot_below, cold.level, cold.s)
    return (_choose(accepted, up, hot), _choose(accepted, lower, cold)), accepted


def swap_by_kernel(
    target: Target, hot: Chain, cold: Chain, rng: ParticleRng, rows: slice
) -> tuple[Pair, Tensor]:
    """Exchange by a reverse step of the hot particle and a forward step of the cold one.

    With ``p_b(x') N(x; x', a^2 - b^2) = p_a(x) N(x'; m(x), v)`` the prior cancels in the acceptance
    ratio. It is ``Z_b(m(x)) exp(R_a(x))``, the weight of `walmc`, of the old hot particle over that
    of the new one.

    Args:
        target: The problem.
        hot: Chain at level a.
        cold: Chain at level b < a.
        rng: Randomness.
        rows: The particles of this chunk.

    Returns:
        Both chains, and a mask of accepted swaps (particle,).
    """
    conditioning, variance = target.conditioning, hot.level**2 - cold.level**2
    new, log_z = _reverse(target, hot, cold.level, cold.s, rng, rows)
    xi = conditioning.coordinates(rng.normal(rows, target.problem.shape, target.dtype))
    x = target.constrain(cold.x + math.sqrt(variance) * xi, None)[0]
    up = Chain(x, target.score_at(x, hot.level), hot.level, hot.s)
    m, step = _kernel(up, cold.level, cold.s)
    back = -conditioning.potential(m, math.sqrt(step.s**2 + step.v))
    log_ratio = (
        log_z + conditioning.potential(hot.x, hot.s) - back - conditioning.potential(x, hot.s)
    )
    accepted = _accept(log_ratio, rng, rows)
    lower = Chain(new, target.score_at(new, cold.level), cold.level, cold.s)
    return (_choose(accepted, up, hot), _choose(accepted, lower, cold)), accepted


def _kernel(chain: Chain, b: float, s: float) -> tuple[Tensor, Step]:
    """Mean ``m`` and variance ``v`` of the prior's reverse kernel to level ``b``."""
    m = chain.x + (chain.level**2 - b**2) * chain.score
    return m, Step(reverse_variance(chain.level, b), s)


def _reverse(
    target: Target, chain: Chain, b: float, s: float, rng: ParticleRng, rows: slice
) -> tuple[Tensor, Tensor]:
    """Samples of ``N(m, v I) exp(-R_s) / Z(m)``, and ``log Z(m)``, (particle,) float64."""
    m, step = _kernel(chain, b, s)
    x, _, log_z = target.conditioning.predict(m, step, rng, rows)
    return target.constrain(x, None)[0], log_z


def _accept(log_ratio: Tensor, rng: ParticleRng, rows: slice) -> Tensor:
    """Metropolis test: True with probability ``min(1, exp(log_ratio))``, (particle,)."""
    log_uniform: Tensor = torch.special.log_ndtr(rng.normal(rows, (), torch.float64))
    return log_uniform < log_ratio


def _choose(accepted: Tensor, new: Chain, old: Chain) -> Chain:
    """The new particles where accepted, the old ones elsewhere."""
    mask = accepted.view(-1, *[1] * (old.x.ndim - 1))

    def choose(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(mask, a, b)

    return Chain(choose(new.x, old.x), choose(new.score, old.score), old.level, old.s)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner products of particles, (particle,) float64."""
    return (a.double() * b.double()).flatten(1).sum(1)
