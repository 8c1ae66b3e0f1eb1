"""A problem made ready for sampling: chunks of particles, a counted score, the tilt's algebra."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING

import torch

from tiltkit.errors import TiltkitError
from tiltkit.likelihoods import GaussianLikelihood
from tiltkit.sampling.tilt import Tilt, tilt_of

if TYPE_CHECKING:
    from torch import Tensor

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

    def chunks(self) -> Iterator[slice]:
        """Slices of particles, in order."""
        for first in range(0, self.n, self.chunk):
            yield slice(first, min(first + self.chunk, self.n))

    def score(self, x: Tensor, sigma: float) -> Tensor:
        """The prior's score of a chunk of images, counted."""
        self.network_calls += len(x) / self.n
        return self.problem.prior.score(x, sigma)

    @cached_property
    def tilt(self) -> Tilt:
        """Linear-Gaussian algebra of the likelihood.

        Raises:
            TiltkitError: The likelihood is of another kind.
        """
        likelihood = self.problem.likelihood
        if not isinstance(likelihood, GaussianLikelihood):
            raise TiltkitError(
                f"The sampler needs a Gaussian likelihood, not {type(likelihood).__name__}.",
                "use --sampler almc, which takes any differentiable likelihood.",
            )
        return tilt_of(likelihood, self.problem.shape, self.dtype)
