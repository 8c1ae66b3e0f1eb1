"""Replica exchange across noise levels: one chain per level, with swaps between neighbours.

Parallel tempering with the noise level as temperature, after Zheng, Deng, Lin et al. (reflected
replica exchange Langevin dynamics, arXiv:2405.07839), without reflection. Targets are those of
`walmc`: ``mu_b ~ p_b exp(-R_s)`` with ``s^2 = b^2 - tau^2``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field

from tiltkit.posterior.level import Info
from tiltkit.sampling.gaussian.conditioning import Step
from tiltkit.sampling.particles.ladder import bounds, ladder
from tiltkit.sampling.state import State, planned
from tiltkit_baselines.exchange import Chain, step_down, swap_by_kernel, swap_by_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from tiltkit.sampling.particles.rng import ParticleRng
    from tiltkit.sampling.target import Target
    from tiltkit_baselines.exchange import Pair

__all__ = ["Replica", "ReplicaOptions"]


class ReplicaOptions(BaseModel):
    """Options of `Replica`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    levels: int = Field(24, ge=2, le=1000, description="noise levels, each with one chain")
    rounds: int = Field(
        40, ge=0, le=100000, description="rounds before samples are collected (burn-in)"
    )
    collect: int = Field(10, ge=1, le=100000, description="further rounds that count as samples")
    moves: int = Field(2, ge=1, le=100, description="Langevin moves of each chain per round")
    step: float = Field(0.3, gt=0, le=5, description="length of a move, in relaxation times")
    swap: Literal["kernel", "line"] = Field("kernel", description="kernel: swap by a reverse and "
                     "a forward step of the noise process; line: swap the particles themselves, "
                     "by line integrals of the score")  # fmt: skip
    nodes: int = Field(
        9, ge=3, le=101, description="points of a line integral; even numbers are raised by 1"
    )
    sigma_max: float | None = Field(
        None, gt=0, description="first noise level; the prior's largest when not given"
    )
    tau: float | None = Field(
        None, gt=0, description="last noise level; the prior's smallest when not given"
    )
    rho: float = Field(7.0, ge=1, le=1000, description="exponent of the ladder")


