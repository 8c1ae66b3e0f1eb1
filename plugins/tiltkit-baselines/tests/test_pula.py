"""Preconditioned unadjusted Langevin against closed forms."""

from __future__ import annotations

import pytest
import torch
from tiltkit_baselines.pula import Pula, PulaOptions

from tiltkit.errors import UsageError
from tiltkit.sampling.gaussian.conditioning import Step
from tiltkit.sampling.particles.rng import ParticleRng
from tiltkit.sampling.run import run
from tiltkit.sampling.target import Target
from tiltkit.testing.known import make_known


def gaussian(*, plain=False):
    mean = torch.linspace(-1, 1, 6, dtype=torch.float64)[None]
    return make_known(mean, 0.5, data=3, noise=0.2, seed=3, sigma_range=(0.01, 20.0), plain=plain)


def sample(known, *, n=1000, chunk=None, seed=0, **options):
    target = Target(known.problem, n, chunk or n, dtype=torch.float64)
    sampler = Pula(PulaOptions.model_validate({"collect": 1} | options))
    *_, (state, _) = run(target, sampler, ParticleRng([seed], n, target.device))
    return sampler.images(target, state), target.network_calls


@pytest.mark.parametrize("plain", [False, True], ids=["spectral", "conjugate gradients"])
def test_small_steps_give_the_mean_and_spread_of_a_gaussian_posterior(plain):
    known = gaussian(plain=plain)
    x, _ = sample(known, levels=60, moves=6, gamma=0.1, tau=0.1)
    std = known.covariance.diagonal().sqrt()
    assert ((x.mean(0) - known.means[0]) / std).abs().max() < 0.2
    assert (x.std(0) / std).mean() == pytest.approx(1.06, abs=0.05)


@pytest.mark.parametrize("gamma", [0.25, 0.5])
def test_the_variance_of_a_matched_gaussian_target_is_too_large_by_the_documented_factor(
    gamma,
):
    """With a prior of variance 0 the step is an AR(1) process of known variance."""
    point = torch.zeros(1, 6, dtype=torch.float64)
    known = make_known(point, 0.0, data=3, noise=0.2, seed=3, sigma_range=(0.5, 0.6))
    x, _ = sample(known, n=4000, levels=30, gamma=gamma)
    target = Target(known.problem, 1, 1, dtype=torch.float64)
    draws = torch.cat([_posterior_draw(target, seed) for seed in range(1000)])
    ratio = (x.var(0) / draws.var(0)).mean()
    assert ratio == pytest.approx(1 / (1 - gamma / 2), rel=0.06)


def _posterior_draw(target, seed):
    """A sample of ``N(0, 0.5^2 I) exp(-R)``."""
    zero = torch.zeros(1, 6, dtype=torch.float64)
    rng = ParticleRng([seed], 1, target.device)
    c, _, _ = target.conditioning.predict(
        target.conditioning.coordinates(zero), Step(0.25, 0.0), rng, slice(0, 1)
    )
    return target.conditioning.image(c)


def test_a_level_costs_as_many_network_calls_as_it_has_steps():
    _, calls = sample(gaussian(), n=8, levels=10, moves=3)
    assert calls == 10 * 3 + 3


@pytest.mark.parametrize("chunk", [1, 7])
def test_the_same_seed_gives_the_same_samples_for_any_chunk_size(chunk):
    known = gaussian()
    whole, _ = sample(known, n=20, levels=10)
    assert torch.allclose(sample(known, n=20, levels=10, chunk=chunk)[0], whole, rtol=1e-9)


def test_levels_have_a_constant_ratio_and_the_range_of_the_prior():
    levels = Pula(PulaOptions(levels=9, collect=1)).levels(Target(gaussian().problem, 1, 1))
    ratios = torch.tensor(levels[1:-1]) / torch.tensor(levels[:-2])
    assert (levels[0], levels[-2], levels[-1]) == (20.0, 0.01, 0.01)
    torch.testing.assert_close(ratios, ratios[0].expand_as(ratios))


def test_a_likelihood_that_is_not_gaussian_is_an_error(monkeypatch):
    monkeypatch.setattr(Target, "correction", object())
    with pytest.raises(UsageError, match="needs a Gaussian likelihood"):
        sample(gaussian(), n=2)
