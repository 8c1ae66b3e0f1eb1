"""Weighted annealed Langevin Monte Carlo: the default sampler for linear-Gaussian measurements.

Annealed Langevin (Parulekar et al., arXiv:2508.07631) on a variance-exploding path, with particle
weights that are exact without any density of the prior, twisted predictions (Wu et al.,
arXiv:2306.17775), systematic resampling, and Langevin moves preconditioned by the measurement.
Targets at noise level s: ``mu_s ~ p_s exp(-R_s)``, ``R_s`` with covariance
``noise_var I + s^2 A A^H`` (algorithm.md, section 4).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from pydantic import BaseModel, ConfigDict, Field

from tiltkit.sampling.ladder import bounds, ladder
from tiltkit.sampling.particles import ess, flatten, path_kl, systematic
from tiltkit.sampling.state import Info, State

if TYPE_CHECKING:
    from torch import Tensor

    from tiltkit.sampling.draw import Draw
    from tiltkit.sampling.target import Target

__all__ = ["Walmc", "WalmcOptions"]


class WalmcOptions(BaseModel):
    """Settings of `Walmc`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    levels: int = Field(48, ge=2, le=10000, description="noise levels of the ladder")
    moves: int = Field(1, ge=0, le=100, description="Langevin moves per level")
    step: float = Field(0.5, gt=0, le=5, description="length of a move, in relaxation times")
    adjust_above: float = Field(
        0.3, ge=0, le=1.1, description="use the Metropolis test where at least this share passes"
    )
    start_moves: int = Field(3, ge=0, le=1000, description="Langevin moves at the first level")
    collect: int = Field(4, ge=0, le=10000, description="rounds of moves at the last level that "
                         "count towards mean, spread and quantiles")  # fmt: skip
    sigma_max: float | None = Field(None, gt=0, description="first noise level; the prior's own")
    tau: float | None = Field(None, gt=0, description="last noise level; the prior's smallest")
    rho: float = Field(
        7.0, ge=1, le=1000, description="shape of the ladder: larger gives a more constant ratio"
    )
    resample_below: float = Field(
        0.5, gt=0, le=1, description="resample when the ESS falls below this share"
    )
    flatten_below: float = Field(
        0.25, ge=0, lt=1, description="flatten weights that would take the ESS below this share"
    )


