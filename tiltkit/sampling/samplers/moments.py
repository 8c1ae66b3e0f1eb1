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
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pydantic import Field

from tiltkit.posterior.average import StreamingMean
from tiltkit.posterior.level import Info
from tiltkit.sampling.jacobian import JacobianDiagonal, inner, joined
from tiltkit.sampling.particles.ladder import bounds
from tiltkit.sampling.samplers.options import LadderOptions
from tiltkit.sampling.samplers.start import gaussian_start, prior_spectrum
from tiltkit.sampling.samplers.walmc import Walmc, WalmcOptions
from tiltkit.sampling.settle import settling_level
from tiltkit.sampling.state import DataMisfit, State, planned

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from tiltkit.sampling.gaussian.conditioning import Conditioning
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

    levels: int = Field(24, ge=2, le=10000, description="noise levels of the ladder")
    products: int = Field(
        1, ge=1, le=20, description="products with the denoiser's Jacobian per level, each one"
        " network call"
    )  # fmt: skip
    rho: float = Field(20.0, ge=1, le=1000, description="exponent of the ladder: larger makes the "
                       "ratio of neighbouring levels more constant")  # fmt: skip
    difference_step: float = Field(0.3, gt=0, le=10, description="length of the finite difference "
                                   "in posterior standard deviations of the denoised "
                                   "image")  # fmt: skip
    step: float = Field(
        0.2, gt=0, le=5, description="length of a collected Langevin move, in relaxation times"
    )
    sweeps: int = Field(0, ge=0, le=1000, description="times that the samples are noised again and "
                        "follow the ladder down once more")  # fmt: skip
    sweep_level: float | None = Field(
        None, gt=0, description="noise level that sweeps start from; when not given the geometric"
        " mean of the first and the last level"
    )  # fmt: skip


