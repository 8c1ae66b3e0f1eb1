"""Exact posteriors of Gaussian priors beside dense algebra."""

from __future__ import annotations

import pytest
import torch
from exact import exact_run, exact_score, judge
from gaussians import KINDS, GaussianCase
from torch import Tensor

SIDE = 16


def dense(case: GaussianCase, seed: int) -> tuple[Tensor, Tensor]:
    """Posterior mean and covariance of flattened images, from matrices of prior and operator."""
    problem, _ = case.problem(seed)
    size = torch.Size(case.shape).numel()
    basis = torch.eye(size, dtype=torch.float64).view(-1, *case.shape)
    likelihood, operator = problem.likelihood, problem.likelihood.operator
    basis = basis.float() if case.kind == "white" else basis
    prior = -problem.prior.score(basis, problem.prior.sigma_range[0]).flatten(1).double()
    data = operator.adjoint(operator.forward(basis)).flatten(1).double() / likelihood.noise_var
    covariance = torch.linalg.inv(prior + data)
    zero = torch.zeros(1, *case.shape)
    back = -likelihood.gradient(zero).flatten().double()
    return covariance @ back, covariance


@pytest.mark.parametrize("noise", [0.02, 0.3])
@pytest.mark.parametrize("kind", KINDS)
def test_mean_and_bands_are_those_of_dense_algebra(kind, noise):
    case = GaussianCase(kind, SIDE, noise, draws=64, cache=None)
    mean, covariance = dense(case, seed=0)
    _, exact = case.problem(0)
    scale = covariance.diagonal().mean().sqrt()
    assert (exact.mean.flatten() - mean).abs().max() < 2e-3 * scale
    root = torch.linalg.cholesky((covariance + covariance.T) / 2)
    bands = case.power(root.T.reshape(-1, *case.shape)).sum(0)
    torch.testing.assert_close(exact.bands[:2], bands[:2], rtol=1e-3, atol=0)
    # Bands of many coefficients come from 64 exact samples.
    torch.testing.assert_close(exact.bands[2:], bands[2:], rtol=0.08, atol=0)
    sampled = case.power(exact.draws - exact.mean).mean(0)
    torch.testing.assert_close(sampled, bands, rtol=0.4, atol=0)


def test_perturbed_solves_have_the_dense_covariance():
    case = GaussianCase("4 coils", 8, 0.1, draws=1000, cache=None)
    _, covariance = dense(case, seed=0)
    draws = case.perturbed(batch=1000).flatten(1).double()
    sampled = draws.T @ draws / len(draws)
    scatter = (covariance.diagonal()[:, None] * covariance.diagonal() / len(draws)).sqrt()
    assert ((sampled - covariance) / scatter).abs().max() < 8  # of 16000, Gaussian up to a factor 2
    assert abs(((sampled - covariance) / scatter).square().mean() - 1) < 0.5


def test_exact_draws_are_right_at_every_band():
    _, exact = GaussianCase("1 coil", 32, 0.1, draws=128).problem(0)
    assert not judge(exact_run(exact.draws[:16]), exact).off


def test_intervals_of_exact_draws_hold_others_as_often_as_they_should():
    _, exact = GaussianCase("white", 32, 0.1, draws=96).problem(0)
    # Quantiles at 5 and 95 % of 16 draws, cut off at the extremes, hold 15/17 of further ones.
    assert abs(exact_score(exact, 16, seed=0).coverage - 15 / 17) < 0.01
