"""A problem prepared for sampling: chunks of particles, counted scores, Gaussian conditioning."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tiltkit.errors import TiltkitError, UsageError
from tiltkit.likelihoods import GaussianLikelihood, MomentMatched, linear_gaussian
from tiltkit.operators.adjoint import check_adjoint
from tiltkit.operators.cg import norm_squared
from tiltkit.priors.score import score_of
from tiltkit.protocols import SpectralOperator
from tiltkit.sampling.gaussian.conditioning import Conditioning, LastNoise, Step
from tiltkit.sampling.gaussian.correction import Correction
from tiltkit.sampling.gaussian.diagonal import DiagonalConditioning
from tiltkit.sampling.gaussian.iterative import IterativeConditioning
from tiltkit.sampling.gaussian.local import LocalGaussian
from tiltkit.sampling.gaussian.projection import project_nonnegative

if TYPE_CHECKING:
    from tiltkit.problem import Problem
    from tiltkit.sampling.particles.rng import ParticleRng

__all__ = ["Target", "chunk_size"]

# Memory of one particle in float32 images: network activations and temporaries. Measured with the
# shipped network on the CPU at 256x256.
TENSORS_PER_PARTICLE = 64


def chunk_size(shape: tuple[int, ...], n: int, memory_gb: float) -> int:
    """Number of particles that fit into ``memory_gb`` gigabytes, from 1 to ``n``.

    Args:
        shape: Shape of one image (channel, *space).
        n: Number of particles.
        memory_gb: Memory for one chunk in 10^9 bytes.
    """
    one = prod(shape) * 4 * TENSORS_PER_PARTICLE
    return max(1, min(n, int(memory_gb * 1e9 / one)))


@dataclass
class Target:
    """A problem with the number, device and type of its particles.

    Attributes:
        problem: Prior, likelihood and image shape.
        n: Number of particles.
        chunk: Largest number of particles in one batch.
        device: Device of the particles.
        dtype: Real type of the particles.
        network_calls: Score evaluations per particle so far.
    """

    problem: Problem
    n: int
    chunk: int
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    network_calls: float = 0.0

    def __post_init__(self) -> None:
        """Check that the prior fits the images.

        Raises:
            TiltkitError: Its number of channels differs, or its noise range is empty.
        """
        prior, channels = self.problem.prior, self.problem.shape[0]
        if prior.channels not in (0, channels):
            raise TiltkitError(
                f"The prior is for images with {prior.channels} channels, but these images have"
                f" {channels}.",
                f"choose or train a prior for {channels}; complex images have two, re and im.",
            )
        low, high = prior.sigma_range
        if not 0 < low < high:
            raise TiltkitError(
                f"The noise range of the prior, {low:g} to {high:g}, is empty.",
                "correct its sigma_range: smallest first, both above 0.",
            )

    def chunks(self) -> Iterator[slice]:
        """Slices of at most ``chunk`` particles, in order."""
        for first in range(0, self.n, self.chunk):
            yield slice(first, min(first + self.chunk, self.n))

    def score(self, x: Tensor, sigma: float) -> Tensor:
        """Score of the prior at a chunk of images (particle, channel, *space); counts the call."""
        self.network_calls += len(x) / self.n
        return score_of(self.problem.prior, x, sigma)

    def score_at(self, c: Tensor, level: float) -> Tensor:
        """Score of the prior at a chunk of particles, both in coordinates; counts the call."""
        conditioning = self.conditioning
        return conditioning.coordinates(self.score(conditioning.image(c), level))

    def images(self, c: Tensor) -> Tensor:
        """Images (particle, channel, *space) of all particles, given in coordinates."""
        return torch.cat([self.conditioning.image(c[rows]) for rows in self.chunks()])

    def prior_mean(self, level: float) -> Tensor:
        """Estimate ``D(0)`` of the prior's mean at a high noise level, (1, channel, *space)."""
        zero = torch.zeros((1, *self.problem.shape), dtype=self.dtype, device=self.device)
        return level**2 * score_of(self.problem.prior, zero, level)

    def conditioned_gaussian(
        self, step: Step, rng: ParticleRng
    ) -> Iterator[tuple[slice, Tensor, LastNoise | None]]:
        """Samples of the noised prior, taken as Gaussian, given the data: a sampler's start.

        The distribution is ``N(prior mean, v I) exp(-R_s)``. The cost is one network call for one
        image, which is not counted.

        Args:
            step: Variance ``v`` of the noised prior and level ``s`` of the potential.
            rng: Randomness.

        Yields:
            Per chunk its rows, its particles in coordinates, and the noise in them.
        """
        mean = self.conditioning.coordinates(self.prior_mean(step.v**0.5))
        for rows in self.chunks():
            m = mean.expand(rows.stop - rows.start, *mean.shape[1:])
            c, last_noise, _ = self.conditioning.predict(m, step, rng, rows)
            yield rows, *self.constrain(c, last_noise)

    @cached_property
    def linear(self) -> GaussianLikelihood:
        """The problem's likelihood where it is linear-Gaussian, its approximation elsewhere.

        Raises:
            TiltkitError: The likelihood has no approximation.
        """
        likelihood = self.problem.likelihood
        linear = linear_gaussian(likelihood)
        if linear is None:
            raise TiltkitError(
                f"The sampler needs a Gaussian likelihood, not {type(likelihood).__name__}.",
                "give it a method approximation(), or use --sampler almc, which takes any"
                " differentiable likelihood.",
            )
        return linear

    def require_gaussian(self) -> None:
        """Check that the likelihood is Gaussian, for samplers that take no other.

        Raises:
            UsageError: The likelihood is not Gaussian.
        """
        if self.correction is not None:
            others = "moments or almc" if self.local else "almc"
            raise UsageError(
                f"This sampler needs a Gaussian likelihood, not"
                f" {type(self.problem.likelihood).__name__}.",
                f"use --sampler {others}.",
            )

    def require_matched(self) -> None:
        """Check that the likelihood is Gaussian or has local Gaussian approximations.

        Raises:
            UsageError: It is neither.
        """
        if self.correction is not None and self.local is None:
            raise UsageError(
                f"This sampler needs a Gaussian likelihood or one with a method matched(), not"
                f" {type(self.problem.likelihood).__name__}.",
                "use --sampler almc.",
            )

    @cached_property
    def conditioning(self) -> Conditioning:
        """Gaussian conditioning on the data, with the likelihood or its approximation.

        Raises:
            TiltkitError: See `check_measurement`.
        """
        self.check_measurement()
        diagonalised = isinstance(self.linear.operator, SpectralOperator)
        algebra = DiagonalConditioning if diagonalised else IterativeConditioning
        return algebra(self.linear, self.problem.shape, self.dtype)

    def conditioning_at(self, denoised: Tensor, variance: Sequence[float]) -> Conditioning:
        """Gaussian conditioning on the data near denoised images of a chunk of particles.

        This is `conditioning` where the likelihood is Gaussian, and `LocalGaussian` where it is
        `MomentMatched`.

        Args:
            denoised: Denoised images (particle, channel, *space).
            variance: Error variance of the denoised images, one value for each of the shells of
                `conditioning`.
        """
        return self.local.conditioning(denoised, variance) if self.local else self.conditioning

    @cached_property
    def local(self) -> LocalGaussian | None:
        """Local approximations of the likelihood; None where it is Gaussian or has none."""
        likelihood = self.problem.likelihood
        if self.correction is None or not isinstance(likelihood, MomentMatched):
            return None
        shells, shape = self.conditioning.shells, self.problem.shape
        return LocalGaussian.of(likelihood, shells, shape, self.dtype, self.device)

    def check_measurement(self) -> None:
        """Check that operator, measurement and images fit each other.

        Raises:
            TiltkitError: The type or shape of the measurement is not that of the operator's output,
                or the operator's adjoint is wrong.
        """
        operator, y = self.linear.operator, self.linear.y
        if y.real.dtype != self.dtype:
            raise TiltkitError(
                f"The measurement has type {y.dtype}, but samples are {self.dtype}.",
                f"convert operator, measurement and prior to {self.dtype}.",
            )
        generator = torch.Generator().manual_seed(0)
        x = torch.randn((1, *self.problem.shape), generator=generator, dtype=self.dtype)
        x = x.to(self.device)
        ax = operator.forward(x)
        if y.shape != ax.shape:
            raise TiltkitError(
                f"The measurement has shape {tuple(y.shape)}, but the operator gives"
                f" {tuple(ax.shape)}.",
                "check that measurement, operator and image shape belong together.",
            )
        check_adjoint(operator, x, ax)

    @cached_property
    def correction(self) -> Correction | None:
        """Correction from the approximation to the exact likelihood; None where it is Gaussian."""
        likelihood = self.problem.likelihood
        return None if likelihood is self.linear else Correction(likelihood, self.linear)

    @property
    def averages_denoised(self) -> bool:
        """True where denoised means count towards the mean image.

        The magnitude of a denoised mean is no mean of magnitudes: dark pixels would be too dark.
        """
        return self.problem.phase is None

    def constrain_images(self, x: Tensor) -> Tensor:
        """Images (particle, channel, *space), 0 outside of the support of the constraint."""
        constraint = self.problem.constraint
        return x if constraint is None else constraint.apply(x)

    def constrain(self, c: Tensor, last_noise: LastNoise | None) -> tuple[Tensor, LastNoise | None]:
        """Particles in coordinates within the support of the constraint, and the noise in them."""
        constraint = self.problem.constraint
        if constraint is None or constraint.support is None:
            return c, last_noise
        if last_noise is not None:
            noise = constraint.apply(self.conditioning.image(last_noise.spread * last_noise.xi))
            last_noise = replace(
                last_noise, xi=self.conditioning.coordinates(noise) / last_noise.spread
            )
        x = constraint.apply(self.conditioning.image(c))
        return self.conditioning.coordinates(x), last_noise

    def finish(self, x: Tensor) -> Tensor:
        """Samples that meet the problem's constraint, from particles of the last target.

        All samplers share this: it is applied to what they collect, not within their steps. The
        metric is that of the likelihood where it is linear-Gaussian, and that of its approximation
        elsewhere. Without an approximation values below 0 become 0.

        Args:
            x: Images (particle, channel, *space).
        """
        constraint = self.problem.constraint
        if constraint is None or not constraint.nonnegative:
            return x
        precision, largest = self._data_precision
        parts = torch.split(constraint.apply(x), self.chunk)
        return torch.cat([project_nonnegative(part, precision, largest) for part in parts])

    @cached_property
    def _data_precision(self) -> tuple[Callable[[Tensor], Tensor] | None, float]:
        """``A^H A / noise_var`` within the support, and its largest eigenvalue."""
        linear, constraint = linear_gaussian(self.problem.likelihood), self.problem.constraint
        if linear is None or constraint is None:
            return None, 0.0
        operator, noise_var = linear.operator, linear.noise_var
        generator = torch.Generator().manual_seed(0)
        start = torch.randn((1, *self.problem.shape), generator=generator, dtype=self.dtype)
        largest = norm_squared(operator, start.to(self.device)) / noise_var

        def precision(x: Tensor) -> Tensor:
            return constraint.apply(operator.normal(x) / noise_var)

        return precision, largest
