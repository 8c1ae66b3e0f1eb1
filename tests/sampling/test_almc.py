"""The published sampler against closed forms: warm start, end of the path, step size."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from tiltkit.errors import TiltkitError, UsageError
from tiltkit.likelihoods import GaussianLikelihood
from tiltkit.operators.spectral import Dense
from tiltkit.priors.closed_form import Mixture
from tiltkit.problem import Problem
from tiltkit.sampling.particles.rng import ParticleRng
from tiltkit.sampling.run import run
from tiltkit.sampling.samplers.almc import Almc, AlmcOptions, noise_level
from tiltkit.sampling.target import Target

MATRIX = torch.tensor([[1.0, 0.5, -0.3], [0.0, 0.8, 0.6]], dtype=torch.float64)
Y = torch.tensor([[1.2, -0.4]], dtype=torch.float64)
MEAN, VARIANCE, NOISE_VAR = torch.tensor([0.5, -1.0, 0.2], dtype=torch.float64), 0.6, 0.4
EYE = torch.eye(3, dtype=torch.float64)


def problem(likelihood=None, scale=1.0):
    given = GaussianLikelihood(Dense(scale * MATRIX, (3,)), Y, NOISE_VAR)
    prior = Mixture(MEAN[None], VARIANCE, torch.ones(1).double(), (0.01, 20.0))
    return Problem(prior, likelihood or given, (3,), lambda x: x, torch.zeros(3))


def posterior(mean, covariance):
    """Mean and covariance of the posterior with a Gaussian prior and the exact likelihood."""
    result = torch.linalg.inv(torch.linalg.inv(covariance) + MATRIX.T @ MATRIX / NOISE_VAR)
    return result @ (torch.linalg.solve(covariance, mean) + MATRIX.T @ Y[0] / NOISE_VAR), result


def target(n=1500, chunk=None, given=None):
    return Target(given or problem(), n, chunk or n, dtype=torch.float64)


def last(options, where):
    *_, (state, _) = run(where, Almc(options), ParticleRng([0], where.n, where.device))
    return state.c


def assert_law(x, mean, covariance, rtol=0.0):
    n, std = len(x), covariance.diagonal().sqrt()
    assert ((x.mean(0) - mean) / std).abs().max() < 5 / n**0.5 + rtol
    error = (x.T.cov() - covariance) / torch.outer(std, std)
    assert error.abs().max() < 5 * (2 / n) ** 0.5 + rtol


def test_the_warm_start_reaches_the_standard_normal_given_the_data():
    where = target()
    options = AlmcOptions(delta=0.02, warm_steps=200)
    state, info = Almc(options).init(where, 2.0, ParticleRng([0], where.n, where.device))
    assert_law(state.c, *posterior(torch.zeros(3).double(), EYE), rtol=0.05)
    assert where.network_calls == 0
    assert info.noise_level == noise_level(2.0)


def test_the_path_ends_at_the_posterior_of_the_noised_prior():
    tau = 0.2
    options = AlmcOptions(T=1.0, tau=tau, kappa=4, delta=0.02, warm_steps=30, reports=10)
    mean = math.exp(-tau) * MEAN
    covariance = (math.exp(-2 * tau) * VARIANCE + 1 - math.exp(-2 * tau)) * EYE
    assert_law(last(options, target()), *posterior(mean, covariance), rtol=0.05)


@pytest.mark.parametrize("t", [0.01, 0.5, 3.0])
def test_noise_levels_are_those_of_the_rescaled_ornstein_uhlenbeck_path(t):
    # e^t X_t = X_0 + e^t sqrt(1 - e^-2t) Z
    assert noise_level(t) == pytest.approx(math.exp(t) * math.sqrt(1 - math.exp(-2 * t)))


def test_the_default_step_is_stable_for_a_badly_scaled_measurement():
    options = AlmcOptions(T=1.0, tau=0.01, warm_steps=300, reports=5, collect=0, kappa=0.001)
    x = last(options, target(20, given=problem(scale=30.0)))
    assert x.abs().max() < 10


def test_a_sampler_has_no_state_of_the_previous_problem():
    sampler = Almc(AlmcOptions(T=1.0, tau=0.3, warm_steps=5, reports=4))

    def end(sampler, where):
        *_, (state, _) = run(where, sampler, ParticleRng([0], where.n, where.device))
        return state.c

    end(sampler, target(3, given=problem(scale=30.0)))
    assert torch.equal(end(sampler, target(3)), end(Almc(sampler.options), target(3)))


def test_a_step_beyond_the_stability_limit_stops_the_run():
    options = AlmcOptions(T=1.0, tau=0.01, delta=2.0, warm_steps=2000, reports=5)
    with pytest.raises(TiltkitError, match="NaN or infinite"):
        last(options, target(5))


def test_one_network_call_is_made_per_langevin_step():
    where = target(10, chunk=3)
    options = AlmcOptions(T=1.0, tau=0.5, delta=0.01, kappa=1, reports=5, collect=2, warm_steps=3)
    last(options, where)
    assert where.network_calls == pytest.approx(7 * 10)


@pytest.mark.parametrize("chunk", [1, 4])
def test_samples_do_not_depend_on_the_chunk_size(chunk):
    options = AlmcOptions(T=1.0, tau=0.3, delta=0.05, warm_steps=5, reports=4)
    torch.testing.assert_close(last(options, target(9, chunk)), last(options, target(9)))


class Softplus:
    """A convex likelihood that is not Gaussian: logistic, ``log(1 + exp(-x_0))``."""

    def potential(self, x):
        return torch.nn.functional.softplus(-x[:, 0]).double()

    def gradient(self, x):
        gradient = torch.zeros_like(x)
        gradient[:, 0] = -torch.sigmoid(-x[:, 0])
        return gradient

    def chi2(self, x):
        return torch.ones(len(x)).double()


def test_samples_with_a_logistic_likelihood_match_numerical_integration():
    tau = 0.1
    options = AlmcOptions(T=1.0, tau=tau, kappa=4, delta=0.02, warm_steps=30, reports=10)
    x = last(options, target(given=problem(Softplus())))
    grid = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    variance = math.exp(-2 * tau) * VARIANCE + 1 - math.exp(-2 * tau)
    log_density = -((grid - math.exp(-tau) * 0.5) ** 2) / (2 * variance)
    weights = torch.softmax(log_density - torch.nn.functional.softplus(-grid), 0)
    mean = float(weights @ grid)
    std = float((weights @ (grid - mean) ** 2).sqrt())
    assert float(x[:, 0].mean()) == pytest.approx(mean, abs=5 * std / 1500**0.5)
    assert float(x[:, 0].std()) == pytest.approx(std, rel=0.1)


def test_a_likelihood_that_is_not_gaussian_needs_a_step_size():
    with pytest.raises(UsageError, match="step size") as caught:
        last(AlmcOptions(), target(3, given=problem(Softplus())))
    assert "sampler.delta" in caught.value.hint


def test_the_path_starts_within_the_noise_range_of_the_prior():
    given = problem()
    narrow = Mixture(MEAN[None], VARIANCE, torch.ones(1).double(), (0.01, 5.0))
    times = Almc(AlmcOptions()).levels(target(1, given=replace(given, prior=narrow)))
    assert noise_level(times[0]) == pytest.approx(5.0)
    assert Almc(AlmcOptions()).levels(target(1))[0] == 2.0


@pytest.mark.parametrize("times", [{"tau": 1e-5}, {"T": 10.0}, {"T": 0.5, "tau": 0.6}])
def test_times_outside_the_noise_range_of_the_prior_are_an_error(times):
    with pytest.raises(UsageError, match=r"noise range of the prior is 20 to 0\.01"):
        Almc(AlmcOptions(**times)).levels(target(1))
