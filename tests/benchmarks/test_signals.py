"""Exact answers for signals: denoiser and Gibbs sampling beside independent methods."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from exact import Reference, exact_run, judge, shells
from gibbs import gibbs
from numpy.typing import NDArray
from signals import gaussian_draws, make_signal
from walks import LAWS, Law, Walk

Array = NDArray[np.float64]
DRAWS = 1_000_000


def weighted_mean(values: Array, log_weights: Array) -> tuple[Array, Array]:
    """Self-normalised importance sampling: mean of values (draw, value), and its standard error."""
    weights = np.exp(log_weights - log_weights.max())
    weights /= weights.sum()
    mean = weights @ values
    return mean, np.sqrt(weights**2 @ (values - mean) ** 2)


def walks(law: Law, length: int, seed: int) -> Array:
    return law.draw((DRAWS, length), np.random.default_rng(seed)).cumsum(1)


@pytest.mark.parametrize("sigma", [0.5, 3.0, 40.0])
@pytest.mark.parametrize("name", LAWS)
def test_the_denoised_walk_is_the_mean_of_prior_draws_weighted_by_the_noise(name, sigma):
    law = LAWS[name]
    rng = np.random.default_rng(1)
    noisy = law.draw((3,), rng).cumsum() + sigma * rng.normal(size=3)
    x0 = walks(law, 3, seed=2)
    mean, error = weighted_mean(x0, -0.5 * ((noisy - x0) ** 2).sum(1) / sigma**2)
    x = torch.from_numpy(noisy).view(1, 1, 3)
    found = Walk(law, (0.01, 100.0)).denoised(x, sigma)[0, 0].numpy()
    assert (np.abs(found - mean) < 4.5 * error + 1e-3 * sigma).all()


@pytest.mark.parametrize("sigma", [0.05, 1.0, 10.0, 100.0])
def test_the_lattice_gives_the_linear_denoiser_of_gaussian_walks(sigma):
    law = LAWS["gaussian"]
    rng = np.random.default_rng(0)
    walk = torch.from_numpy(law.draw((4, 64), rng).cumsum(1))
    x = (walk + sigma * torch.from_numpy(rng.normal(size=walk.shape)))[:, None]
    lattice = Walk(dataclasses.replace(law, name="on a lattice"), (0.01, 100.0))
    exact = Walk(law, (0.01, 100.0)).denoised(x, sigma)
    torch.testing.assert_close(lattice.denoised(x, sigma), exact, atol=4e-3 * sigma, rtol=0)


def test_the_score_has_the_units_of_scaled_walks():
    law = LAWS["laplace"]
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 1, 64))).cumsum(2)
    one, two = Walk(law, (0.01, 100.0)), Walk(law, (0.01, 100.0), scale=8.0)
    torch.testing.assert_close(two.score(x / 8, 0.25), 8 * one.score(x, 2.0))


@pytest.mark.parametrize("name", [name for name in LAWS if name != "gaussian"])
def test_gibbs_samples_have_the_moments_of_weighted_prior_draws(name):
    law, noise = LAWS[name], 0.7
    rng = np.random.default_rng(3)
    matrix = rng.normal(size=(3, 4))
    y = matrix @ law.draw((4,), rng).cumsum() + noise * rng.normal(size=3)
    x0 = walks(law, 4, seed=4)
    log_weights = -0.5 * ((y - x0 @ matrix.T) ** 2).sum(1) / noise**2
    # Bounded functions, since squares of Student-t steps have no finite variance.
    mean, error = weighted_mean(np.tanh(np.c_[x0, x0.mean(1)]), log_weights)
    samples, rhat = gibbs(law, matrix, y, noise, chains=64, sweeps=1000, thin=2)
    flat = samples.reshape(-1, 4)
    found = np.tanh(np.c_[flat, flat.mean(1)])
    chains = np.tanh(np.concatenate([samples, samples.mean(2, keepdims=True)], 2)).mean(0)
    scatter = chains.std(0) / len(chains) ** 0.5
    assert rhat < 1.1
    assert (np.abs(found.mean(0) - mean) < 4.5 * np.hypot(error, scatter) + 1e-3).all()


def lattice_chain(law: Law, y: dict[int, float], noise: float, length: int) -> tuple[Array, Array]:
    """Means and variances of a walk that is measured at some places, by messages on a lattice."""
    grid = np.linspace(-20, 20, 801)
    h = grid[1] - grid[0]
    steps = h * (1 - law.atom) * law.density.pdf(grid[:, None] - grid)
    steps[range(len(grid)), range(len(grid))] += 1 - steps[:, 400].sum()
    seen = [
        np.exp(-0.5 * ((y[k] - grid) / noise) ** 2) if k in y else np.ones_like(grid)
        for k in range(length)
    ]
    forward = [steps[400] * seen[0]]
    for factor in seen[1:]:
        forward.append(forward[-1] @ steps * factor)
    backward = [np.ones_like(grid)]
    for factor in seen[:0:-1]:
        backward.append(steps @ (backward[-1] * factor))
    density = np.stack(forward) * np.stack(backward[::-1])
    density /= density.sum(1, keepdims=True)
    mean = density @ grid
    return mean, density @ grid**2 - mean**2


@pytest.mark.parametrize("name", ["laplace", "bernoulli-laplace"])
def test_gibbs_samples_have_the_moments_of_a_chain_on_a_lattice(name):
    law, noise, places = LAWS[name], 0.4, [1, 2, 6, 7, 11]
    y = dict(zip(places, [0.3, 0.1, 1.9, 2.4, 1.0], strict=True))
    mean, variance = lattice_chain(law, y, noise, 12)
    samples, _ = gibbs(law, np.eye(12)[places], np.array(list(y.values())), noise, sweeps=800)
    flat = samples.reshape(-1, 12)
    assert np.abs(flat.mean(0) - mean).max() < 0.05 * np.sqrt(variance).max()
    assert np.allclose(flat.var(0), variance, rtol=0.1, atol=0.004)


def test_exact_draws_are_right_and_draws_of_less_variance_are_off():
    signal = make_signal("gaussian", "missing", 0)
    exact = Reference.of_draws(gaussian_draws(signal), shells((1, 64)))
    draws = exact.draws[:64]
    right, narrow = (
        judge(exact_run(exact.mean + factor * (draws - exact.mean)), exact) for factor in (1, 0.7)
    )
    assert not right.off
    assert narrow.off
    assert abs(right.coverage - 0.9) < 0.02
    assert right.excess < 0.04


def test_signals_depend_on_their_seed_alone():
    one, again, other = (make_signal("student-1", "fourier", seed) for seed in (5, 5, 6))
    assert (one.y == again.y).all()
    assert (one.matrix == again.matrix).all()
    assert (one.y != other.y).any()
