"""Samples of posteriors that are not Gaussian, against numerical integration.

Tolerances are what unadjusted moves on ladders of this length reach; longer ones come closer.
"""

from __future__ import annotations

import pytest
import torch

from tiltkit.errors import UsageError
from tiltkit.likelihoods import (
    GaussianLikelihood,
    PoissonGaussianLikelihood,
    PoissonLikelihood,
    TransmissionPoissonLikelihood,
)
from tiltkit.operators.compose import Pointwise
from tiltkit.operators.spectral import Dense
from tiltkit.posterior.certificate import data_fit
from tiltkit.priors.closed_form import Mixture
from tiltkit.problem import Constraint, Problem
from tiltkit.sampling.particles.rng import ParticleRng
from tiltkit.sampling.run import run
from tiltkit.sampling.samplers.almc import Almc, AlmcOptions
from tiltkit.sampling.samplers.moments import Moments, MomentsOptions
from tiltkit.sampling.samplers.walmc import Walmc, WalmcOptions
from tiltkit.sampling.target import Target

N, TAU = 1500, 0.01
MATRIX = torch.tensor([[1.2, 0.4], [0.3, 1.5], [0.8, 0.8], [0.2, 1.9]], dtype=torch.float64)
PLANE, LINE = Dense(MATRIX, (2,)), Pointwise(torch.ones(1, dtype=torch.float64))


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def prior(*means, variance):
    means = tensor(*means)
    return Mixture(means, variance, torch.ones(len(means), dtype=torch.float64), (TAU, 20.0))


def problem_of(prior, likelihood, constraint=None):
    shape = tuple(prior.means.shape[1:])
    baseline = torch.zeros(shape)
    return Problem(prior, likelihood, shape, lambda x: x, baseline, constraint=constraint)


def integrated(problem, low, high, points=400):
    """Mean and standard deviation of the posterior on a grid."""
    d = problem.shape[0]
    axis = torch.linspace(low, high, points if d > 1 else 8001, dtype=torch.float64)
    x = torch.cartesian_prod(*[axis] * d).reshape(-1, d)
    distance = (x[:, None] - problem.prior.means).square().sum(2)
    log_prior = torch.logsumexp(-distance / (2 * (problem.prior.variance + TAU**2)), 1)
    weights = torch.softmax(log_prior - problem.likelihood.potential(x), 0)
    mean = weights @ x
    return mean, (weights @ (x - mean).square()).sqrt()


def sampled(problem, sampler, n=N, seed=0):
    target = Target(problem, n, n, dtype=torch.float64)
    *_, (state, info) = run(target, sampler, ParticleRng([seed], n, target.device))
    return sampler.images(target, state), target, info


def moments(**options):
    return Moments(MomentsOptions.model_validate({"collect": 1} | options))


def almc(delta):
    options = {"T": 1.0, "tau": TAU, "kappa": 12, "warm_steps": 50, "reports": 10, "collect": 0}
    return Almc(AlmcOptions(delta=delta, **options))


LINES = {
    "poisson 5": PoissonLikelihood(LINE, tensor([5])),
    "poisson 0": PoissonLikelihood(LINE, tensor([0]), 1.0, 0.2),
    "transmission 5": TransmissionPoissonLikelihood(LINE, tensor([5]), 20.0, 1.0),
    "transmission 0": TransmissionPoissonLikelihood(LINE, tensor([0]), 20.0),
    "camera": PoissonGaussianLikelihood(LINE, tensor([7]), 1.5, 2.0, 0.9),
}
PLANES = {
    "poisson": PoissonLikelihood(PLANE, tensor([3, 0, 6, 2]), 1.0, 0.5),
    "transmission": TransmissionPoissonLikelihood(PLANE, tensor([9, 1, 4, 0]), 20.0, 1.0),
}


@pytest.mark.parametrize("name", LINES)
def test_samples_of_a_pixel_have_the_mean_and_spread_of_its_posterior(name):
    problem = problem_of(prior([2.0], variance=1.0), LINES[name])
    mean, std = integrated(problem, -6, 12)
    x = sampled(problem, moments())[0]
    assert float((x.mean() - mean) / std) == pytest.approx(0, abs=0.15)
    assert float(x.std() / std) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("name", PLANES)
def test_samples_of_two_mixed_pixels_match_a_posterior_with_two_modes(name):
    means = [[1.0, 1.0], [4.0, 0.5]] if name == "poisson" else [[0.3, 0.3], [1.5, 0.5]]
    problem = problem_of(prior(*means, variance=0.4), PLANES[name])
    mean, std = integrated(problem, -3, 9)
    x = sampled(problem, moments())[0]
    assert ((x.mean(0) - mean) / std).abs().max() < 0.2
    assert (x.std(0) / std - 1).abs().max() < 0.12


