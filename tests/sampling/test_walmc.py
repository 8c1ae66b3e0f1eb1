"""Weighted annealed Langevin against posteriors in closed form."""

from __future__ import annotations

import pytest
import torch

from tiltkit.priors.closed_form import Mixture
from tiltkit.testing.known import make_known

from .conftest import sample


def gaussian(dtype=torch.float64, *, plain=False):
    mean = torch.linspace(-1, 1, 6, dtype=dtype)[None]
    return make_known(mean, 0.5, data=3, noise=0.2, seed=3, sigma_range=(0.01, 20.0), plain=plain)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("plain", [False, True], ids=["spectral", "conjugate gradients"])
def test_a_gaussian_prior_gives_the_exact_mean_and_covariance(dtype, plain):
    known = gaussian(dtype, plain=plain)
    n = 3000
    x = sample(known, n=n, dtype=dtype).double()
    std = known.covariance.diagonal().sqrt()
    assert ((x.mean(0) - known.means[0]) / std).abs().max() < 5 / n**0.5
    correlation = (x.T.cov() - known.covariance) / torch.outer(std, std)
    assert correlation.abs().max() < 5 * (2 / n) ** 0.5


def test_mode_weights_of_a_mixture_match_the_exact_posterior():
    angles = torch.arange(5, dtype=torch.float64)
    means = 6 * torch.stack([angles.cos(), angles.sin(), angles.cos() ** 2, -angles.sin()], 1)
    known = make_known(means, 0.3, data=1, noise=1.5, seed=1, sigma_range=(0.05, 60.0))
    assert known.weights.max() < 0.9  # several modes are in play
    n = 4000
    x = sample(known, n=n, levels=80)
    nearest = torch.cdist(x, known.means).argmin(1)
    shares = torch.bincount(nearest, minlength=5) / n
    assert (shares - known.weights).abs().max() < 0.05
    assert (x.mean(0) - known.mean).norm() < 0.1 * known.means.std(0).norm()


def test_an_image_prior_is_conditioned_on_masked_pixels():
    """A 12x12 'image' prior of 20 smooth pictures, of which a few pixels are measured."""
    g = torch.Generator().manual_seed(0)
    coarse = torch.rand(20, 1, 4, 4, generator=g, dtype=torch.float64)
    pictures = torch.nn.functional.interpolate(coarse, size=12, mode="bicubic").flatten(1)
    known = make_known(pictures, 0.05**2, data=10, noise=0.05, seed=4, sigma_range=(0.01, 5.0))
    n = 1000
    x = sample(known, n=n, levels=70)
    spread = (x.var(0).mean() / posterior_variance(known).mean()).sqrt()
    assert spread == pytest.approx(1, abs=0.05)
    excess = (x.mean(0) - known.mean).square().mean() / posterior_variance(known).mean()
    assert excess < 0.02


def posterior_variance(known):
    between = known.weights @ (known.means - known.mean).square()
    return known.covariance.diagonal() + between


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_the_same_seed_gives_the_same_samples_for_any_chunk_size(chunk):
    known = gaussian()
    whole = sample(known, n=50, levels=10)
    assert torch.allclose(sample(known, n=50, levels=10, chunk=chunk), whole, rtol=1e-9)


def test_another_seed_gives_other_samples_and_the_global_generator_is_left_alone():
    known = gaussian()
    before = torch.random.get_rng_state()
    first, second = (sample(known, n=20, levels=10, seed=seed) for seed in (1, 2))
    assert not torch.allclose(first, second)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_prior_that_gives_nan_stops_the_run_with_the_noise_level():
    known = gaussian()

    class Broken(Mixture):
        def score(self, x, sigma):
            return x * float("nan") if sigma < 1 else super().score(x, sigma)

    prior = known.problem.prior
    broken = Broken(prior.means, prior.variance, prior.weights, prior.sigma_range)
    object.__setattr__(known.problem, "prior", broken)
    with pytest.raises(Exception, match="NaN or infinite at noise level 0"):
        sample(known, n=4)