class Replica:
    """The sampler. Each particle is a system of chains, one per level; the coldest is the sample.

    The targets ``p_b exp(-R_s)`` of all levels are sampled side by side. Chains move by Langevin
    steps. Neighbours swap, even and odd pairs in turn. Modes that are separated at low noise are
    thereby visited through high noise, with the right weights.

    ``swap="line"`` exchanges the two particles. The density ratio of the prior is the integral of
    the difference of two scores along the line between them, by Simpson's rule. The integral is
    inexact for lines between distant modes, and acceptance falls with the dimension: for small
    problems. ``swap="kernel"`` moves the hot particle down by a reverse step of the noise process
    and the cold one up by a forward step. Its acceptance ratio needs the measurement only and does
    not depend on the distance of the particles. Like `walmc` it takes reverse steps to be Gaussian,
    which needs neighbouring levels within about 20 %. Images of full size need very many levels
    with either swap; see ``swap_rate_min`` in the certificate.

    A round costs ``levels * moves`` network calls, plus 2 (kernel) or ``2 * nodes - 2`` (line) for
    each of the pairs that are tried, half of all. Memory is that of all levels.

    Cite Zheng et al., ICML 2024, arXiv:2405.07839 (here without reflection and with exact
    gradients) and, for kernel swaps, Zhang et al., arXiv:2502.10328, with the reverse step of a
    diffusion as the transport.
    """

    Options = ReplicaOptions
    weighted: ClassVar[bool] = False

    def __init__(self, options: ReplicaOptions) -> None:
        self.options = options

    def levels(self, target: Target) -> list[float]:
        """Remaining rounds, down to 0; the first is that of `init`."""
        target.require_gaussian()
        return [float(left) for left in range(self.options.rounds + self.options.collect, -1, -1)]

    def next_level(
        self, target: Target, state: State | None, infos: Sequence[Info]
    ) -> float | None:
        """See `Sampler`."""
        return planned(self.levels(target), infos)

    def init(self, target: Target, level: float, rng: ParticleRng) -> tuple[State, Info]:
        """One pass down the ladder, each chain from the one above; mode weights are still wrong."""
        (first, s), *others = self._temperatures(target)
        parts = []
        for rows, x, _ in target.conditioned_gaussian(Step(first**2, s), rng):
            top = Chain(x, target.score_at(x, first), first, s)
            chains = [self._move(target, top, rng, rows)]
            for b, s_b in others:
                new = step_down(target, chains[-1], b, s_b, rng, rows)
                chains.append(self._move(target, new, rng, rows))
            parts.append(chains)
        return _state(parts, level), self._info(target, ())

    def step(
        self, target: Target, state: State, level: float, rng: ParticleRng
    ) -> tuple[State, Info]:
        """One round: all chains move, then every second pair of neighbours tries to swap."""
        temperatures = self._temperatures(target)
        pairs = range(len(temperatures) - 1)
        tried = pairs[int(level) % 2 :: 2]
        swaps = dict.fromkeys(tried, 0.0)
        parts = []
        for rows in target.chunks():
            chains = [
                self._move(target, _chain(state, rows, k, *at), rng, rows)
                for k, at in enumerate(temperatures)
            ]
            for k in tried:
                chains[k : k + 2], accepted = self._swap(target, chains[k : k + 2], rng, rows)
                swaps[k] += float(accepted.sum()) / target.n
            parts.append(chains)
        rates = tuple(swaps.get(k, math.nan) for k in pairs)
        final = level < self.options.collect
        return _state(parts, level), self._info(target, rates, final=final)

    def images(self, target: Target, state: State) -> Tensor:
        """See `Sampler`; particles of the coldest chains."""
        return target.images(state.c[:, -1])

    def scores(self, target: Target, state: State) -> Tensor:
        """See `Sampler`."""
        return target.images(state.score[:, -1])

    def _temperatures(self, target: Target) -> list[tuple[float, float]]:
        """Noise levels ``b`` of the chains, and the levels ``s`` of their potentials."""
        o = self.options
        first, last = bounds(target.problem.prior.sigma_range, o.sigma_max, o.tau)
        return [(b, math.sqrt(b**2 - last**2)) for b in ladder(first, last, o.levels, o.rho)]

    def _move(self, target: Target, chain: Chain, rng: ParticleRng, rows: slice) -> Chain:
        """The chain after ``moves`` Langevin moves."""
        # Acceptance of the last swap depends on the last noise. The first move of a round must
        # therefore not reuse it.
        x, score, last_noise = chain.x, chain.score, None
        step = Step(chain.level**2, chain.s, self.options.step)
        for _ in range(self.options.moves):
            x, last_noise = target.conditioning.move(x, score, step, last_noise, rng, rows)
            x, last_noise = target.constrain(x, last_noise)
            score = target.score_at(x, chain.level)
        return Chain(x, score, chain.level, chain.s)

    def _swap(
        self, target: Target, pair: Sequence[Chain], rng: ParticleRng, rows: slice
    ) -> tuple[Pair, Tensor]:
        hot, cold = pair
        if self.options.swap == "kernel":
            return swap_by_kernel(target, hot, cold, rng, rows)
        return swap_by_line(target, hot, cold, self.options.nodes | 1, rng, rows)

    def _info(self, target: Target, swaps: tuple[float, ...], *, final: bool = False) -> Info:
        tau = self._temperatures(target)[-1][0]
        return Info(noise_level=tau, ess=float(target.n), final=final, swaps=swaps)


def _state(parts: Sequence[Sequence[Chain]], level: float) -> State:
    """State with the chains of all chunks as tensors (particle, chain, ...)."""

    def merge_levels(tensors: Sequence[Sequence[Tensor]]) -> Tensor:
        return torch.cat([torch.stack(list(chains), 1) for chains in tensors])

    c = merge_levels([[chain.x for chain in chains] for chains in parts])
    score = merge_levels([[chain.score for chain in chains] for chains in parts])
    zero = torch.zeros(len(c), dtype=torch.float64, device=c.device)
    return State(c, score, zero, level)


def _chain(state: State, rows: slice, k: int, level: float, s: float) -> Chain:
    return Chain(state.c[rows, k], state.score[rows, k], level, s)
