"""Weighted annealed Langevin Monte Carlo (`walmc`).

The path of annealed Langevin (Parulekar et al., arXiv:2508.07631) in variance-exploding form, with
exact particle weights (twisted diffusion sampler: Wu et al., arXiv:2306.17775), systematic
resampling, and Langevin moves preconditioned by the measurement. Targets at noise level b:

    mu_b ~ p_b exp(-R_s),  S_s = noise_var I + s^2 A A^H,  s^2 = b^2 - tau^2

so that the last target, at ``tau``, has the exact likelihood. From level a to b < a, with
``gap = a^2 - b^2`` and the prior's reverse kernel ``N(m, v I)``:

    predict    m = x + gap score_a(x);  x' ~ N(m, v I) exp(-R_s) / Z(m)
    weigh      log w += log Z(m) + R_s(x)             R_s of the level before
    resample   where the effective sample size is small
    move       x <- x + e P g + noise,  g = score_b(x) + A^H S_s^-1 (y - A x)

No density of the prior is needed: integrating out ``x`` leaves ``p_b(x') exp(-R_s(x'))``. Only
Gaussian likelihoods have these potentials ``R_s``. Moves at the last level, which other samplers
share, take others too: `Correction` adds to the score what a Gaussian approximation lacks.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pydantic import Field

from tiltkit.posterior.level import Info
from tiltkit.sampling.gaussian.conditioning import LastNoise, Step
from tiltkit.sampling.jacobian import JacobianDiagonal, joined
from tiltkit.sampling.particles.ladder import bounds, ladder
from tiltkit.sampling.particles.weighing import resample, uneven, weigh
from tiltkit.sampling.particles.weights import ess
from tiltkit.sampling.samplers.options import WeightOptions
from tiltkit.sampling.settle import level_or_settling
from tiltkit.sampling.state import State, planned

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from tiltkit.sampling.particles.rng import ParticleRng
    from tiltkit.sampling.target import Target

__all__ = ["Walmc", "WalmcOptions"]


# Resample where the effective sample size is below this share of the particles. Measured with
# mixtures: 0.3 and 1 give the same distance to exact samples within scatter.
RESAMPLE_BELOW = 0.7


class WalmcOptions(WeightOptions):
    """Options of `Walmc`; noise levels are in the prior's units."""

    removed: ClassVar[dict[str, tuple[Any, str]]] = WeightOptions.removed | {
        "resample_below": (RESAMPLE_BELOW, "other values changed results within scatter only")
    }

    moves: int = Field(1, ge=0, le=100, description="Langevin moves per level")
    start_moves: int = Field(3, ge=0, le=1000, description="Langevin moves at the first level")


