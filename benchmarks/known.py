"""Posteriors of Gaussian mixtures in closed form, and how far samples are from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from tiltkit.sampling.particles.rng import ParticleRng
from tiltkit.sampling.run import run
from tiltkit.sampling.target import Target

if TYPE_CHECKING:
    from torch import Tensor

    from tiltkit.likelihoods import GaussianLikelihood
    from tiltkit.posterior.level import Info
    from tiltkit.priors.closed_form import Mixture
    from tiltkit.problem import Problem
    from tiltkit.protocols import SpectralOperator
    from tiltkit.sampling.state import Sampler


@dataclass(frozen=True)
class Posterior:
    """``sum_k weight_k N(mean_k, U diag(variance) U^H)``; everything but weights is spectral."""

    operator: SpectralOperator
    weights: Tensor
    means: Tensor
    variance: Tensor

    @classmethod
    def of(cls, prior: Mixture, likelihood: GaussianLikelihood) -> Posterior:
        """Condition every component, and weigh it by its evidence."""
        operator = likelihood.operator
        eig, noise = operator.eigenvalues.double(), likelihood.noise_var
        c = operator.to_spectral(prior.means)
        z = operator.to_spectral(operator.adjoint(likelihood.y))
        marginal = noise + prior.variance * eig
        seen = eig > 1e-10 * eig.max()
        precision = torch.where(seen, 1 / (eig * marginal), 0.0)
        energy = ((z - eig * c).abs().double().square() * precision).flatten(1).sum(1)
        return cls(
            operator,
            torch.softmax(prior.weights.double().log() - 0.5 * energy, 0),
            (noise * c + prior.variance * z) / marginal,
            (prior.variance * noise / marginal).expand(c.shape[1:]),
        )

    @property
    def mean(self) -> Tensor:
        """Posterior mean, as image."""
        mean = torch.tensordot(self.weights.to(self.means.dtype), self.means, 1)
        return self.operator.from_spectral(mean[None])[0]

    @property
    def total_variance(self) -> float:
        """Sum of the variances of all real components."""
        spread = self.means - torch.tensordot(self.weights.to(self.means.dtype), self.means, 1)
        between = self.weights @ spread.abs().double().square().flatten(1).sum(1)
        return float(between + self.variance.sum() * (2 if self.means.is_complex() else 1))

    def draw(self, n: int, g: torch.Generator) -> Tensor:
        """Exact samples (n, channel, *space)."""
        component = torch.multinomial(self.weights, n, replacement=True, generator=g)
        c = self.means[component].clone()
        real = torch.view_as_real(c) if c.is_complex() else c
        deviation = self.variance.sqrt().to(real.dtype)
        xi = torch.randn(real.shape, generator=g, dtype=real.dtype)
        real += xi * (deviation[..., None] if c.is_complex() else deviation)
        return self.operator.from_spectral(c)

    def mode_error(self, x: Tensor) -> float:
        """Total variation between the exact mode weights and those of samples.

        Samples are counted by the components' responsibilities, so overlap does no harm.
        """
        gap = (self.operator.to_spectral(x)[:, None] - self.means).abs().double().square()
        logits = self.weights.log() - 0.5 * (gap / self.variance).flatten(2).sum(2)
        return float((torch.softmax(logits, 1).mean(0) - self.weights).abs().sum() / 2)


def sample(
    problem: Problem, sampler: Sampler, n: int, seed: int, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, float, list[Info]]:
    """Images at the last level, network calls, and what happened on the way."""
    target = Target(problem, n, n, dtype=dtype)
    infos = []
    for state, info in run(target, sampler, ParticleRng([seed], n, target.device)):  # noqa: B007
        infos.append(info)
    return sampler.images(target, state), target.network_calls, infos


def sliced_wasserstein(a: Tensor, b: Tensor, directions: int = 400) -> float:
    """Sliced Wasserstein-2 distance of two equally large sample sets, fixed directions."""
    g = torch.Generator().manual_seed(0)
    theta = torch.randn(a[0].numel(), directions, generator=g, dtype=a.dtype)
    theta /= theta.norm(dim=0)
    p, q = ((x.flatten(1) @ theta).sort(dim=0).values for x in (a, b))
    return float((p - q).square().mean().sqrt())
