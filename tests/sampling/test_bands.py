"""Detail that a measurement sees well or hardly, under a prior that knows its scales."""

from __future__ import annotations

import pytest
import torch

from tiltkit.likelihoods import GaussianLikelihood
from tiltkit.operators.spectral import Diagonalised
from tiltkit.problem import Problem
from tiltkit.sampling.bands import Bands
from tiltkit.sampling.draw import Draw
from tiltkit.sampling.run import run
from tiltkit.sampling.target import Target
from tiltkit.sampling.twisted import Twisted, TwistedOptions
from tiltkit.sampling.weighing import MOST_KIN

SIDE, NOISE, N = 64, 0.02, 8
TAU = 0.01


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


@pytest.fixture(scope="module")
def blurred() -> tuple[Problem, torch.Tensor, torch.Tensor]:
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
    problem = Problem(
        Smooth(power), GaussianLikelihood(blur, y, NOISE**2), (1, SIDE, SIDE), lambda x: x, y[0]
    )
    return problem, mean[0], (1 / precision).mean()


def test_bands_share_the_coordinates_out_in_the_order_of_their_eigenvalues() -> None:
    eigenvalues = torch.linspace(0, 1, 40 * 50).reshape(40, 50)
    bands = Bands.of(eigenvalues)
    assert bands.labels is not None
    sizes = bands.sums(torch.ones(1, 40, 50))[0]
    assert bands.count > 4
    assert sizes.max() < 1.1 * sizes.min()
    assert (bands.labels.flatten().diff() >= 0).all()
    assert torch.equal(bands.spread_out(range(bands.count)), bands.labels.float())


def test_few_coordinates_are_one_band() -> None:
    assert Bands.of(torch.rand(10)).count == 1
    assert torch.equal(Bands().sums(torch.ones(3, 2, 5)), torch.full((3, 1), 10.0).double())


@pytest.mark.parametrize("levels", [24, 96])
def test_few_particles_keep_the_exact_mean_and_spread_of_a_blurred_image(
    blurred: tuple[Problem, torch.Tensor, torch.Tensor], levels: int
) -> None:
    problem, mean, variance = blurred
    target = Target(problem, N, N)
    sampler = Twisted(TwistedOptions(levels=levels, collect=1))
    steps = list(run(target, sampler, Draw([0], N, target.device)))
    state, infos = steps[-1][0], [info for _, info in steps]
    x = sampler.images(target, state)
    assert x.var(0).mean() == pytest.approx(float(variance), rel=0.1)
    # The mean of N draws is off by an N-th of their variance.
    excess = (x.mean(0) - mean).square().mean() / variance
    assert excess < 1.3 / N
    # The prior is right, and the data agree with it at every level.
    assert max(info.misfit for info in infos if not info.final and info.misfit > 0) < 1.15
    assert state.kinship <= MOST_KIN
