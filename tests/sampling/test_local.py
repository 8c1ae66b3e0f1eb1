"""Local Gaussian conditioning of counts, against dense algebra."""

from __future__ import annotations

import math

import pytest
import torch

from tiltkit.likelihoods import PoissonLikelihood
from tiltkit.operators.bands import Bands
from tiltkit.operators.spectral import Dense
from tiltkit.sampling.gaussian.local import LocalGaussian

CPU = torch.device("cpu")


class Recording(PoissonLikelihood):
    """A likelihood that keeps the arguments of `matched`."""

    def matched(self, mean, variance):
        object.__setattr__(self, "given", (mean, variance))
        return super().matched(mean, variance)


def random_matrix(data, pixels):  # not with the seed of the probes
    g = torch.Generator().manual_seed(5)
    return torch.rand(data, pixels, generator=g, dtype=torch.float64)


def local(matrix, shape):
    y = torch.full((1, len(matrix)), 2.0, dtype=torch.float64)
    likelihood = Recording(Dense(matrix, shape), y)
    bands = Bands.shells(shape, CPU)
    return LocalGaussian.of(likelihood, bands, shape, torch.float64, CPU), bands


def covariance(bands, variance, shape):
    size = math.prod(shape)
    eye = torch.eye(size, dtype=torch.float64).view(size, *shape)
    return bands.scale(eye, bands.broadcast(variance)).view(size, size)


def test_variances_of_measurements_are_exact_for_white_errors_of_small_images():
    matrix = random_matrix(7, 16)
    given, bands = local(matrix, (1, 16))
    assert bands.count == 1
    x = torch.rand(3, 1, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    given.conditioning(x, [0.3])
    mean, variance = given.likelihood.given
    torch.testing.assert_close(mean, x.flatten(1) @ matrix.T)
    torch.testing.assert_close(variance, 0.3 * matrix.square().sum(1)[None])


@pytest.mark.parametrize("side", [16, 24])
def test_variances_of_measurements_follow_the_bands_of_the_error(side):
    """Exact on average in images of at most 256 values, within 25 % in larger ones."""
    shape = (1, side, side)
    matrix = random_matrix(40, side * side) - 0.5
    given, bands = local(matrix, shape)
    variance = [4.0**-k for k in range(bands.count)]
    given.conditioning(torch.zeros(1, *shape, dtype=torch.float64), variance)
    exact = torch.diagonal(matrix @ covariance(bands, variance, shape) @ matrix.T)
    ratio = given.likelihood.given[1][0] / exact
    assert float(ratio.mean()) == pytest.approx(1, abs=0.25)
    assert bool(((ratio > 0.4) & (ratio < 2)).all())


def test_conditioning_is_on_the_matched_gaussian_of_each_particle():
    matrix = random_matrix(3, 4)
    given, _ = local(matrix, (1, 4))
    x = torch.rand(2, 1, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) * 3
    score, _ = given.conditioning(x, [0.2]).likelihood_score(x, [0.0])
    for i in range(2):
        mean, variance = x[i].flatten() @ matrix.T, 0.2 * matrix.square().sum(1)
        alone = given.likelihood.matched(mean[None], variance[None])
        torch.testing.assert_close(
            score[i : i + 1], -alone.gradient(x[i : i + 1]), rtol=1e-3, atol=1e-5
        )
