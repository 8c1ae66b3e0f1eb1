"""Counts with `moments`, in more pixels than weights can serve, against numerical integration."""

from __future__ import annotations

import pytest
import torch

from tiltkit.errors import UsageError
from tiltkit.likelihoods import PoissonLikelihood, TransmissionPoissonLikelihood
from tiltkit.operators.compose import Pointwise
from tiltkit.priors.closed_form import Mixture
from tiltkit.problem import Problem
from tiltkit.sampling.particles.rng import ParticleRng
from tiltkit.sampling.run import run
from tiltkit.sampling.samplers.moments import Moments, MomentsOptions
from tiltkit.sampling.target import Target

PIXELS, PARTICLES, TAU = 256, 32, 0.01
CASES = {
    "nothing counted": (2.0, 1.0, 0, 0.2),
    "nothing counted, wide prior": (5.0, 9.0, 0, 0.2),
    "one count": (2.0, 1.0, 1, 0.0),
    "three counts": (5.0, 9.0, 3, 0.0),
    "fewer counts than expected": (20.0, 25.0, 10, 0.0),
}


def poisson(pixels, count, background):
    operator = Pointwise(torch.ones(pixels, dtype=torch.float64))
    y = torch.full((1, pixels), float(count), dtype=torch.float64)
    return PoissonLikelihood(operator, y, 1.0, background)


def problem_of(likelihood, mean, variance):
    pixels = likelihood.y.shape[1]
    means = torch.full((1, pixels), mean, dtype=torch.float64)
    one = torch.ones(1, dtype=torch.float64)
    prior = Mixture(means, variance, one, (TAU, 20 * variance**0.5))
    return Problem(prior, likelihood, (pixels,))


def integrated(likelihood, mean, variance):
    """Mean and variance of the posterior of one pixel under the prior noised by tau."""
    x = torch.linspace(-20, 80, 100_001, dtype=torch.float64)
    log_prior = -(x - mean).square() / (2 * (variance + TAU**2))
    weights = torch.softmax(log_prior - likelihood.potential(x[:, None]), 0)
    first = weights @ x
    return float(first), float(weights @ (x - first).square())


def sampled(problem):
    target = Target(problem, PARTICLES, PARTICLES, dtype=torch.float64)
    sampler = Moments(MomentsOptions(collect=1))
    *_, (state, _) = run(target, sampler, ParticleRng([0], PARTICLES, target.device))
    return sampler.images(target, state)


@pytest.mark.parametrize("name", CASES)
def test_pixels_have_the_mean_and_the_variance_of_their_posterior(name):
    mean, variance, count, background = CASES[name]
    x = sampled(problem_of(poisson(PIXELS, count, background), mean, variance))
    exact, exact_variance = integrated(poisson(1, count, background), mean, variance)
    assert float(x.mean()) == pytest.approx(exact, abs=0.05 * exact_variance**0.5)
    assert float(x.var()) == pytest.approx(exact_variance, rel=0.08)


def test_rays_of_few_photons_have_the_mean_and_the_variance_of_their_posterior():
    def rays(pixels):
        operator = Pointwise(torch.ones(pixels, dtype=torch.float64))
        y = torch.full((1, pixels), 2.0, dtype=torch.float64)
        return TransmissionPoissonLikelihood(operator, y, 20.0)

    x = sampled(problem_of(rays(PIXELS), 1.5, 0.5))
    exact, exact_variance = integrated(rays(1), 1.5, 0.5)
    assert float(x.mean()) == pytest.approx(exact, abs=0.05 * exact_variance**0.5)
    assert float(x.var()) == pytest.approx(exact_variance, rel=0.08)


def test_a_likelihood_without_local_approximations_is_refused():
    class Plugin:
        def __init__(self, likelihood):
            self.y = likelihood.y
            self.potential, self.gradient = likelihood.potential, likelihood.gradient
            self.chi2, self.approximation = likelihood.chi2, likelihood.approximation

    with pytest.raises(UsageError, match="matched"):
        sampled(problem_of(Plugin(poisson(2, 3, 0.0)), 2.0, 1.0))
