"""Replica exchange across noise levels: chains at all levels at once, which swap places.

Parallel tempering with the noise level as temperature, after Zheng, Deng, Lin et al. (reflected
replica exchange Langevin dynamics); here without their reflection, as images have no walls.
Targets are those of `walmc`, ``mu_b ~ p_b exp(-R_s)`` with ``s^2 = b^2 - tau^2``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field

from tiltkit.posterior.level import Info
from tiltkit.sampling.gaussian.conditioning import Step
from tiltkit.sampling.particles.ladder import bounds, ladder
from tiltkit.sampling.samplers.start import (
    conditioned_gaussian,
    images_of,
    refuse_corrections,
    score_at,
)
from tiltkit.sampling.state import State, planned
from tiltkit_baselines.exchange import Chain, down, swapped_by_kernel, swapped_by_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from tiltkit.sampling.particles.rng import ParticleRng
    from tiltkit.sampling.target import Target
    from tiltkit_baselines.exchange import Pair

__all__ = ["Replica", "ReplicaOptions"]


class ReplicaOptions(BaseModel):
    """Settings of `Replica`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    levels: int = Field(24, ge=2, le=1000, description="noise levels, each with its own chain")
    rounds: int = Field(40, ge=0, le=100000, description="rounds before samples are collected")
    collect: int = Field(10, ge=1, le=100000, description="further rounds that count")
    moves: int = Field(2, ge=1, le=100, description="Langevin moves of each chain per round")
    step: float = Field(0.3, gt=0, le=5, description="length of a move, in relaxation times")
    swap: Literal["kernel", "line"] = Field("kernel", description="kernel: partners pass through "
                     "a step of the noise process; line: they change places as they are, by line "
                     "integrals of the score")  # fmt: skip
    nodes: int = Field(9, ge=3, le=101, description="points of a line integral, an odd number")
    sigma_max: float | None = Field(None, gt=0, description="first noise level; the prior's own")
    tau: float | None = Field(None, gt=0, description="last noise level; the prior's smallest")
    rho: float = Field(7.0, ge=1, le=1000, description="shape of the ladder")