@pytest.mark.parametrize("name", ["poisson", "transmission"])
def test_published_samples_of_two_mixed_pixels_match_their_posterior(name):
    problem = problem_of(prior([1.0, 0.6], variance=0.4), PLANES[name])
    mean, std = integrated(problem, -3, 6)
    x = sampled(problem, almc(0.008), n=1000)[0]
    assert ((x.mean(0) - mean) / std).abs().max() < 0.15
    assert (x.std(0) / std - 1).abs().max() < 0.1


def test_the_published_sampler_finds_a_stable_step_for_counts():
    problem = problem_of(prior([1.0, 0.6], variance=0.4), PLANES["poisson"])
    assert sampled(problem, almc(None), n=50)[0].abs().max() < 10


def test_many_rays_of_few_counts_through_the_same_pixels_stay_with_their_data():
    """A direction that many rays share has a much larger curvature than each ray."""
    g = torch.Generator().manual_seed(0)
    matrix = 0.1 * (torch.rand(800, 100, generator=g) < 0.4).double()
    x = 1 + 0.3 * torch.randn(1, 100, generator=g, dtype=torch.float64)
    y = torch.poisson(30 * (-x @ matrix.T).exp(), generator=g)
    likelihood = TransmissionPoissonLikelihood(Dense(matrix, (100,)), y, 30.0)
    problem = problem_of(prior([1.0] * 100, variance=0.09), likelihood)
    found = sampled(problem, moments(levels=24), n=8)[0]
    assert likelihood.chi2(found).mean() == pytest.approx(float(likelihood.chi2(x)), rel=0.1)


class Plugin:
    """A likelihood of a plugin: the protocol and a Gaussian approximation."""

    def __init__(self, likelihood):
        self.potential, self.gradient = likelihood.potential, likelihood.gradient
        self.chi2, self.approximation = likelihood.chi2, likelihood.approximation


@pytest.mark.parametrize(
    ("wrap", "others"), [(lambda likelihood: likelihood, "moments or almc"), (Plugin, "almc")]
)
def test_the_weighted_sampler_refuses_counts_and_names_samplers_that_take_them(wrap, others):
    problem = problem_of(prior([2.0], variance=1.0), wrap(LINES["poisson 5"]))
    with pytest.raises(UsageError, match="needs a Gaussian likelihood") as caught:
        sampled(problem, Walmc(WalmcOptions()), n=4)
    assert caught.value.hint == f"use --sampler {others}."


@pytest.mark.parametrize("chunk", [1, 7])
def test_samples_do_not_depend_on_the_chunk_size(chunk):
    problem = problem_of(prior([1.0, 1.0], variance=0.4), PLANES["poisson"])

    def x(chunk):
        target, sampler = Target(problem, 12, chunk, dtype=torch.float64), moments(levels=8)
        *_, (state, _) = run(target, sampler, ParticleRng([0], 12, target.device))
        return sampler.images(target, state)

    torch.testing.assert_close(x(chunk), x(12), rtol=1e-4, atol=1e-4)


def test_a_gaussian_likelihood_has_no_correction():
    likelihood = GaussianLikelihood(LINE, tensor([1]), 1.0)
    assert Target(problem_of(prior([2.0], variance=1.0), likelihood), 1, 1).correction is None


def test_with_the_correction_the_force_is_that_of_the_exact_likelihood():
    likelihood = PLANES["poisson"]
    x = torch.tensor([[1.0, 0.5], [2.0, 1.0]], dtype=torch.float64)
    target = Target(problem_of(prior([1.0, 1.0], variance=1.0), likelihood), 1, 1)
    approximate = likelihood.approximation().gradient(x)
    force = target.correction.force(x, TAU)
    torch.testing.assert_close(force - approximate, -likelihood.gradient(x))


@pytest.mark.parametrize("sampler", ["moments", "almc"])
def test_nothing_lies_outside_of_the_support(sampler):
    support = torch.tensor([True, False])
    constraint = Constraint(support=support)
    problem = problem_of(prior([1.0, 0.6], variance=0.4), PLANES["poisson"], constraint)
    x = sampled(problem, moments() if sampler == "moments" else almc(0.01), n=100)[0]
    assert bool((x[:, 1] == 0).all())
    assert float(x[:, 0].std()) > 0.1


def test_chi2_of_samples_of_counts_is_what_the_certificate_expects_on_average():
    g = torch.Generator().manual_seed(0)
    known, reports = prior([6.0, 5.0], variance=1.0), []
    for seed in range(25):
        truth = known.means + torch.randn(1, 2, generator=g, dtype=torch.float64)
        y = torch.poisson(PLANE.forward(truth).clamp_min(0), generator=g)
        problem = problem_of(known, PoissonLikelihood(PLANE, y))
        x = sampled(problem, moments(levels=30), n=100, seed=seed)[0]
        reports.append(data_fit(problem.likelihood, x.mean(0), x, len(x), len(x)))

    def mean(name):
        return sum(report[name] for report in reports) / len(reports)

    assert mean("chi2") == pytest.approx(mean("chi2_expected"), abs=0.25)
    assert mean("chi2_mean") == pytest.approx(mean("chi2_mean_expected"), abs=0.25)
