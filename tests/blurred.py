"""A blurred image with a Gaussian prior: its posterior is known exactly."""

from __future__ import annotations

import pytest
import torch

from tiltkit.likelihoods import GaussianLikelihood
from tiltkit.operators.spectral import Diagonalised
from tiltkit.problem import Problem
from tiltkit.testing.known import Plain

SIDE, NOISE, TAU = 64, 0.02, 0.01


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
