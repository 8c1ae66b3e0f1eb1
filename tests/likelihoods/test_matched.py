"""Local Gaussian approximations of counts, against posterior moments on a fine grid."""

from __future__ import annotations

import math

import pytest
import torch

from tiltkit.likelihoods import (
    MomentMatched,
    PoissonGaussianLikelihood,
    PoissonLikelihood,
    TransmissionPoissonLikelihood,
)
from tiltkit.operators.compose import Pointwise

LINE = Pointwise(torch.ones(1, dtype=torch.float64))


def number(value):
    return torch.tensor([[value]], dtype=torch.float64)


def on_a_grid(likelihood, mean, variance):
    """Mean and variance of ``N(t; mean, variance) exp(-R(t))``."""
    reach = 12 * math.sqrt(variance)
    t = torch.linspace(mean - reach, mean + reach, 200_001, dtype=torch.float64)
    potential = likelihood.potential(t[:, None]) + (t - mean).square() / (2 * variance)
    weights = torch.softmax(-potential, 0)
    first = float(weights @ t)
    return first, float(weights @ (t - first).square())


def by_matching(likelihood, mean, variance):
    """The same by conditioning ``N(mean, variance)`` on the matched Gaussian."""
    matched = likelihood.matched(number(mean), number(variance))
    root = float(matched.operator.forward(number(1.0)))
    spread = 1 / (1 / variance + root**2 / matched.noise_var)
    return mean + spread * root * (float(matched.y) - root * mean) / matched.noise_var, spread


@pytest.mark.parametrize("variance", [0.01, 1.0, 9.0])
@pytest.mark.parametrize("mean", [0.3, 2.0, 8.0])
@pytest.mark.parametrize("count", [0, 1, 4, 60])
@pytest.mark.parametrize(
    "make",
    [
        lambda y: PoissonLikelihood(LINE, y, 3.0, 0.1),
        lambda y: PoissonLikelihood(LINE, y),
        lambda y: TransmissionPoissonLikelihood(LINE, y, 200.0),
        lambda y: PoissonGaussianLikelihood(LINE, y + 2.0, 1.5, 2.0, 0.9),
    ],
    ids=["poisson", "poisson without background", "transmission", "camera"],
)
def test_a_matched_gaussian_gives_the_posterior_mean_and_variance_of_the_counts(
    make, count, mean, variance
):
    likelihood = make(number(float(count)))
    exact, exact_variance = on_a_grid(likelihood, mean, variance)
    found, found_variance = by_matching(likelihood, mean, variance)
    assert found == pytest.approx(exact, abs=0.003 * math.sqrt(exact_variance))
    assert found_variance == pytest.approx(exact_variance, rel=0.004)


def test_a_count_of_zero_lowers_the_mean_without_a_mode_above_zero():
    likelihood = PoissonLikelihood(LINE, number(0.0))
    mean, variance = by_matching(likelihood, 5.0, 0.25)
    # exp(-t) times N(5, 1/4) is N(5 - 1/4, 1/4).
    assert mean == pytest.approx(4.75, abs=1e-3)
    assert variance == pytest.approx(0.25, rel=2e-3)


def test_an_opaque_ray_with_background_is_matched_by_a_variance_no_wider_than_the_prior():
    """Behind an opaque object the potential is concave; no Gaussian likelihood widens a prior."""
    likelihood = TransmissionPoissonLikelihood(LINE, number(3.0), 200.0, 2.0)
    assert by_matching(likelihood, 12.0, 1.0)[1] == pytest.approx(1.0, rel=2e-3)


def test_many_counts_near_the_rate_are_matched_by_the_gaussian_of_the_data():
    likelihood = PoissonLikelihood(LINE, number(10_000.0))
    matched, plain = likelihood.matched(number(10_000.0), number(1e4)), likelihood.approximation()
    root = float(matched.operator.forward(number(1.0)))
    assert root**2 == pytest.approx(1 / plain.noise_var, rel=0.01)
    assert float(matched.y) / root == pytest.approx(10_000.0, abs=1.0)


def test_dead_pixels_have_no_weight_in_the_matched_gaussian():
    gain = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    y = torch.tensor([[3.0, float("nan")]], dtype=torch.float64)
    line = Pointwise(torch.ones(2, dtype=torch.float64))
    matched = PoissonLikelihood(line, y, gain).matched(torch.ones(5, 2).double(), number(2.0))
    assert matched.dead == 1
    assert bool((matched.operator.forward(torch.ones(5, 2).double())[:, 1] == 0).all())
    assert bool(matched.y.isfinite().all())


def test_likelihoods_of_counts_are_moment_matched():
    assert isinstance(PoissonLikelihood(LINE, number(1.0)), MomentMatched)
    assert isinstance(PoissonGaussianLikelihood(LINE, number(1.0)), MomentMatched)