class Walmc:
    """The sampler. Two network calls per level with one move: before the move, and after it."""

    Options = WalmcOptions
    weighted: ClassVar[bool] = True

    def __init__(self, options: WalmcOptions) -> None:
        self.options = options

    def levels(self, target: Target) -> list[float]:
        """The ladder; its last level repeated to collect samples."""
        o = self.options
        first, last = bounds(target.problem.prior.sigma_range, o.sigma_max, o.tau)
        return ladder(first, last, o.levels, o.rho) + [last] * o.collect

    def init(self, target: Target, level: float, draw: Draw) -> tuple[State, Info]:
        """Draw from the tilted Gaussian around the prior's mean, then let the particles relax."""
        shape = (1, *target.problem.shape)
        zero = torch.zeros(shape, dtype=target.dtype, device=target.device)
        mean = target.tilt.coordinates(level**2 * target.problem.prior.score(zero, level))
        c = torch.cat(
            [
                target.tilt.predict(mean.expand(rows.stop - rows.start, *mean.shape[1:]),
                                    level**2, level, draw, rows)
                for rows in target.chunks()
            ]
        )  # fmt: skip
        log_weight = torch.zeros(target.n, dtype=torch.float64, device=target.device)
        state = self._relax(target, c, log_weight, level, self.options.start_moves, draw)
        return state, Info(noise_level=level, ess=float(target.n))

    def step(self, target: Target, state: State, level: float, draw: Draw) -> tuple[State, Info]:
        """From noise level a to b <= a: predict, weigh, resample, move (algorithm.md, section 4).

        ``b == a`` is a round of moves at the last level; its particles are samples.
        """
        if level == state.level:
            return self._collect(target, state, draw)
        c, increment = self._predict(target, state, level, draw)
        power = flatten(increment, state.log_weight, self.options.flatten_below * target.n)
        log_weight = state.log_weight + power * increment
        resample = ess(log_weight) < self.options.resample_below * target.n
        info = Info(
            noise_level=level,
            ess=ess(state.log_weight + increment),
            log_evidence=_log_ratio(increment, state.log_weight),
            kl=path_kl(increment, state.log_weight),
            temper=power,
            resampled=resample,
        )
        if resample:
            c, log_weight = _resampled(c, log_weight, draw)
        return self._relax(target, c, log_weight, level, self.options.moves, draw), info

    def images(self, target: Target, state: State) -> Tensor:
        """See `Sampler`."""
        return torch.cat([target.tilt.image(state.c[rows]) for rows in target.chunks()])

    def scores(self, target: Target, state: State) -> Tensor:
        """See `Sampler`."""
        return torch.cat([target.tilt.image(state.score[rows]) for rows in target.chunks()])

    def _predict(
        self, target: Target, state: State, level: float, draw: Draw
    ) -> tuple[Tensor, Tensor]:
        """Twisted reverse step of every particle, and the log of its exact weight."""
        a, b, tilt = state.level, level, target.tilt
        gap = a**2 - b**2
        v = b**2 * gap / a**2
        c = torch.empty_like(state.c)
        increment = torch.empty_like(state.log_weight)
        for rows in target.chunks():
            x = state.c[rows]
            m = torch.add(x, state.score[rows], alpha=gap)
            increment[rows] = tilt.log_z(m, v, b) + tilt.potential(x, a)
            c[rows] = tilt.predict(m, v, b, draw, rows)
        return c, increment

    def _relax(
        self, target: Target, c: Tensor, log_weight: Tensor, level: float, moves: int, draw: Draw
    ) -> State:
        """Langevin moves that leave the level's target nearly invariant; the score goes along."""
        score = torch.empty_like(c)
        for rows in target.chunks():
            x = c[rows]
            s = self._score(target, x, level)
            for _ in range(moves):
                x, s = self._move(target, x, s, level, draw, rows)
            c[rows], score[rows] = x, s
        return State(c, score, log_weight, level)

    def _move(
        self, target: Target, c: Tensor, s: Tensor, level: float, draw: Draw, rows: slice
    ) -> tuple[Tensor, Tensor]:
        """One Langevin step, with a Metropolis test where particles can pass it."""
        h = self.options.step
        new = target.tilt.move(c, s, level, h, draw, rows)
        s_new = self._score(target, new, level)
        log_accept = target.tilt.log_accept((c, s), (new, s_new), level, h)
        u = draw.uniforms(rows)
        if float(log_accept.exp().clamp_max(1).mean()) < self.options.adjust_above:
            return new, s_new
        stay = (u.log() > log_accept).view(-1, *[1] * (c.ndim - 1))
        return torch.where(stay, c, new), torch.where(stay, s, s_new)

    def _score(self, target: Target, c: Tensor, level: float) -> Tensor:
        tilt = target.tilt
        return tilt.coordinates(target.score(tilt.image(c), level))

    def _collect(self, target: Target, state: State, draw: Draw) -> tuple[State, Info]:
        """A round of moves with equal weights at the last level."""
        c, log_weight = state.c.clone(), state.log_weight
        info = Info(noise_level=state.level, ess=ess(log_weight), final=True)
        if bool((log_weight != log_weight[0]).any()):
            c, log_weight = _resampled(c, log_weight, draw)
        return self._relax(target, c, log_weight, state.level, 1, draw), info


def _resampled(c: Tensor, log_weight: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
    survivors = systematic(log_weight, draw.uniform())
    return c[survivors], torch.zeros_like(log_weight)


def _log_ratio(increment: Tensor, log_weight: Tensor) -> float:
    return float(torch.logsumexp(increment + torch.log_softmax(log_weight, 0), 0))