class Walmc:
    """The sampler. It costs ``moves + 1`` network calls per level and one per collected round."""

    Options = WalmcOptions
    weighted: ClassVar[bool] = True
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "draft": {"levels": 24, "collect": 2},
        "high": {"levels": 120, "collect": 8},
    }

    def __init__(self, options: WalmcOptions) -> None:
        self.options = options

    def levels(self, target: Target) -> list[float]:
        """The ladder; its last level is repeated to collect samples."""
        o = self.options
        first, last = bounds(target.problem.prior.sigma_range, o.sigma_max, o.tau)
        return ladder(first, last, o.levels, o.rho) + [last] * o.collect

    def next_level(
        self, target: Target, state: State | None, infos: Sequence[Info]
    ) -> float | None:
        """See `Sampler`."""
        level = planned(self.levels(target), infos)
        return level_or_settling(level, target, self, state, infos, self.options.settle)

    def init(self, target: Target, level: float, rng: ParticleRng) -> tuple[State, Info]:
        """Samples of the noised prior, taken as Gaussian, given the data; then Langevin moves.

        Raises:
            UsageError: The likelihood is not Gaussian.
        """
        target.require_gaussian()
        first = Step(level**2, self._potential_level(target, level))
        start = target.conditioned_gaussian(first, rng)
        c, noise = _concatenate([(c, last_noise) for _, c, last_noise in start])
        log_weight = torch.zeros(target.n, dtype=torch.float64)
        state = State(c, torch.empty_like(c), log_weight, level, noise)
        state = self._move(target, state, self.options.start_moves, rng)
        return state, Info(noise_level=level, ess=float(target.n))

    def step(
        self, target: Target, state: State, level: float, rng: ParticleRng
    ) -> tuple[State, Info]:
        """From noise level a to b <= a: predict, weigh, resample, move.

        ``b == a`` is a round of moves at the last level; its particles are samples.
        """
        if level == state.level:
            return self._collect(target, state, rng)
        o = self.options
        c, last_noise, increment = self._predict(target, state, level, rng)
        state = replace(state, c=c, level=level, last_noise=last_noise, likelihood_term=None)
        state, info = weigh(
            state, increment, rng, min_ess=o.min_ess, resample_below=RESAMPLE_BELOW,
            most_shared_ancestry=o.most_shared_ancestry,
        )  # fmt: skip
        return self._move(target, state, o.moves, rng), info

    def images(self, target: Target, state: State) -> Tensor:
        """See `Sampler`."""
        return target.images(state.c)

    def scores(self, target: Target, state: State) -> Tensor:
        """See `Sampler`."""
        return target.images(state.score)

    def _potential_level(self, target: Target, level: float) -> float:
        """``s = sqrt(level^2 - tau^2)``, the level of the potential; 0 at the last level."""
        _, tau = bounds(target.problem.prior.sigma_range, self.options.sigma_max, self.options.tau)
        return math.sqrt(max(level**2 - tau**2, 0.0))  # rounding may put the last level below tau

    def _predict(
        self, target: Target, state: State, level: float, rng: ParticleRng
    ) -> tuple[Tensor, LastNoise | None, Tensor]:
        """Samples of the conditioned reverse kernel, their noise, and the log of their weights."""
        a, b, conditioning = state.level, level, target.conditioning
        s = self._potential_level(target, a)
        gap = a**2 - b**2
        step = Step(state.kernel_variance(b), self._potential_level(target, b))
        parts, increments = [], []
        for rows in target.chunks():
            x = state.c[rows]
            m = torch.add(x, state.score[rows], alpha=gap)
            predicted, noise, log_z = conditioning.predict(m, step, rng, rows)
            new, last_noise = target.constrain(predicted, noise)
            increments.append(log_z + conditioning.potential(x, s))
            parts.append((new, last_noise))
        return *_concatenate(parts), joined(increments)

    def _move(
        self, target: Target, state: State, moves: int, rng: ParticleRng, *, scored: bool = False
    ) -> State:
        """Langevin moves that leave the level's target nearly invariant, and the new score.

        Args:
            target: The problem.
            state: Particles at their level.
            moves: Number of moves.
            rng: Randomness.
            scored: True where the state's score is already that of its particles at this level.
        """
        level = state.level
        known = min(max(state.mean_jacobian, 0.0), 1.0) if scored else 0.0
        step = Step(level**2, self._potential_level(target, level), self.options.step, known)
        parts, scores, jacobian = [], [], JacobianDiagonal(target)
        for rows in target.chunks():
            x, last_noise = state.c[rows], state.last_noise and state.last_noise.at(rows)
            s = state.score[rows] if scored else target.score_at(x, level)
            for _ in range(moves):
                old, old_score = x, s
                drift = self._drift(target, x, s, step)
                x, last_noise = target.conditioning.move(x, drift, step, last_noise, rng, rows)
                x, last_noise = target.constrain(x, last_noise)
                s = target.score_at(x, level)
            if moves and not scored:
                moved = x - old
                # The denoiser D = x + b^2 score changes by about J times the move.
                jacobian.add(rows, moved, torch.add(moved, s - old_score, alpha=level**2))
            scores.append(s)
            parts.append((x, last_noise))
        c, noise = _concatenate(parts)
        mean = state.mean_jacobian if scored else jacobian.means[0]
        return replace(state, c=c, score=joined(scores), last_noise=noise, mean_jacobian=mean)

    def _drift(self, target: Target, c: Tensor, score: Tensor, step: Step) -> Tensor:
        """The prior's score, plus the correction's force where the likelihood is not Gaussian."""
        if target.correction is None:
            return score
        force = target.correction.force(target.conditioning.image(c), math.sqrt(step.v))
        return score + target.conditioning.coordinates(force)

    def _collect(self, target: Target, state: State, rng: ParticleRng) -> tuple[State, Info]:
        """One round of moves of equally weighted particles at the last level."""
        info = Info(noise_level=state.level, ess=ess(state.log_weight), final=True)
        if uneven(state.log_weight):
            state = resample(state, rng)
        return self._move(target, state, 1, rng, scored=True), info


def _concatenate(
    parts: Sequence[tuple[Tensor, LastNoise | None]],
) -> tuple[Tensor, LastNoise | None]:
    """All particles, and their last noise, from those of the chunks."""
    if len(parts) == 1:
        return parts[0]
    c = torch.cat([x for x, _ in parts])
    first = parts[0][1]
    xi = [noise.xi for _, noise in parts if noise is not None]
    return c, replace(first, xi=torch.cat(xi)) if first is not None else None
