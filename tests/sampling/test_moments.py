"""Moment matching against Gaussian posteriors in closed form."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from tiltkit.errors import UsageError
from tiltkit.likelihoods import GaussianLikelihood
from tiltkit.operators.compose import Pointwise
from tiltkit.operators.hartley import frequencies
from tiltkit.operators.spectral import Diagonalised
from tiltkit.posterior.separation import MOST_SEPARATION
from tiltkit.priors.closed_form import Mixture, SmoothGaussian
from tiltkit.problem import Problem
from tiltkit.recon.solve import solve
from tiltkit.sampling.checkpoint import save
from tiltkit.sampling.particles.rng import ParticleRng
from tiltkit.sampling.problem_digest import digest_of
from tiltkit.sampling.run import Group, run
from tiltkit.sampling.samplers.matching import Denoiser
from tiltkit.sampling.samplers.moments import Moments, MomentsOptions
from tiltkit.sampling.samplers.start import prior_spectrum
from tiltkit.sampling.target import Target
from tiltkit.testing.known import Plain, make_known

NOISE = 0.02
PRIOR = SmoothGaussian(0.3, 2.0, 3.0, channels=1)
# Cycles per image between bands.
EDGES = (0.0, 1.5, 3.0, 6.0, 12.0, 64.0)


class Blur(Diagonalised):
    """A circular blur, diagonal in Fourier coefficients."""

    def __init__(self, response: torch.Tensor) -> None:
        side = len(response)
        self.response, self.eigenvalues = response, response.square()
        self.frequency = frequencies((side, side))

    def to_spectral(self, x: torch.Tensor) -> torch.Tensor:
        return torch.fft.fft2(x[:, 0], norm="ortho")

    def from_spectral(self, coordinates: torch.Tensor) -> torch.Tensor:
        return torch.fft.ifft2(coordinates, norm="ortho").real[:, None]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.from_spectral(self.response * self.to_spectral(x))

    adjoint = forward


def blurred(side: int = 32, *, noise: float = NOISE, plain: bool = False, prior=PRIOR) -> Problem:
    f = torch.fft.fftfreq(side)
    blur = Blur(torch.exp(-2 * torch.pi**2 * 1.5 * (f[:, None] ** 2 + f**2)))
    g = torch.Generator().manual_seed(side)
    spectrum = PRIOR.spectrum((side, side), torch.device("cpu")).float()
    white = torch.randn(1, 1, side, side, generator=g)
    truth = torch.fft.ifft2(torch.fft.fft2(white) * spectrum.sqrt()).real
    y = blur.forward(truth) + noise * torch.randn(truth.shape, generator=g)
    operator = Plain(blur) if plain else blur
    return Problem(prior, GaussianLikelihood(operator, y, noise**2), (1, side, side))


def exact(problem: Problem, noise: float = NOISE) -> tuple[torch.Tensor, torch.Tensor]:
    """Posterior mean and variance of every Fourier coefficient."""
    side = problem.shape[-1]
    f = torch.fft.fftfreq(side)
    response = torch.exp(-2 * torch.pi**2 * 1.5 * (f[:, None] ** 2 + f**2)).double()
    prior = PRIOR.spectrum((side, side), torch.device("cpu")) + problem.prior.sigma_range[0] ** 2
    variance = 1 / (1 / prior + response**2 / noise**2)
    y = torch.fft.fft2(problem.likelihood.y[0, 0].double(), norm="ortho")
    return variance * response * y / noise**2, variance


class Reversed(SmoothGaussian):
    """A denoiser that reverses details, as no exact one does: its Jacobian is negative."""

    def score(self, x: torch.Tensor, sigma: float) -> torch.Tensor:
        return -1.2 * x / sigma**2


def test_guidance_stays_near_the_data_where_the_jacobian_is_negative() -> None:
    problem = blurred(noise=5e-4, prior=Reversed(0.3, 2.0, 3.0, channels=1))
    target = Target(problem, 2, 2)
    shells = target.conditioning.shells
    denoiser = Denoiser(target, 1.0, 1.0, [0.1] * shells.count, 0.1, 2, 0.3)
    x = torch.randn(2, *problem.shape, generator=torch.Generator().manual_seed(0))
    guidance, _ = denoiser.guidance(x, target.score(x, 1.0))
    residual = target.conditioning.residual(-0.2 * x)
    assert float(guidance.norm()) < 100 * float(residual.norm())


def sample(problem: Problem, n: int, *, seed: int = 0, chunk: int | None = None, **options):
    sampler, target = Moments(MomentsOptions(**options)), Target(problem, n, chunk or n)
    *_, (state, _) = run(target, sampler, ParticleRng([seed], n, target.device))
    return sampler.images(target, state)


def variance_ratios(x: torch.Tensor, variance: torch.Tensor) -> list[float]:
    """Variance of samples over the exact one, by band of spatial frequency."""
    side = x.shape[-1]
    spread = torch.fft.fft2((x - x.mean(0))[:, 0].double(), norm="ortho")
    found = spread.abs().square().sum(0) / (len(x) - 1)
    radius = side * frequencies((side, side))
    bands = torch.bucketize(radius, torch.tensor(EDGES[1:-1]))
    return [float(found[bands == b].sum() / variance[bands == b].sum()) for b in range(5)]


@pytest.mark.parametrize(
    ("side", "noise", "plain"),
    [(32, 0.02, False), (32, 0.3, False), (32, 0.1, True), (64, 0.1, False)],
)
def test_every_band_of_a_smooth_gaussian_has_the_variance_of_the_exact_posterior(
    side: int, noise: float, plain: bool
) -> None:
    problem = blurred(side, noise=noise, plain=plain)
    mean, variance = exact(problem, noise)
    x = sample(problem, 128)
    # 128 samples of a band of 9 coefficients know its variance to 4 %.
    assert variance_ratios(x, variance) == pytest.approx([1.0] * 5, abs=0.12)
    error = torch.fft.fft2(x.mean(0)[0].double(), norm="ortho") - mean
    assert float(error.abs().square().sum() / variance.sum()) < 3 / 128


def test_a_long_step_is_as_exact_as_a_short_one_for_gaussian_priors() -> None:
    problem = blurred()
    ratios = variance_ratios(sample(problem, 128, levels=8), exact(problem)[1])
    assert ratios == pytest.approx([1.0] * 5, abs=0.12)


@pytest.mark.parametrize("largest", [0.5, 1.0, 5.0])
def test_a_prior_is_continued_above_its_noise_range(largest: float) -> None:
    shape = (1, 32, 32)
    mask = torch.zeros(1, *shape, dtype=torch.bool)
    mask[..., ::2] = True
    g = torch.Generator().manual_seed(0)
    y = torch.randn(mask.shape, generator=g)
    operator = Pointwise(mask.float()[0])
    prior = Mixture(torch.zeros(1, *shape), 1.0, torch.ones(1), (0.01, largest))
    x = sample(Problem(prior, GaussianLikelihood(operator, mask * y, 0.01), shape), 64)
    variance = x.var(0)
    assert float(variance[~mask[0]].mean()) == pytest.approx(1, abs=0.03)
    assert float(variance[mask[0]].mean()) == pytest.approx(1 / 101, rel=0.05)


def test_the_spectrum_of_a_gaussian_prior_is_found_from_its_jacobian() -> None:
    target = Target(blurred(prior=replace(PRIOR, sigma_range=(0.01, 1.0))), 8, 8)
    with torch.inference_mode():
        found = prior_spectrum(target, 1.0)
    shells = target.conditioning.shells
    power = PRIOR.spectrum((32, 32), torch.device("cpu")).flatten()
    labels = shells.labels.flatten()
    for shell in range(3, shells.count):  # coarser ones hold more than 99 times the noise
        expected = float(power[labels == shell].mean())
        assert found[shell] == pytest.approx(expected, rel=0.1)


def test_samples_do_not_depend_on_the_chunk_size() -> None:
    problem = blurred()
    whole, chunked = sample(problem, 6), sample(problem, 6, chunk=4)
    assert torch.allclose(whole, chunked, atol=2e-4)


def test_sweeps_leave_a_gaussian_posterior_as_it_is() -> None:
    problem = blurred()
    x = sample(problem, 128, sweeps=2, sweep_level=0.3)
    assert variance_ratios(x, exact(problem)[1]) == pytest.approx([1.0] * 5, abs=0.12)


def test_more_products_with_the_jacobian_correct_a_rough_model_of_its_covariance() -> None:
    g = torch.Generator().manual_seed(3)
    means = torch.randn(1, 12, generator=g, dtype=torch.float64)
    known = make_known(means, 0.5, data=6, noise=0.1, seed=3, sigma_range=(0.01, 20.0))
    sampler, target = Moments(MomentsOptions(products=3)), Target(known.problem, 2000, 2000,
                                                                  dtype=torch.float64)  # fmt: skip
    *_, (state, _) = run(target, sampler, ParticleRng([0], 2000, target.device))
    x = sampler.images(target, state)
    assert torch.allclose(torch.cov(x.T), known.covariance, atol=0.05)
    assert torch.allclose(x.mean(0), known.mean, atol=0.06)


class Glitch:
    """A prior that fails for one image, once."""

    def __init__(self) -> None:
        self.channels, self.value_range, self.sigma_range = 1, "", PRIOR.sigma_range
        self.left = 1

    def score(self, x: torch.Tensor, sigma: float) -> torch.Tensor:
        score = PRIOR.score(x, sigma)
        if sigma < 0.5 and len(x) > 1 and self.left:
            self.left -= 1
            score[0] *= -100
        return score

    def to(self, _device: torch.device) -> Glitch:
        return self


def test_a_sample_that_runs_away_is_stepped_again() -> None:
    problem = blurred(prior=Glitch())
    x = sample(problem, 8)
    assert not problem.prior.left  # it did fail
    chi2 = problem.likelihood.chi2(x)
    assert float(chi2.max()) < 1.5


def three_to_one() -> Problem:
    """Two images far apart, of which the data favour one by 3 to 1."""
    means = torch.stack([torch.ones(1, 4, 4), -torch.ones(1, 4, 4)])
    prior = Mixture(means, 0.05**2, torch.ones(2), (0.01, 10.0))
    # Difference of the squared residuals: 2 noise_var log 3.
    y = torch.full((1, 1, 4, 4), math.log(3) / 32)
    return Problem(prior, GaussianLikelihood(Pointwise(torch.ones(1, 4, 4)), y, 1.0), (1, 4, 4),
                   to_image=lambda x: x)  # fmt: skip


def test_a_run_starts_over_with_weights_where_samples_are_of_separate_explanations() -> None:
    outcomes = {}
    for weights in ("auto", "never"):
        sampler = Moments(MomentsOptions(weights=weights))
        *_, outcomes[weights] = solve(
            [three_to_one()], sampler, seed=(1,), n=512, devices=[torch.device("cpu")]
        )
    share = float((outcomes["auto"].samples.mean((1, 2, 3)) > 0).mean())
    assert share == pytest.approx(0.75, abs=0.1)
    spread = outcomes["auto"].samples.std((1, 2, 3), ddof=1).mean()
    assert spread == pytest.approx(0.05, rel=0.1)
    report, plain = outcomes["auto"].diagnostics, outcomes["never"].diagnostics
    assert report["separation"] > MOST_SEPARATION
    assert report["network_calls"] > 2 * plain["network_calls"]
    assert "ess_min" in report
    assert "ess_min" not in plain
    assert "further apart" in report["shares_found"]


@pytest.mark.parametrize(
    ("make", "stop"), [(blurred, 4), (three_to_one, 9), (three_to_one, 24), (three_to_one, 30)]
)
def test_a_run_that_is_stopped_goes_on_with_the_same_samples(tmp_path, make, stop: int) -> None:
    # With separate explanations: 8 levels and 4 rounds, then 16 levels with weights, and a sweep.
    problem, n = make(), 16
    sampler, target = Moments(MomentsOptions(levels=8)), Target(problem, n, n)
    group = Group(target, sampler, (0,), tmp_path / "checkpoint")
    whole = [one.progress.state for one in Group(target, sampler, (0,), None).levels()]
    assert len(whole) > stop
    for _, one in zip(range(stop), group.levels(), strict=False):
        state, digest = one.progress.state, digest_of(target, sampler, (0,))
        save(tmp_path / "checkpoint", one.progress, digest)
    assert torch.equal(state.c, whole[stop - 1].c)
    again = Group(target, sampler, (0,), tmp_path / "checkpoint")
    rest = [one.progress.state for one in again.levels()]
    assert len(rest) == len(whole) - stop
    assert torch.equal(rest[-1].c, whole[-1].c)


def test_magnitudes_of_complex_images_have_the_mean_of_their_samples() -> None:
    problem = replace(blurred(), phase=lambda x: x[0])
    *_, outcome = solve(
        [problem], Moments(MomentsOptions(levels=8, collect=1)), seed=(0,), n=4,
        devices=[torch.device("cpu")],
    )  # fmt: skip
    assert outcome.mean == pytest.approx(outcome.samples.mean(0), abs=1e-5)


def test_levels_outside_the_range_of_the_prior_are_refused() -> None:
    with pytest.raises(UsageError):
        sample(blurred(), 2, sigma_max=100.0)
