"""Small problems with a posterior in closed form: Gaussian mixture priors, linear measurements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from tiltkit.likelihoods import GaussianLikelihood
from tiltkit.operators.spectral import Dense
from tiltkit.priors.closed_form import Mixture
from tiltkit.problem import Problem

if TYPE_CHECKING:
    from torch import Tensor

    from tiltkit.protocols import LinearOperator

__all__ = ["Known", "Plain", "make_known"]


@dataclass(frozen=True)
class Known:
    """A problem and its exact posterior: ``sum_k weight_k N(mean_k, covariance)``.

    Attributes:
        problem: The problem.
        weights: Posterior weights of the components, (component,) float64.
        means: Posterior means of the components, (component, pixel) float64.
        covariance: Posterior covariance of each component, (pixel, pixel) float64.
    """

    problem: Problem
    weights: Tensor
    means: Tensor
    covariance: Tensor

    @property
    def mean(self) -> Tensor:
        """Exact posterior mean (pixel,)."""
        return self.weights @ self.means


class Plain:
    """A linear operator without its singular value decomposition, so that solves are iterative."""

    def __init__(self, operator: LinearOperator) -> None:
        self.forward, self.adjoint = operator.forward, operator.adjoint

    def normal(self, x: Tensor) -> Tensor:
        """``A^H A x``."""
        return self.adjoint(self.forward(x))

    def solve(self, alpha: float, beta: float, b: Tensor) -> Tensor:
        """Not implemented; samplers use their own conjugate gradients."""
        raise NotImplementedError


def make_known(
    means: Tensor,
    variance: float,
    *,
    data: int,
    noise: float,
    seed: int,
    sigma_range: tuple[float, float],
    plain: bool = False,
) -> Known:
    """A mixture of isotropic Gaussians with equal weights, measured by a random matrix with noise.

    Args:
        means: Means of the components (component, pixel); their dtype is that of the problem.
        variance: Variance of each pixel within a component.
        data: Number of measurements.
        noise: Standard deviation of the measurement noise.
        seed: Seed of the matrix, the truth (from the first component) and the noise.
        sigma_range: Noise range of the prior.
        plain: Hide the singular value decomposition of the matrix (`Plain`).
    """
    g = torch.Generator().manual_seed(seed)
    k, d = means.shape
    matrix = torch.randn(data, d, generator=g, dtype=torch.float64) / d**0.5
    truth = means[0] + variance**0.5 * torch.randn(d, generator=g, dtype=torch.float64)
    y = matrix @ truth + noise * torch.randn(data, generator=g, dtype=torch.float64)
    dense = Dense(matrix.to(means.dtype), (d,))
    operator = Plain(dense) if plain else dense
    prior_weights = torch.full((k,), 1 / k, dtype=torch.float64)
    problem = Problem(
        prior=Mixture(means, variance, prior_weights.to(means.dtype), sigma_range),
        likelihood=GaussianLikelihood(operator, y[None].to(means.dtype), noise**2),
        shape=(d,),
        to_image=lambda x: x,
        baseline=torch.zeros(d),
    )
    means = means.double()
    evidence = torch.distributions.MultivariateNormal(
        means @ matrix.T,
        noise**2 * torch.eye(data, dtype=torch.float64) + variance * matrix @ matrix.T,
    )
    log_evidence: Tensor = evidence.log_prob(y)  # type: ignore[no-untyped-call]
    weights = torch.softmax(log_evidence, 0)
    precision = torch.eye(d, dtype=torch.float64) / variance + matrix.T @ matrix / noise**2
    covariance = torch.linalg.inv(precision)
    centres = (means / variance + y @ matrix / noise**2) @ covariance
    return Known(problem, weights, centres, covariance)