class Moments:
    """The sampler. It costs ``products + 1`` network calls per level and one per move."""

    Options = MomentsOptions
    weighted: ClassVar[bool] = False
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "draft": {"levels": 16, "collect": 2},
        "high": {"levels": 48, "products": 2, "collect": 8},
    }

    def __init__(self, options: MomentsOptions) -> None:
        self.options = options
        shared = options.model_dump(include=set(LadderOptions.model_fields) - {"adapt", "settle"})
        self._langevin = Walmc(WalmcOptions.model_validate(shared))

    def levels(self, target: Target) -> list[float]:
        """The ladder, the ladders of the sweeps, and the last level once per collected round.

        Raises:
            UsageError: The likelihood is not Gaussian, or a level is outside the prior's range.
        """
        target.require_matched()
        o = self.options
        levels = self._langevin.levels(target)
        path, collected = levels[: o.levels], levels[o.levels :]
        top = o.sweep_level or math.sqrt(path[0] * path[-1])
        again = [level for level in path if level <= top]
        return path + (again if len(again) > 1 else []) * o.sweeps + collected

    def next_level(
        self, target: Target, state: State | None, infos: Sequence[Info]
    ) -> float | None:
        """See `Sampler`."""
        level = planned(self.levels(target), infos)
        if level is None and state is not None and self.options.settle:
            return settling_level(target, self, state, infos, self.options.settle)
        return level

    def init(self, target: Target, level: float, rng: ParticleRng) -> tuple[State, Info]:
        """Samples of the noised posterior of a Gaussian, see `tiltkit.sampling.samplers.start`."""
        tau = self._tau(target)
        spectrum = [v + tau**2 for v in prior_spectrum(target, level)]
        x, score, jacobian = gaussian_start(target, spectrum, level, tau, rng)
        log_weight = torch.zeros(target.n, dtype=torch.float64)
        return self._with_misfit(target, State(x, score, log_weight, level), jacobian)

    def step(
        self, target: Target, state: State, level: float, rng: ParticleRng
    ) -> tuple[State, Info]:
        """From noise level a to b <= a; ``b == a`` is a round of moves at the last level."""
        if level == state.level:
            return self._langevin.step(target, state, level, rng)
        if level > state.level:
            return self._noise_again(target, state, level, rng)
        jacobian = JacobianDiagonal(target, target.conditioning.shells)
        denoised_mean, parts = StreamingMean(), []
        ones = torch.ones(target.n, dtype=torch.float64, device=target.device)
        for rows in target.chunks():
            x, score, expected, noise, change = self._advance(target, state, level, rng, rows)
            if target.problem.phase is None:  # see `tiltkit.sampling.run`
                denoised_mean.add(target.problem.to_image(expected), ones[rows])
            jacobian.add(rows, noise, change)
            parts.append((x, score))
        x, score = (joined(both) for both in zip(*parts, strict=True))
        new = replace(state, c=x, score=score, level=level, misfit=None)
        if target.problem.phase is None:
            new = replace(new, denoised_mean=denoised_mean.result())
        if level > self._tau(target):
            new, info = self._with_misfit(target, new, jacobian)
            return self._without_runaways(target, state, new, rng), info
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
        return self._with_misfit(target, new, jacobian)

    def images(self, target: Target, state: State) -> Tensor:
        """See `Sampler`."""
        return state.c if state.misfit else target.images(state.c)

    def scores(self, target: Target, state: State) -> Tensor:
        """See `Sampler`."""
        return state.score if state.misfit else target.images(state.score)

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
        misfit = state.misfit
        assert misfit is not None  # noqa: S101  (states above tau have one)
        s_a, s_b = self._noise(target, state.level), self._noise(target, level)
        x, score, gap = state.c[rows], state.score[rows], s_a**2 - s_b**2
        denoised = torch.add(x, score, alpha=s_a**2)
        conditioning = target.conditioning_at(denoised, misfit.variance)
        g = share * self._guidance(target, conditioning, state, x, denoised, misfit.at(rows))
        xi = rng.normal(rows, target.problem.shape, target.dtype)
        noise = conditioning.conditioned_noise(misfit.variance, rng, rows)
        noise.mul_(gap / s_a**2).add_(xi, alpha=s_b * math.sqrt(gap) / s_a)
        new = torch.add(x, score, alpha=gap).add_(g, alpha=gap).add_(noise)
        new = target.constrain_images(new)
        new_score = target.score(new, level)
        change = torch.add(new, new_score, alpha=s_b**2) - denoised
        return new, new_score, torch.add(denoised, g, alpha=s_a**2), noise, change

    def _guidance(
        self,
        target: Target,
        conditioning: Conditioning,
        state: State,
        x: Tensor,
        denoised: Tensor,
        misfit: DataMisfit,
    ) -> Tensor:
        """``g = J A^H w`` by conjugate directions, as images; see the module."""
        noise_var = conditioning.noise_var
        s = self._noise(target, state.level)
        r, w = misfit.residual, misfit.solved
        done: list[tuple[Tensor, Tensor, Tensor]] = []  # direction, its product, their energy
        g = torch.zeros_like(x)
        for index in range(self.options.products):
            p = w
            for old, product, energy in done:
                p = p - per_image(real_inner(p, product) / energy, p) * old
            u = conditioning.adjoint(p)
            ju = self._jacobian_product(target, state, x, denoised, u)
            square = noise_var * real_inner(p, p)
            energy = torch.maximum(square + s**2 * inner(u, ju), square).clamp_min(1e-30)
            length = real_inner(p, r) / energy
            g += per_image(length, ju) * ju
            if index + 1 < self.options.products:
                product = noise_var * p + s**2 * conditioning.forward(ju)
                r = r - per_image(length, p) * product
                w = conditioning.solve(r, misfit.variance)
                done.append((p, product, energy))
        return g

    def _jacobian_product(
        self, target: Target, state: State, x: Tensor, denoised: Tensor, u: Tensor
    ) -> Tensor:
        """``J u`` by a finite difference of the denoiser along ``u``; one network call.

        The length of the difference is a multiple of ``s sqrt(tr J)``, the standard deviation of
        the clean image given ``x``. A fixed multiple of ``s`` would be lost in the rounding errors
        of networks at low precision in high dimension.
        """
        s = self._noise(target, state.level)
        d = self.options.difference_step * s * math.sqrt(max(state.mean_jacobian * u[0].numel(), 1))
        norm = per_image(u.flatten(1).norm(dim=1).clamp_min(1e-20), u)
        moved = torch.addcmul(x, u, d / norm)
        difference: Tensor = torch.add(moved, target.score(moved, state.level), alpha=s**2)
        return difference.sub_(denoised).mul_(norm / d)

    def _without_runaways(
        self, target: Target, before: State, state: State, rng: ParticleRng
    ) -> State:
        """The state, its runaway samples stepped again with less guidance, or redrawn.

        A sample runs away where its denoised image misses the data by far more than those of the
        others and than expected. A redrawn one is a copy of another sample, whose noise differs
        from the next step on.
        """
        misfit = state.misfit
        assert misfit is not None  # noqa: S101  (states above tau have one)
        if target.local is not None:  # their residuals are those of no Gaussian data
            return state
        ratio = _misfit_ratio(target, misfit.residual, misfit.solved)
        limit = RUNAWAY * float(ratio.median().clamp_min(1))
        healthy = (ratio <= limit).tolist()
        if all(healthy):
            return state
        x, score = state.c.clone(), state.score.clone()
        r, w, copies = misfit.residual.clone(), misfit.solved.clone(), 0
        for row in [row for row, right in enumerate(healthy) if not right]:
            rows = slice(row, row + 1)
            for share in SHARES:
                x[rows], score[rows], *_ = self._advance(
                    target, before, state.level, rng, rows, share
                )
                r[rows], w[rows] = self._misfit(
                    target, x[rows], score[rows], state.level, misfit.variance
                )
                if float(_misfit_ratio(target, r[rows], w[rows])) <= limit:
                    break
            else:
                others = [other for other, right in enumerate(healthy) if right]
                donor = others[int(rng.uniform() * len(others))]
                for values in (x, score, r, w):
                    values[row] = values[donor]
                copies += 1
        rng.align()
        pairs = target.n * (target.n - 1) / 2
        return replace(
            state, c=x, score=score, misfit=replace(misfit, residual=r, solved=w),
            shared_ancestry=min(state.shared_ancestry + copies / max(pairs, 1), 1.0),
        )  # fmt: skip

    def _misfit(
        self, target: Target, x: Tensor, score: Tensor, level: float, variance: Sequence[float]
    ) -> tuple[Tensor, Tensor]:
        """Residual of denoised images, and what `Conditioning.solve` makes of it."""
        denoised = torch.add(x, score, alpha=self._noise(target, level) ** 2)
        conditioning = target.conditioning_at(denoised, variance)
        r = conditioning.residual(denoised)
        return r, conditioning.solve(r, variance)

    def _with_misfit(
        self, target: Target, state: State, jacobian: JacobianDiagonal
    ) -> tuple[State, Info]:
        """The state with the misfit of its denoised images to the data, and its report."""
        conditioning, s = target.conditioning, self._noise(target, state.level)
        by_shell = jacobian.means
        variance = [s**2 * j for j in by_shell]
        parts = [
            self._misfit(target, state.c[rows], state.score[rows], state.level, variance)
            for rows in target.chunks()
        ]
        r, w = (joined(both) for both in zip(*parts, strict=True))
        sizes = conditioning.shells.sizes(state.c[0]).tolist()
        mean_jacobian = sum(j * k for j, k in zip(by_shell, sizes, strict=True)) / sum(sizes)
        ratio = math.nan if target.local else float(_misfit_ratio(target, r, w).mean())
        info = Info(
            noise_level=state.level, ess=float(target.n), residual_ratio=ratio,
            dof=mean_jacobian * sum(sizes), dof_fraction=mean_jacobian,
        )  # fmt: skip
        return replace(state, misfit=DataMisfit(r, w, variance), mean_jacobian=mean_jacobian), info


def _misfit_ratio(target: Target, r: Tensor, w: Tensor) -> Tensor:
    """``r^H (noise_var I + A C A^H)^-1 r`` over its expected value, (particle,) float64."""
    return real_inner(r, w) / target.conditioning.measured


def real_inner(a: Tensor, b: Tensor) -> Tensor:
    """Real inner products of particles (particle, ...), float64 (particle,)."""
    if a.is_complex():
        a, b = torch.view_as_real(a), torch.view_as_real(b)
    return inner(a, b)


def per_image(values: Tensor, images: Tensor) -> Tensor:
    """Values (particle,) in a shape that broadcasts against images, in their real type."""
    return values.to(images.real.dtype).view(-1, *[1] * (images.ndim - 1))
