"""Weighted annealed Langevin Monte Carlo.

Annealed Langevin (Parulekar et al., arXiv:2508.07631) on a variance-exploding path, with particle
weights that are exact without any density of the prior, twisted predictions (Wu et al.,
arXiv:2306.17775), systematic resampling, and Langevin moves preconditioned by the measurement.
Targets at noise level b: ``mu_b ~ p_b exp(-R_s)``, ``R_s`` with covariance
``noise_var I + s^2 A A^H`` and ``s^2 = b^2 - tau^2``, so that the last one, at ``tau``, has the
measurement's own potential. Likelihoods that are not Gaussian bring a Gaussian approximation for
``R_s``; what it misses is part of targets, weights and moves (`Correction`).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pydantic import Field

from tiltkit.posterior.level import Info
from tiltkit.sampling.gaussian.conditioning import LastNoise, Step
from tiltkit.sampling.jacobian import JacobianDiagonal
from tiltkit.sampling.particles.ladder import adaptive_level, bounds, ladder
from tiltkit.sampling.particles.weighing import (
    resampled,
    uneven,
    weigh,
)
from tiltkit.sampling.particles.weights import ess, path_kl
from tiltkit.sampling.samplers.options import WeightOptions
from tiltkit.sampling.samplers.start import conditioned_gaussian, images_of, score_at
from tiltkit.sampling.state import State, planned

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from tiltkit.sampling.particles.rng import ParticleRng
    from tiltkit.sampling.target import Target

__all__ = ["Walmc", "WalmcOptions"]


class WalmcOptions(WeightOptions):
    """Settings of `Walmc`."""

    moves: int = Field(1, ge=0, le=100, description="Langevin moves per level")
    start_moves: int = Field(3, ge=0, le=1000, description="Langevin moves at the first level")


class Walmc:
    """The sampler. Two network calls per level with one move: before the move, and after it."""

    Options = WalmcOptions
    weighted: ClassVar[bool] = True
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "draft": {"levels": 24, "collect": 2},
        "high": {"levels": 120, "collect": 8},
    }

    def __init__(self, options: WalmcOptions) -> None:
        self.options = options

    def levels(self, target: Target) -> list[float]:
        """The ladder; its last level repeated to collect samples."""
        o = self.options
        first, last = bounds(target.problem.prior.sigma_range, o.sigma_max, o.tau)
        return ladder(first, last, o.levels, o.rho) + [last] * o.collect

    def next_level(
        self, target: Target, state: State | None, infos: Sequence[Info]
    ) -> float | None:
        """As planned, or where weights are used, so that all levels make them equally uneven."""
        levels = self.levels(target)
        plan = levels[: self.options.levels]
        if state is None or not self.options.adapt or not target.conditioning.normalised:
            return planned(levels, infos)
        if state.level == plan[-1]:
            return plan[-1] if len(infos) < len(levels) else None
        path = [info.noise_level for info in infos]
        return adaptive_level(
            path,
            [info.kl for info in infos],
            lambda level: self._kl(target, state, level),
            plan,
            self.options.rho,
        )

    def init(self, target: Target, level: float, rng: ParticleRng) -> tuple[State, Info]:
        """Draw from the tilted Gaussian around the prior's mean, then let the particles relax."""
        first = Step(level**2, self._potential_level(target, level))
        start = conditioned_gaussian(target, first, rng)
        c, noise = _joined([(c, last_noise) for _, c, last_noise in start])
        log_weight = torch.zeros(target.n, dtype=torch.float64, device=target.device)
        state = State(c, torch.empty_like(c), log_weight, level, noise)
        state = self._relax(target, state, self.options.start_moves, rng)
        return state, Info(noise_level=level, ess=float(target.n))

    def step(
        self, target: Target, state: State, level: float, rng: ParticleRng
    ) -> tuple[State, Info]:
        """From noise level a to b <= a: predict, weigh, resample, move.

        ``b == a`` is a round of moves at the last level; its particles are samples.
        """
        if level == state.level:
            return self._collect(target, state, rng)
        c, last_noise, increment = self._predict(target, state, level, rng)
        log_weight, info = weigh(
            level, increment, state.log_weight, shared_ancestry=state.shared_ancestry,
            min_ess=self.options.min_ess, resample_below=self.options.resample_below,
            most_shared_ancestry=self.options.most_shared_ancestry,
        )  # fmt: skip
        state = replace(
            state,
            c=c,
            log_weight=log_weight,
            level=level,
            last_noise=last_noise,
            likelihood_term=None,
        )
        if info.resampled:
            state = resampled(state, rng)
        return self._relax(target, state, self.options.moves, rng), info

    def images(self, target: Target, state: State) -> Tensor:
        """See `Sampler`."""
        return images_of(target, state.c)

    def scores(self, target: Target, state: State) -> Tensor:
        """See `Sampler`."""
        return images_of(target, state.score)

    def _potential_level(self, target: Target, level: float) -> float:
        """``s`` of the potential that belongs to a noise level of the prior; 0 at the last one."""
        _, tau = bounds(target.problem.prior.sigma_range, self.options.sigma_max, self.options.tau)
        return math.sqrt(level**2 - tau**2)

    def _predict(
        self, target: Target, state: State, level: float, rng: ParticleRng
    ) -> tuple[Tensor, LastNoise | None, Tensor]:
        """Twisted reverse step of every particle, and the log of its exact weight."""
        a, b, conditioning = state.level, level, target.conditioning
        s = self._potential_level(target, a)
        gap = a**2 - b**2
        step = Step(state.kernel(b), self._potential_level(target, b))
        increment = torch.empty_like(state.log_weight)
        parts = []
        for rows in target.chunks():
            x = state.c[rows]
            m = torch.add(x, state.score[rows], alpha=gap)
            passage = None
            if target.correction is not None:
                passage = target.correction.along(conditioning, x, m, s, step)
                m = m + passage.shift
            predicted, noise, log_z = conditioning.predict(m, step, rng, rows)
            new, last_noise = target.constrained(predicted, noise)
            increment[rows] = log_z + conditioning.potential(x, s)
            if passage is not None:
                increment[rows] += passage.log_weight(new)
            parts.append((new, last_noise))
        return *_joined(parts), increment

    def _kl(self, target: Target, state: State, level: float) -> float:
        """What a level would add to the KL bound, without a draw or a network call."""
        gap = state.level**2 - level**2
        s, s_new = (self._potential_level(target, b) for b in (state.level, level))
        spread = math.sqrt(s_new**2 + state.kernel(level))
        conditioning = target.conditioning
        increment = torch.cat([
            conditioning.potential(state.c[rows], s)
            - conditioning.potential(state.c[rows] + gap * state.score[rows], spread)
            for rows in target.chunks()
        ])  # fmt: skip
        return path_kl(increment, state.log_weight)

    def _relax(
        self, target: Target, state: State, moves: int, rng: ParticleRng, *, known: bool = False
    ) -> State:
        """Langevin moves that leave the level's target nearly invariant, and the new score.

        ``known`` says that the state's score is that of its particles already.
        """
        level = state.level
        step = Step(level**2, self._potential_level(target, level), self.options.step)
        score, mean_jacobian = torch.empty_like(state.c), JacobianDiagonal(target)
        parts = []
        for rows in target.chunks():
            x, last_noise = state.c[rows], state.last_noise and state.last_noise.at(rows)
            s = state.score[rows] if known else score_at(target, x, level)
            for _ in range(moves):
                old, old_score = x, s
                drift = self._drift(target, x, s, step)
                x, last_noise = target.conditioning.move(x, drift, step, last_noise, rng, rows)
                x, last_noise = target.constrained(x, last_noise)
                s = score_at(target, x, level)
            if moves and not known:
                moved = x - old
                # Of the denoised particle, by as much as the particle moved.
                mean_jacobian.add(rows, moved, torch.add(moved, s - old_score, alpha=level**2))
            score[rows] = s
            parts.append((x, last_noise))
        c, noise = _joined(parts)
        return replace(state, c=c, score=score, last_noise=noise, mean_jacobian=mean_jacobian.value)

    def _drift(self, target: Target, c: Tensor, score: Tensor, step: Step) -> Tensor:
        """The prior's score, plus the force of what a Gaussian likelihood misses."""
        if target.correction is None:
            return score
        force = target.correction.force(target.conditioning.image(c), math.sqrt(step.v), step.s)
        return score + target.conditioning.coordinates(force)

    def _collect(self, target: Target, state: State, rng: ParticleRng) -> tuple[State, Info]:
        """A round of moves with equal weights at the last level."""
        info = Info(noise_level=state.level, ess=ess(state.log_weight), final=True)
        if uneven(state.log_weight):
            state = resampled(state, rng)
        return self._relax(target, state, 1, rng, known=True), info


def _joined(parts: Sequence[tuple[Tensor, LastNoise | None]]) -> tuple[Tensor, LastNoise | None]:
    """Chunks of particles and of their newest noise as one."""
    if len(parts) == 1:
        return parts[0]
    first, noises = (
        parts[0][1],
        [last_noise.xi for _, last_noise in parts if last_noise is not None],
    )
    c = torch.cat([x for x, _ in parts])
    return c, replace(first, xi=torch.cat(noises)) if first is not None else None
