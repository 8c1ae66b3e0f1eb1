"""Moment matching without back-propagation (`moments`), on the path of annealed Langevin.

The noised posteriors of annealed Langevin (Parulekar et al., arXiv:2508.07631) are followed from
noise level to noise level. The image given its noisy version, ``x0 | x_a``, is taken as Gaussian
with the mean and the covariance that the prior's score implies (moment matching: Rozet et al.,
arXiv:2405.13712; Boys et al., arXiv:2310.06721). Here the covariance is applied by finite
differences of the score, so that nothing is propagated back through a network.

The last target is ``p_tau exp(-R)``: the prior noised up to the last level ``tau``, with the exact
likelihood. An image of ``p_tau`` therefore counts as clean, and noise above ``tau`` is
``s_a^2 = a^2 - tau^2``. One level, from a to b < a, with ``gap = a^2 - b^2``:

    D = x + s_a^2 score_a(x)                       mean of the clean image given x
    w = (noise_var I + s_a^2 A J A^H)^-1 (y - A D)                  J: Jacobian of D
    g = J A^H w                                    E[clean image | x, y] = D + s_a^2 g
    x' = x + gap (score_a(x) + g) + sqrt(s_b^2 gap / s_a^2) xi + (gap / s_a^2) e
    e ~ N(0, (C^-1 + A^H A / noise_var)^-1)        C = s_a^2 j, j: diagonal of J

For a Gaussian prior with a stationary covariance every step is exact, whatever its length. The
system for ``w`` is solved with ``C`` in the place of ``s_a^2 J``; each of the solutions is a
direction of a conjugate gradient method whose product with ``J`` is measured:

    J v = (D(x + d v / |v|) - D(x)) |v| / d        one network call per direction

``C`` has one value per shell of spatial frequency. It is measured, without a further call, from the
change of the denoised image with the noise of the step before.

A prior with separate modes makes ``x0 | x_a`` far from Gaussian, and a sample then ends in a mode
that the data do not support. It shows at the end, where samples differ more in the data than one
explanation allows (`tiltkit.posterior.separation`). The sampler then starts over with weighted
particles, as `Twisted`, if they differ in so few measured values that weights choose among them.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import Field

from tiltkit.likelihoods import GaussianLikelihood
from tiltkit.posterior.average import StreamingMean
from tiltkit.posterior.level import Info
from tiltkit.posterior.separation import find_separation
from tiltkit.sampling.jacobian import JacobianDiagonal, joined
from tiltkit.sampling.particles.ladder import bounds
from tiltkit.sampling.samplers.matching import Denoiser
from tiltkit.sampling.samplers.options import LadderOptions
from tiltkit.sampling.samplers.start import gaussian_start, prior_spectrum
from tiltkit.sampling.samplers.twisted import Twisted, TwistedOptions
from tiltkit.sampling.samplers.walmc import Walmc, WalmcOptions
from tiltkit.sampling.settle import level_or_settling
from tiltkit.sampling.state import Guidance, State, planned

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from tiltkit.sampling.particles.rng import ParticleRng
    from tiltkit.sampling.target import Target

__all__ = ["Moments", "MomentsOptions"]

# Misfit of a runaway sample over that of the median sample, and over its expected value. Chosen by
# hand: the misfit of healthy samples differs by less than a factor of 2.
RUNAWAY = 4.0
# Shares of the guidance that a runaway sample is stepped again with.
SHARES = (0.5, 0.25)


class MomentsOptions(LadderOptions):
    """Options of `Moments`; noise levels are in the prior's units."""

    levels: int = Field(18, ge=2, le=10000, description="noise levels of the ladder")
    products: int = Field(
        2, ge=1, le=20, description="products with the denoiser's Jacobian per level, each one"
        " network call"
    )  # fmt: skip
    rho: float = Field(20.0, ge=1, le=1000, description="exponent of the ladder: larger makes the "
                       "ratio of neighbouring levels more constant")  # fmt: skip
    difference_step: float = Field(0.3, gt=0, le=10, description="length of the finite difference "
                                   "in posterior standard deviations of the denoised "
                                   "image")  # fmt: skip
    collect: int = Field(8, ge=0, le=10000, description="rounds of moves at the last level that "
                         "count towards mean, spread and quantiles")  # fmt: skip
    step: float = Field(
        1.0, gt=0, le=5, description="length of a collected Langevin move, in relaxation times"
    )
    settle: float = Field(0.25, ge=0, le=10, description="network calls of further moves at the "
                          "last level until the spread has settled, at most this share of all "
                          "others; 0 makes none")  # fmt: skip
    sweeps: int = Field(0, ge=0, le=1000, description="times that the samples are noised again and "
                        "follow the ladder down once more")  # fmt: skip
    sweep_level: float | None = Field(
        None, gt=0, description="noise level that sweeps start from; when not given the geometric"
        " mean of the first and the last level"
    )  # fmt: skip
    weights: Literal["auto", "never"] = Field(
        "auto", description="start over with weighted particles (as twisted does) where samples"
        " show separate explanations of the data: auto, or never"
    )  # fmt: skip


