"""Small problems whose posterior is known exactly."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from tiltkit.likelihoods import GaussianLikelihood
from tiltkit.operators.spectral import Dense, Diagonalised
from tiltkit.priors.closed_form import Mixture
from tiltkit.problem import Problem
from tiltkit.sampling.draw import Draw
from tiltkit.sampling.run import run
from tiltkit.sampling.target import Target
from tiltkit.sampling.walmc import Walmc, WalmcOptions

SIDE, NOISE, TAU = 64, 0.02, 0.01  # of `blurred`


@dataclass(frozen=True)
class Known:
    """A problem and its exact posterior: ``sum_k weight_k N(mean_k, covariance)``."""

    problem: Problem
    weights: Tensor
    means: Tensor
    covariance: Tensor

    @property
    def mean(self) -> Tensor:
        return self.weights @ self.means


class Plain:
    """An operator that hides its spectrum, so that the engine has to solve by iteration."""

    def __init__(self, dense: Dense) -> None:
        self.forward, self.adjoint = dense.forward, dense.adjoint

    def normal(self, x: Tensor) -> Tensor:
        return self.adjoint(self.forward(x))

    def solve(self, alpha: float, beta: float, b: Tensor) -> Tensor:
        raise NotImplementedError


class Blur(Diagonalised):
    """A circular Gaussian blur, as complex Fourier coefficients."""

    def __init__(self, response: torch.Tensor) -> None:
        self.response, self.eigenvalues = response, response.square()

    def to_spectral(self, x: torch.Tensor) -> torch.Tensor:
        return torch.fft.fft2(x, norm="ortho")

    def from_spectral(self, coordinates: torch.Tensor) -> torch.Tensor:
        return torch.fft.ifft2(coordinates, norm="ortho").real

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.from_spectral(self.response * self.to_spectral(x))

    adjoint = forward


class Smooth:
    """A Gaussian prior with much more power in coarse than in fine detail."""

    channels, value_range, sigma_range = 1, "", (TAU, 5.0)

    def __init__(self, power: torch.Tensor) -> None:
        self.power = power

    def score(self, x: torch.Tensor, sigma: float) -> torch.Tensor:
        return torch.fft.ifft2(torch.fft.fft2(x) / -(self.power + sigma**2)).real

    def to(self, device: torch.device) -> Smooth:
        return self


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
    weights = torch.softmax(evidence.log_prob(y), 0)
    precision = torch.eye(d, dtype=torch.float64) / variance + matrix.T @ matrix / noise**2
    covariance = torch.linalg.inv(precision)
    centres = (means / variance + y @ matrix / noise**2) @ covariance
    return Known(problem, weights, centres, covariance)


def sample(
    known: Known,
    *,
    n: int = 2000,
    seed: int = 0,
    chunk: int | None = None,
    dtype: torch.dtype = torch.float64,
    **options: float,
) -> Tensor:
    """Samples of the default sampler, as matrix (n, pixel)."""
    defaults = {"levels": 60, "start_moves": 10, "collect": 1, "least_ess": 0.0}
    sampler = Walmc(WalmcOptions.model_validate(defaults | options))
    target = Target(known.problem, n, chunk or n, dtype=dtype)
    *_, (state, _) = run(target, sampler, Draw([seed], n, target.device))
    return sampler.images(target, state)


@pytest.fixture(scope="module", params=["spectral", "solve"])
def blurred(request: pytest.FixtureRequest) -> tuple[Problem, torch.Tensor, torch.Tensor]:
    """A problem, its exact posterior mean, and the exact mean variance of a pixel."""
    f = torch.fft.fftfreq(SIDE)
    square = f[:, None] ** 2 + f**2
    power = 1 / (square + 0.02**2) ** 2
    power *= 0.1 / power.mean()
    blur = Blur(torch.exp(-2 * torch.pi**2 * 1.5 * square))
    g = torch.Generator().manual_seed(0)
    white = torch.randn(1, 1, SIDE, SIDE, generator=g)
    truth = torch.fft.ifft2(torch.fft.fft2(white) * power.sqrt()).real
    y = blur.forward(truth) + NOISE * torch.randn(truth.shape, generator=g)
    precision = blur.eigenvalues / NOISE**2 + 1 / (power + TAU**2)  # samples carry the last noise
    mean = blur.from_spectral(blur.to_spectral(blur.adjoint(y)) / NOISE**2 / precision)
    operator = blur if request.param == "spectral" else Plain(blur)
    likelihood = GaussianLikelihood(operator, y, NOISE**2)
    problem = Problem(Smooth(power), likelihood, (1, SIDE, SIDE), lambda x: x, y[0])
    return problem, mean[0], (1 / precision).mean()


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
