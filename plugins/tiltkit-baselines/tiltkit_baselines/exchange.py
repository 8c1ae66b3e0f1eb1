"""Two neighbouring chains of a replica exchange, and the two ways in which they swap."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from tiltkit.priors.score import reverse_variance
from tiltkit.sampling.gaussian.conditioning import Step
from tiltkit.sampling.samplers.start import score_at

if TYPE_CHECKING:
    from torch import Tensor

    from tiltkit.sampling.particles.rng import ParticleRng
    from tiltkit.sampling.target import Target

__all__ = ["Chain", "Pair", "down", "swapped_by_kernel", "swapped_by_line"]


@dataclass(frozen=True, slots=True)
class Chain:
    """A chunk of particles at one noise level, in the tilt's coordinates.

    Attributes:
        x: (particle, ...).
        score: Of the prior at ``x`` and this level.
        level: Noise level of the prior.
        s: Level of the potential.
    """

    x: Tensor
    score: Tensor
    level: float
    s: float


Pair = tuple[Chain, Chain]


def down(target: Target, hot: Chain, b: float, s: float, rng: ParticleRng, rows: slice) -> Chain:
    """Particles after a tilted reverse step to noise level ``b``; costs one network call."""
    x, _ = _reverse(target, hot, b, s, rng, rows)
    return Chain(x, score_at(target, x, b), b, s)


def swapped_by_line(
    target: Target, hot: Chain, cold: Chain, nodes: int, rng: ParticleRng, rows: slice
) -> tuple[Pair, Tensor]:
    """Neighbours after an exchange of particles, and who took part (particle,).

    The log of ``p_a(x_b) p_b(x_a) / (p_a(x_a) p_b(x_b))`` is the integral of ``score_a - score_b``
    along the line from ``x_a`` to ``x_b``.
    """
    conditioning, gap = target.conditioning, cold.x - hot.x
    hot_below = score_at(target, hot.x, cold.level)
    cold_above = score_at(target, cold.x, hot.level)
    integral = _dot(hot.score - hot_below, gap) + _dot(cold_above - cold.score, gap)
    for i in range(1, nodes - 1):
        x = hot.x + i / (nodes - 1) * gap
        difference = score_at(target, x, hot.level) - score_at(target, x, cold.level)
        integral += (4 if i % 2 else 2) * _dot(difference, gap)  # Simpson's rule
    log_ratio = integral / (3 * (nodes - 1))
    log_ratio += conditioning.potential(hot.x, hot.s) - conditioning.potential(cold.x, hot.s)
    log_ratio += conditioning.potential(cold.x, cold.s) - conditioning.potential(hot.x, cold.s)
    accepted = _accepted(log_ratio, rng, rows)
    up = Chain(cold.x, cold_above, hot.level, hot.s)
    lower = Chain(hot.x, hot_below, cold.level, cold.s)
    return (_chosen(accepted, up, hot), _chosen(accepted, lower, cold)), accepted


def swapped_by_kernel(
    target: Target, hot: Chain, cold: Chain, rng: ParticleRng, rows: slice
) -> tuple[Pair, Tensor]:
    """Neighbours after a tilted reverse step down and a forward step up, and who took part.

    With ``p_b(x') N(x; x', a^2 - b^2) = p_a(x) N(x'; m(x), v)`` the prior drops out of the ratio,
    which is ``Z_b(m(x)) exp(R_a(x))`` of the particle on its way down over that of the one that
    came up: of weights of `walmc`.
    """
    conditioning, variance = target.conditioning, hot.level**2 - cold.level**2
    new, log_z = _reverse(target, hot, cold.level, cold.s, rng, rows)
    xi = conditioning.coordinates(rng.normal(rows, target.problem.shape, target.dtype))
    x = target.constrained(cold.x + math.sqrt(variance) * xi, None)[0]
    up = Chain(x, score_at(target, x, hot.level), hot.level, hot.s)
    m, step = _kernel(up, cold.level, cold.s)
    back = -conditioning.potential(m, math.sqrt(step.s**2 + step.v))
    log_ratio = (
        log_z + conditioning.potential(hot.x, hot.s) - back - conditioning.potential(x, hot.s)
    )
    accepted = _accepted(log_ratio, rng, rows)
    lower = Chain(new, score_at(target, new, cold.level), cold.level, cold.s)
    return (_chosen(accepted, up, hot), _chosen(accepted, lower, cold)), accepted


def _kernel(chain: Chain, b: float, s: float) -> tuple[Tensor, Step]:
    """Centre and variance of the prior's reverse step to level ``b``."""
    centre = chain.x + (chain.level**2 - b**2) * chain.score
    return centre, Step(reverse_variance(chain.level, b), s)


def _reverse(
    target: Target, chain: Chain, b: float, s: float, rng: ParticleRng, rows: slice
) -> tuple[Tensor, Tensor]:
    """Tilted reverse step, and the log of its normaliser."""
    m, step = _kernel(chain, b, s)
    x, _, log_z = target.conditioning.predict(m, step, rng, rows)
    return target.constrained(x, None)[0], log_z


def _accepted(log_ratio: Tensor, rng: ParticleRng, rows: slice) -> Tensor:
    log_uniform: Tensor = torch.special.log_ndtr(rng.normal(rows, (), torch.float64))
    return log_uniform < log_ratio


def _chosen(accepted: Tensor, new: Chain, old: Chain) -> Chain:
    """The new particles where accepted, the old ones elsewhere."""
    mask = accepted.view(-1, *[1] * (old.x.ndim - 1))

    def choose(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(mask, a, b)

    return Chain(choose(new.x, old.x), choose(new.score, old.score), old.level, old.s)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner product of each particle, float64 (particle,)."""
    return (a.double() * b.double()).flatten(1).sum(1)
