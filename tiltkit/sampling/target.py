"""A problem made ready for sampling: chunks of particles, a counted score, the tilt's algebra."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tiltkit.errors import TiltkitError
from tiltkit.likelihoods import GaussianLikelihood, linear_gaussian
from tiltkit.operators.adjoint import check_adjoint
from tiltkit.priors.score import score_of
from tiltkit.protocols import SpectralOperator
from tiltkit.sampling.gaussian.conditioning import Conditioning, LastNoise
from tiltkit.sampling.gaussian.correction import Correction
from tiltkit.sampling.gaussian.diagonal import DiagonalConditioning
from tiltkit.sampling.gaussian.iterative import IterativeConditioning

if TYPE_CHECKING:
    from tiltkit.problem import Problem

__all__ = ["Target", "chunk_size"]

# Network activations and temporaries of one particle, in tensors of the size of its image:
# measured for the default network on the CPU at 256x256.
TENSORS_PER_PARTICLE = 64


def chunk_size(shape: tuple[int, ...], n: int, memory_gb: float) -> int:
    """Particles that fit side by side into ``memory_gb``, at least one and at most ``n``."""
    one = prod(shape) * 4 * TENSORS_PER_PARTICLE
    return max(1, min(n, int(memory_gb * 1e9 / one)))


@dataclass
class Target:
    """What samplers work on.

    Attributes:
        problem: Prior, likelihood and image shape.
        n: Number of particles.
        chunk: Particles handled side by side.
        device: Where particles live.
        dtype: Real type of the particles.
        network_calls: Score evaluations so far, in calls for all particles.
    """

    problem: Problem
    n: int
    chunk: int
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    network_calls: float = 0.0

    def __post_init__(self) -> None:
        """Refuse a prior of other images.

        Raises:
            TiltkitError: It has another number of channels, or knows no range of noise.
        """
        prior, channels = self.problem.prior, self.problem.shape[0]
        if prior.channels not in (0, channels):
            raise TiltkitError(
                f"The prior is one of images with {prior.channels} channels, and the images here"
                f" have {channels}.",
                f"choose or train one for {channels}; complex images have two, re and im.",
            )
        low, high = prior.sigma_range
        if not 0 < low < high:
            raise TiltkitError(
                f"The prior knows noise levels from {low:g} to {high:g}, which is no range.",
                "correct its sigma_range: smallest first, both above 0.",
            )

    def chunks(self) -> Iterator[slice]:
        """Slices of particles, in order."""
        for first in range(0, self.n, self.chunk):
            yield slice(first, min(first + self.chunk, self.n))

    def score(self, x: Tensor, sigma: float) -> Tensor:
        """The prior's score of a chunk of images, counted."""
        self.network_calls += len(x) / self.n
        return score_of(self.problem.prior, x, sigma)

    def prior_mean(self, level: float) -> Tensor:
        """Mean of the prior (1, channel, *space), as a high noise level shows it."""
        zero = torch.zeros((1, *self.problem.shape), dtype=self.dtype, device=self.device)
        return level**2 * score_of(self.problem.prior, zero, level)

    @cached_property
    def linear(self) -> GaussianLikelihood:
        """The linear-Gaussian likelihood, or the one that approximates the problem's own.

        Raises:
            TiltkitError: There is none.
        """
        likelihood = self.problem.likelihood
        linear = linear_gaussian(likelihood)
        if linear is None:
            raise TiltkitError(
                f"The sampler needs a Gaussian likelihood, not {type(likelihood).__name__}.",
                "give it an approximation(), or use --sampler almc, which takes any"
                " differentiable likelihood.",
            )
        return linear

    @cached_property
    def conditioning(self) -> Conditioning:
        """Linear-Gaussian algebra of the likelihood or its approximation.

        Raises:
            TiltkitError: As `check_measurement`.
        """
        self.check_measurement()
        diagonalised = isinstance(self.linear.operator, SpectralOperator)
        algebra = DiagonalConditioning if diagonalised else IterativeConditioning
        return algebra(self.linear, self.problem.shape, self.dtype)

    def check_measurement(self) -> None:
        """Refuse operator and measurement that do not fit each other or the images.

        Raises:
            TiltkitError: The measurement has another type or shape than the operator's, or the
                adjoint is none: samples would be wrong without a word.
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
        """From the approximation to the likelihood; None where the likelihood is Gaussian."""
        likelihood = self.problem.likelihood
        if likelihood is self.linear:
            return None
        return Correction.of(likelihood, self.linear, self.problem.shape, self.dtype, self.device)

    def bounded(self, x: Tensor) -> Tensor:
        """Images within the constraint."""
        constraint = self.problem.constraint
        return x if constraint is None else constraint.apply(x)

    def constrained(
        self, c: Tensor, last_noise: LastNoise | None
    ) -> tuple[Tensor, LastNoise | None]:
        """Particles in the tilt's coordinates, and the noise in them, within the constraint."""
        constraint = self.problem.constraint
        if constraint is None:
            return c, last_noise
        x = self.conditioning.image(c)
        if last_noise is not None:
            noise = constraint.carry(self.conditioning.image(last_noise.spread * last_noise.xi), x)
            last_noise = replace(
                last_noise, xi=self.conditioning.coordinates(noise) / last_noise.spread
            )
        return self.conditioning.coordinates(constraint.apply(x)), last_noise