class Replica:
    """Each particle is a whole system of chains, one per noise level; the coldest is the sample.

    Targets ``p_b exp(-R_s)`` at all levels side by side. Chains move by Langevin steps, and
    neighbours swap, even and odd pairs in turn, so that modes that are cut off from each other at
    low noise are visited by way of high noise, in the right proportions.

    ``swap="line"`` is the classical exchange of the two particles. The density ratio of the prior
    is the integral of the difference of two scores along the line between them, by Simpson's
    rule: it becomes inexact where the line crosses between far modes, and acceptance falls with
    the dimension, so it is for small problems. With ``swap="kernel"`` the
    hot particle takes a reverse step of the noise process down and the cold one a forward step
    up; the ratio then needs only the measurement (it is that of `walmc`'s weights), acceptance
    does not depend on the distance, and what is neglected is what `walmc` neglects, that a reverse
    step is Gaussian: it needs neighbouring levels within about 20 %. In images of full size both
    kinds need very many levels: look at ``swap_rate_min``.

    Costs per round ``levels * moves`` network calls, and for the half of all pairs that is tried
    2 (kernel) or ``2 * nodes - 2`` (line) more each; memory for all levels.

    Cite Zheng et al., Constrained exploration via reflected replica exchange stochastic gradient
    Langevin dynamics, ICML 2024, arXiv:2405.07839; no reflection here, and exact gradients. The
    kernel swaps are those of Zhang et al., Accelerated parallel tempering via neural transports,
    arXiv:2502.10328, with the reverse step of a diffusion as the transport.
    """

    Options = ReplicaOptions
    weighted: ClassVar[bool] = False

    def __init__(self, options: ReplicaOptions) -> None:
        self.options = options

    def levels(self, target: Target) -> list[float]:
        """Rounds that are left, down to 0; the first is for the start."""
        refuse_corrections(target)
        return [float(left) for left in range(self.options.rounds + self.options.collect, -1, -1)]

    def next_level(
        self, target: Target, state: State | None, infos: Sequence[Info]
    ) -> float | None:
        """See `Sampler`."""
        return planned(self.levels(target), infos)

    def init(self, target: Target, level: float, rng: ParticleRng) -> tuple[State, Info]:
        """Down the ladder once, each chain from the one above: mode weights are still wrong."""
        (first, s), *others = self._temperatures(target)
        parts = []
        for rows, x, _ in conditioned_gaussian(target, Step(first**2, s), rng):
            top = Chain(x, score_at(target, x, first), first, s)
            chains = [self._moved(target, top, rng, rows)]
            for b, s_b in others:
                new = down(target, chains[-1], b, s_b, rng, rows)
                chains.append(self._moved(target, new, rng, rows))
            parts.append(chains)
        return _state(parts, level), self._info(target, ())

    def step(
        self, target: Target, state: State, level: float, rng: ParticleRng
    ) -> tuple[State, Info]:
        """A round: all chains move, then every second pair of neighbours swaps."""
        temperatures = self._temperatures(target)
        pairs = range(len(temperatures) - 1)
        tried = pairs[int(level) % 2 :: 2]
        swaps = dict.fromkeys(tried, 0.0)
        parts = []
        for rows in target.chunks():
            chains = [
                self._moved(target, _chain(state, rows, k, *at), rng, rows)
                for k, at in enumerate(temperatures)
            ]
            for k in tried:
                chains[k : k + 2], accepted = self._swapped(target, chains[k : k + 2], rng, rows)
                swaps[k] += float(accepted.sum()) / target.n
            parts.append(chains)
        rates = tuple(swaps.get(k, math.nan) for k in pairs)
        final = level < self.options.collect
        return _state(parts, level), self._info(target, rates, final=final)

    def images(self, target: Target, state: State) -> Tensor:
        """See `Sampler`: the particles of the coldest chains."""
        return images_of(target, state.c[:, -1])

    def scores(self, target: Target, state: State) -> Tensor:
        """See `Sampler`."""
        return images_of(target, state.score[:, -1])

    def _temperatures(self, target: Target) -> list[tuple[float, float]]:
        """Noise levels of the prior, and those of their potentials."""
        o = self.options
        first, last = bounds(target.problem.prior.sigma_range, o.sigma_max, o.tau)
        return [(b, math.sqrt(b**2 - last**2)) for b in ladder(first, last, o.levels, o.rho)]

    def _moved(self, target: Target, chain: Chain, rng: ParticleRng, rows: slice) -> Chain:
        # Whether a particle swapped depends on its newest noise, which the first move of a round
        # therefore does not reuse.
        x, score, last_noise = chain.x, chain.score, None
        step = Step(chain.level**2, chain.s, self.options.step)
        for _ in range(self.options.moves):
            x, last_noise = target.conditioning.move(x, score, step, last_noise, rng, rows)
            x, last_noise = target.constrained(x, last_noise)
            score = score_at(target, x, chain.level)
        return Chain(x, score, chain.level, chain.s)

    def _swapped(
        self, target: Target, pair: Sequence[Chain], rng: ParticleRng, rows: slice
    ) -> tuple[Pair, Tensor]:
        hot, cold = pair
        if self.options.swap == "kernel":
            return swapped_by_kernel(target, hot, cold, rng, rows)
        return swapped_by_line(target, hot, cold, self.options.nodes | 1, rng, rows)

    def _info(self, target: Target, swaps: tuple[float, ...], *, final: bool = False) -> Info:
        tau = self._temperatures(target)[-1][0]
        return Info(noise_level=tau, ess=float(target.n), final=final, swaps=swaps)


def _state(parts: Sequence[Sequence[Chain]], level: float) -> State:
    """Chains of all chunks as tensors (particle, chain, ...)."""

    def merge_levels(tensors: Sequence[Sequence[Tensor]]) -> Tensor:
        return torch.cat([torch.stack(list(chains), 1) for chains in tensors])

    c = merge_levels([[chain.x for chain in chains] for chains in parts])
    score = merge_levels([[chain.score for chain in chains] for chains in parts])
    zero = torch.zeros(len(c), dtype=torch.float64, device=c.device)
    return State(c, score, zero, level)


def _chain(state: State, rows: slice, k: int, level: float, s: float) -> Chain:
    return Chain(state.c[rows, k], state.score[rows, k], level, s)