class Moments:
    """The sampler. It costs ``products + 1`` network calls per level and one per move."""

    Options = MomentsOptions
    weighted: ClassVar[bool] = False
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "draft": {"levels": 12, "collect": 4, "settle": 0.5},
        "high": {"levels": 48, "collect": 16},
    }

    def __init__(self, options: MomentsOptions) -> None:
        self.options = options
        shared = options.model_dump(include=set(LadderOptions.model_fields) - {"settle"})
        self._langevin = Walmc(WalmcOptions.model_validate(shared))
        # Weights of all levels are used: without them modes keep the shares that they have here.
        weighted = {"sigma_max": options.sigma_max, "tau": options.tau, "collect": 0}
        # Two calls a level: together as many as the ladder without weights has, twice.
        levels = (1 + options.products) * options.levels
        weighted |= {"levels": levels, "most_shared_ancestry": 1.0}
        self._weighted = Twisted(TwistedOptions.model_validate(weighted))

    def levels(self, target: Target) -> list[float]:
        """The ladder, the ladders of the sweeps, and the last level once per collected round.

        Raises:
            UsageError: The likelihood is not Gaussian, or a level is outside the prior's range.
        """
        target.require_matched()
        path, sweep, collected = self._plan(target)
        return path + sweep * self.options.sweeps + collected

    def _plan(self, target: Target) -> tuple[list[float], list[float], list[float]]:
        """The ladder, that of one sweep, and the last level once per collected round."""
        o = self.options
        levels = self._langevin.levels(target)
        path, collected = levels[: o.levels], levels[o.levels :]
        top = o.sweep_level or math.sqrt(path[0] * path[-1])
        sweep = [level for level in path[1:] if level <= top]
        return path, sweep if len(sweep) > 1 else [], collected

    def _levels_with_weights(self, target: Target) -> list[float]:
        """The ladder of weighted particles, and sweeps that give back the spread it costs."""
        _, sweep, collected = self._plan(target)
        return self._weighted.levels(target) + sweep * max(self.options.sweeps, 1) + collected

    def next_level(
        self, target: Target, state: State | None, infos: Sequence[Info]
    ) -> float | None:
        """See `Sampler`; the first level again where samples show separate explanations."""
        started_over = state is not None and state.started_over
        levels = self._levels_with_weights(target) if started_over else self.levels(target)
        level = planned(levels, infos)
        level = level_or_settling(level, target, self, state, infos, self.options.settle)
        if level is None and not started_over and self._separated(target, state):
            return levels[0]
        return level

    def _separated(self, target: Target, state: State | None) -> bool:
        """True where the samples are to be made again with weights."""
        likelihood = target.problem.likelihood
        if state is None or self.options.weights == "never" or target.n < 2:
            return False
        if not isinstance(likelihood, GaussianLikelihood):  # weights need exact likelihoods
            return False
        samples = target.finish(self.images(target, state))
        separation = find_separation(likelihood, samples, target.chunk)
        return separation.found and separation.weighable

    def init(self, target: Target, level: float, rng: ParticleRng) -> tuple[State, Info]:
        """Samples of the noised posterior of a Gaussian, see `tiltkit.sampling.samplers.start`."""
        tau = self._tau(target)
        spectrum = [v + tau**2 for v in prior_spectrum(target, level)]
        x, score, jacobian = gaussian_start(target, spectrum, level, tau, rng)
        log_weight = torch.zeros(target.n, dtype=torch.float64)
        state, ratio = self._with_guidance(target, State(x, score, log_weight, level), jacobian)
        return state, self._info(target, state, ratio)

    def step(
        self, target: Target, state: State, level: float, rng: ParticleRng
    ) -> tuple[State, Info]:
        """From noise level a to b <= a; ``b == a`` is a round of moves at the last level.

        A level above a is the start of a sweep, or of the ladder of weighted particles.
        """
        if state.likelihood_term is not None:
            return self._weighted.step(target, state, level, rng)
        if level == state.level:
            return self._langevin.step(target, state, level, rng)
        if level == self.levels(target)[0]:
            new, info = self._weighted.init(target, level, rng)
            return replace(new, started_over=1), info
        if level > state.level:
            return self._noise_again(target, state, level, rng)
        jacobian = JacobianDiagonal(target, target.conditioning.shells)
        denoised_mean, parts = StreamingMean(), []
        ones = torch.ones(target.n, dtype=torch.float64, device=target.device)
        for rows in target.chunks():
            x, score, expected, noise, change = self._advance(target, state, level, rng, rows)
            if target.averages_denoised:
                denoised_mean.add(target.problem.to_image(expected), ones[rows])
            jacobian.add(rows, noise, change)
            parts.append((x, score))
        x, score = (joined(both) for both in zip(*parts, strict=True))
        new = replace(state, c=x, score=score, level=level, guidance=None)
        if target.averages_denoised:
            new = replace(new, denoised_mean=denoised_mean.result())
        if level > self._tau(target):
            new, ratio = self._with_guidance(target, new, jacobian)
            new, ratio = self._without_runaways(target, state, new, ratio, rng)
            return new, self._info(target, new, ratio)
        coordinates = target.conditioning.coordinates
        last = replace(new, c=coordinates(x), score=coordinates(score))
        return last, Info(noise_level=level, ess=float(target.n))

    def _noise_again(
        self, target: Target, state: State, level: float, rng: ParticleRng
    ) -> tuple[State, Info]:
        """Start of a sweep: samples of the last target, noised up to a level."""
        conditioning, s = target.conditioning, self._noise(target, level)
        jacobian, parts = JacobianDiagonal(target, conditioning.shells), []
        for rows in target.chunks():
            image = conditioning.image(state.c[rows])
            xi = rng.normal(rows, target.problem.shape, target.dtype)
            x = target.constrain_images(image + s * xi)
            score = target.score(x, level)
            jacobian.add(rows, xi, torch.add(x, score, alpha=s**2) - image, s)
            parts.append((x, score))
        x, score = (joined(both) for both in zip(*parts, strict=True))
        new = replace(state, c=x, score=score, level=level, last_noise=None)
        new, ratio = self._with_guidance(target, new, jacobian)
        return new, self._info(target, new, ratio)

    def images(self, target: Target, state: State) -> Tensor:
        """See `Sampler`."""
        above_tau = state.guidance or state.likelihood_term
        return state.c if above_tau else target.images(state.c)

    def scores(self, target: Target, state: State) -> Tensor:
        """See `Sampler`."""
        above_tau = state.guidance or state.likelihood_term
        return state.score if above_tau else target.images(state.score)

    def _tau(self, target: Target) -> float:
        o = self.options
        return bounds(target.problem.prior.sigma_range, o.sigma_max, o.tau)[1]

    def _noise(self, target: Target, level: float) -> float:
        """``s = sqrt(level^2 - tau^2)``; 0 at the last level."""
        # Rounding may put the last level below tau.
        return math.sqrt(max(level**2 - self._tau(target) ** 2, 0.0))

    def _advance(
        self,
        target: Target,
        state: State,
        level: float,
        rng: ParticleRng,
        rows: slice,
        share: float = 1.0,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """One step of a chunk of particles, with a share of the guidance.

        Returns:
            Particles and their scores at the new level, ``E[clean image | x, y]`` before the step,
            the injected noise, and the change of the denoised image that it caused.
        """
        guidance = state.guidance
        assert guidance is not None  # noqa: S101  (states above tau have one)
        s_a, s_b = self._noise(target, state.level), self._noise(target, level)
        x, score, gap = state.c[rows], state.score[rows], s_a**2 - s_b**2
        denoised = torch.add(x, score, alpha=s_a**2)
        conditioning = target.conditioning_at(denoised, guidance.variance)
        g = share * guidance.score[rows]
        xi = rng.normal(rows, target.problem.shape, target.dtype)
        noise = conditioning.conditioned_noise(guidance.variance, rng, rows)
        noise.mul_(gap / s_a**2).add_(xi, alpha=s_b * math.sqrt(gap) / s_a)
        new = torch.add(x, score, alpha=gap).add_(g, alpha=gap).add_(noise)
        new = target.constrain_images(new)
        new_score = target.score(new, level)
        change = torch.add(new, new_score, alpha=s_b**2) - denoised
        return new, new_score, torch.add(denoised, g, alpha=s_a**2), noise, change

    def _denoiser(
        self, target: Target, level: float, variance: Sequence[float], mean_jacobian: float
    ) -> Denoiser:
        o = self.options
        return Denoiser(
            target, level, self._noise(target, level), variance, mean_jacobian, o.products,
            o.difference_step,
        )  # fmt: skip

    def _with_guidance(
        self, target: Target, state: State, jacobian: JacobianDiagonal
    ) -> tuple[State, Tensor]:
        """The state with the guidance of its level, and the residual ratio of each particle."""
        shells, square = target.conditioning.shells, self._noise(target, state.level) ** 2
        by_shell = jacobian.means
        sizes = shells.sizes(state.c[0]).tolist()
        mean = sum(j * k for j, k in zip(by_shell, sizes, strict=True)) / sum(sizes)
        denoiser = self._denoiser(target, state.level, [square * j for j in by_shell], mean)
        parts = [denoiser.guidance(state.c[rows], state.score[rows]) for rows in target.chunks()]
        g, ratio = (joined(both) for both in zip(*parts, strict=True))
        new = replace(state, guidance=Guidance(g, denoiser.variance), mean_jacobian=mean)
        return new, ratio

    def _info(self, target: Target, state: State, ratio: Tensor) -> Info:
        """Report of a level above the last one."""
        return Info(
            noise_level=state.level, ess=float(target.n),
            # Local approximations have no residuals of Gaussian data.
            residual_ratio=math.nan if target.local else float(ratio.mean()),
            dof=state.mean_jacobian * state.c[0].numel(), dof_fraction=state.mean_jacobian,
        )  # fmt: skip

    def _without_runaways(
        self, target: Target, before: State, state: State, ratio: Tensor, rng: ParticleRng
    ) -> tuple[State, Tensor]:
        """State and residual ratios, runaway samples stepped again with less guidance, or redrawn.

        A sample runs away where its denoised image misses the data by far more than those of the
        others and than expected. A redrawn one is a copy of another sample, whose noise differs
        from the next step on.
        """
        guidance = state.guidance
        assert guidance is not None  # noqa: S101  (states above tau have one)
        limit = RUNAWAY * float(ratio.median().clamp_min(1))
        healthy = (ratio <= limit).tolist()
        if all(healthy) or target.local is not None:
            return state, ratio
        x, score, g, ratio = (v.clone() for v in (state.c, state.score, guidance.score, ratio))
        denoiser = self._denoiser(target, state.level, guidance.variance, state.mean_jacobian)
        copies = 0
        for row in [row for row, right in enumerate(healthy) if not right]:
            rows = slice(row, row + 1)
            for share in SHARES:
                new = self._advance(target, before, state.level, rng, rows, share)
                x[rows], score[rows] = new[:2]
                g[rows], ratio[rows] = denoiser.guidance(x[rows], score[rows])
                if float(ratio[row]) <= limit:
                    break
            else:
                others = [other for other, right in enumerate(healthy) if right]
                donor = others[int(rng.uniform() * len(others))]
                for values in (x, score, g, ratio):
                    values[row] = values[donor]
                copies += 1
        rng.align()
        pairs = max(target.n * (target.n - 1) / 2, 1)
        shared_ancestry = min(state.shared_ancestry + copies / pairs, 1.0)
        return replace(
            state, c=x, score=score, guidance=replace(guidance, score=g),
            shared_ancestry=shared_ancestry,
        ), ratio  # fmt: skip
