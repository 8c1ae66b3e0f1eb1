"""Bands of coordinates: the error covariance of denoised images by spatial frequency."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tiltkit.likelihoods import GaussianLikelihood
from tiltkit.operators.bands import Bands
from tiltkit.operators.hartley import frequencies, hartley
from tiltkit.operators.spectral import Diagonalised
from tiltkit.priors.closed_form import SmoothGaussian
from tiltkit.problem import Problem
from tiltkit.sampling.gaussian.iterative import IterativeConditioning
from tiltkit.sampling.particles.rng import ParticleRng
from tiltkit.sampling.particles.weighing import MOST_SHARED_ANCESTRY
from tiltkit.sampling.run import run
from tiltkit.sampling.samplers.twisted import Twisted, TwistedOptions
from tiltkit.sampling.samplers.walmc import Walmc
from tiltkit.sampling.target import Target
from tiltkit.testing.known import Plain

N = 8


class Fourier(Diagonalised):
    """The image itself, in Hartley coordinates."""

    def __init__(self, side: int) -> None:
        self.eigenvalues = torch.ones(side, side)
        self.frequency = frequencies((side, side))

    def to_spectral(self, x: torch.Tensor) -> torch.Tensor:
        return hartley(x, (-2, -1))

    from_spectral = to_spectral

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x

    adjoint = forward


class Matrix:
    """Images (1, 32, 32) to numbers."""

    def __init__(self, matrix: torch.Tensor) -> None:
        self.matrix = matrix

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1) @ self.matrix.T

    def adjoint(self, y: torch.Tensor) -> torch.Tensor:
        return (y @ self.matrix).view(-1, 1, 32, 32)


def test_bands_share_the_coordinates_out_in_the_order_of_their_eigenvalues() -> None:
    eigenvalues = torch.linspace(0, 1, 40 * 50).reshape(40, 50)
    bands = Bands.by_eigenvalue(eigenvalues)
    assert bands.labels is not None
    sizes = bands.inner(*2 * [torch.ones(1, 40, 50)])[0]
    assert bands.count > 4
    assert sizes.max() < 1.1 * sizes.min()
    assert (bands.labels.flatten().diff() >= 0).all()
    assert torch.equal(bands.broadcast(range(bands.count)), bands.labels.float())


@pytest.mark.parametrize("shape", [(1, 64, 81), (2, 64, 64), (1, 16, 30, 31), (1, 4096)])
def test_shells_order_detail_from_coarse_to_fine(shape: tuple[int, ...]) -> None:
    bands = Bands.shells(shape, torch.device("cpu"))
    assert bands.count > 1
    coarse = torch.ones(1, *shape)
    fine = torch.ones_like(coarse)
    for axis in range(2, fine.ndim):
        n = fine.shape[axis]
        fine = fine * (-1.0) ** torch.arange(n).view(-1, *[1] * (fine.ndim - 1 - axis))
    for image, band in ((coarse, 0), (fine, bands.count - 1)):
        energy = bands.inner(image, image)[0]
        assert energy[band] > 0.9 * energy.sum()
        assert float(energy.sum()) == pytest.approx(image.numel(), rel=1e-5)


@pytest.mark.parametrize("shape", [(1, 64, 81), (2, 64, 64), (1, 12, 30, 31), (1, 4096)])
def test_products_of_bands_are_those_of_their_hartley_coefficients(shape: tuple[int, ...]) -> None:
    g = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 3, *shape, generator=g, dtype=torch.float64)
    bands = Bands.shells(shape, torch.device("cpu"))
    assert bands.labels is not None
    products = hartley(a, bands.axes) * hartley(b, bands.axes)
    for band, (inner, square) in enumerate(zip(bands.inner(a, b).T, bands.inner(a, a).T,
                                               strict=True)):  # fmt: skip
        inside = (bands.labels == band).expand(shape)
        torch.testing.assert_close(inner, products[:, inside].sum(1))
        torch.testing.assert_close(square, hartley(a, bands.axes)[:, inside].square().sum(1))


@pytest.mark.parametrize("shape", [(1, 64, 81), (2, 64, 64), (1, 12, 30, 31), (1, 4096)])
def test_scaling_multiplies_hartley_coefficients(shape: tuple[int, ...]) -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(3, *shape, generator=g, dtype=torch.float64)
    bands = Bands.shells(shape, torch.device("cpu"))
    factors = bands.broadcast(torch.rand(bands.count, generator=g))
    assert isinstance(factors, torch.Tensor)
    expected = hartley(factors * hartley(x, bands.axes), bands.axes)
    torch.testing.assert_close(bands.scale(x, factors), expected)


@pytest.mark.parametrize("axes", [True, False])
def test_sums_over_bands_depend_on_the_chunk_by_rounding_and_not_on_the_threads(axes: bool) -> None:
    shape = (2, 96, 96)
    bands = Bands.shells(shape, torch.device("cpu"))
    if not axes:
        bands = Bands(bands.count, bands.labels)
    x = torch.randn(5, *shape, generator=torch.Generator().manual_seed(0))
    whole = bands.inner(x, x)
    assert torch.equal(bands.inner(x, x), whole)
    parts = torch.cat([bands.inner(part, part) for part in x.split(2)])
    torch.testing.assert_close(parts, whole, rtol=1e-14, atol=0)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if threads > 1 else 2)
        assert torch.equal(bands.inner(x, x), whole)
    finally:
        torch.set_num_threads(threads)


def test_scaling_acts_on_the_coefficients_of_a_band_alone() -> None:
    bands = Bands.shells((1, 64, 64), torch.device("cpu"))
    x = torch.randn(3, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    factors = bands.broadcast([1.0, *[0.0] * (bands.count - 1)])
    kept = bands.scale(x, factors)
    energy = bands.inner(kept, kept)
    torch.testing.assert_close(energy[:, 0], bands.inner(x, x)[:, 0], rtol=1e-5, atol=0)
    assert energy[:, 1:].max() < 1e-8 * energy[:, 0].min()
    assert torch.equal(bands.scale(x, 2.0), 2 * x)


@pytest.mark.parametrize("variances", [(2.0, 1.0, 0.3, 0.1, 0.01), (0.2,) * 5])
def test_the_iterative_likelihood_score_is_that_of_dense_algebra(
    variances: tuple[float, ...],
) -> None:
    """For any operator, with a ``C`` of one variance per shell."""
    g, shape = torch.Generator().manual_seed(0), (1, 32, 32)
    a = torch.randn(40, 1024, generator=g, dtype=torch.float64) / 32
    likelihood = GaussianLikelihood(Plain(Matrix(a)), torch.randn(1, 40, generator=g).double(), 0.1)
    conditioning = IterativeConditioning(likelihood, shape, torch.float64, potential_error=1e-12)
    assert conditioning.bands.count == len(variances)
    variance = variances
    basis = hartley(torch.eye(1024, dtype=torch.float64).view(-1, *shape), (-2, -1)).flatten(1)
    per_coordinate = torch.as_tensor(conditioning.bands.broadcast(variance)).expand(32, 32)
    c = basis @ per_coordinate.flatten().diag().double() @ basis
    s = 0.1 * torch.eye(40, dtype=torch.float64) + a @ c @ a.T
    x = torch.randn(3, *shape, generator=g, dtype=torch.float64)
    r = likelihood.y - x.flatten(1) @ a.T
    score, potential = conditioning.likelihood_score(x, variance)
    solved = torch.linalg.solve(s, r.T).T
    torch.testing.assert_close(score.flatten(1), solved @ a, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(potential, (r * solved).sum(1) / 2, rtol=1e-6, atol=0)


def test_iterative_residual_ratios_are_one_for_residuals_of_the_assumed_covariance() -> None:
    """Also where solves raise the noise variance for their condition number."""
    g, shape, n = torch.Generator().manual_seed(0), (1, 32, 32), 400
    a = torch.randn(60, 1024, generator=g, dtype=torch.float64) / 32
    a[50:] = 0  # measured values that no image changes
    for noise_var in (0.1, 1e-6):
        noise = noise_var**0.5 * torch.randn(n, 60, generator=g, dtype=torch.float64)
        likelihood = GaussianLikelihood(Plain(Matrix(a)), 0 * noise[:1], noise_var)
        conditioning = IterativeConditioning(likelihood, shape, torch.float64)
        variances = [2.0, 1.0, 0.5, 0.3, 0.1]
        c = conditioning.bands.broadcast(variances)
        white = torch.randn(n, *shape, generator=g, dtype=torch.float64)
        error = hartley(torch.as_tensor(c).double().sqrt() * white, (-2, -1))
        # Noise in the range of A, as the image that explains it.
        error += (noise @ torch.linalg.pinv(a).T).view_as(error)
        blind = noise_var**0.5 * torch.randn(1, 60, generator=g, dtype=torch.float64)
        blind[:, :50] = 0
        conditioning = IterativeConditioning(GaussianLikelihood(Plain(Matrix(a)), blind, noise_var),
                         shape, torch.float64)  # fmt: skip
        assert float(conditioning.residual_ratio(error, variances).mean()) == pytest.approx(
            1, abs=0.06
        )


def test_few_coordinates_are_one_band() -> None:
    assert Bands.by_eigenvalue(torch.rand(10)).count == 1
    assert Bands.shells((1, 10, 10), torch.device("cpu")).count == 1
    assert torch.equal(Bands().inner(*2 * [torch.ones(3, 2, 5)]), torch.full((3, 1), 10.0).double())


@pytest.mark.parametrize("levels", [24, 96])
def test_few_particles_keep_the_exact_mean_and_spread_of_a_blurred_image(
    blurred: tuple[Problem, torch.Tensor, torch.Tensor], levels: int
) -> None:
    problem, mean, variance = blurred
    target = Target(problem, N, N)
    sampler = Twisted(TwistedOptions(levels=levels, collect=1))
    steps = list(run(target, sampler, ParticleRng([0], N, target.device)))
    state, infos = steps[-1][0], [info for _, info in steps]
    x = sampler.images(target, state)
    assert x.var(0).mean() == pytest.approx(float(variance), rel=0.1)
    # The mean of N draws is off by an N-th of their variance.
    excess = (x.mean(0) - mean).square().mean() / variance
    assert excess < 1.3 / N
    # The prior is right, and the data agree with it at every level.
    assert (
        max(info.residual_ratio for info in infos if not info.final and info.residual_ratio > 0)
        < 1.15
    )
    assert state.shared_ancestry <= MOST_SHARED_ANCESTRY


@pytest.mark.parametrize("solves", [False, True])
def test_coarse_and_fine_detail_have_the_exact_spread(solves: bool) -> None:
    """A prior with the spectrum of images; the noise has the variance of fine detail."""
    side, noise, n = 64, 0.2, 64
    operator = Fourier(side)
    prior = SmoothGaussian(0.3, 2.0, 3.0, channels=1)
    power = prior.spectrum((side, side), torch.device("cpu")).float()
    g = torch.Generator().manual_seed(0)
    white = torch.randn(2, 1, side, side, generator=g)
    y = hartley(power.sqrt() * white[:1], (-2, -1)) + noise * white[1:]
    likelihood = GaussianLikelihood(Plain(operator) if solves else operator, y, noise**2)
    target = Target(Problem(prior, likelihood, (1, side, side), lambda x: x, y[0]), n, n)
    sampler = Twisted(TwistedOptions(most_shared_ancestry=0.0))
    *_, (state, _) = run(target, sampler, ParticleRng([0], n, target.device))
    x = hartley(sampler.images(target, state), (-2, -1))
    exact = 1 / (1 / noise**2 + 1 / power)
    radius = side * operator.frequency
    for low, high, least in ((0, 1.5, 0.75), (1.5, 6, 0.8), (6, 20, 0.9), (20, 46, 0.9)):
        shell = (radius >= low) & (radius < high)
        assert least < float((x.var(0)[0] / exact)[shell].mean()) < 1.15


@pytest.mark.parametrize("most", [0.0, pytest.param(0.3, marks=pytest.mark.slow), 1.0])
@pytest.mark.parametrize("kind", [Twisted, Walmc])
def test_weights_are_skipped_where_particles_would_share_too_many_ancestors(
    blurred: tuple[Problem, torch.Tensor, torch.Tensor], kind: Any, most: float
) -> None:
    problem, _, _ = blurred
    target = Target(problem, N, N)
    sampler = kind(kind.Options(levels=24, collect=1, most_shared_ancestry=most))
    steps = list(run(target, sampler, ParticleRng([0], N, target.device)))
    shared_ancestry = steps[-1][0].shared_ancestry
    assert shared_ancestry <= most
    assert (shared_ancestry > MOST_SHARED_ANCESTRY) == (most > MOST_SHARED_ANCESTRY)
    assert any(info.resampled for _, info in steps) == (most > 0)
