"""Posterior SBC with exact samplers: right ones pass, wrong ones fail and are named."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from tiltkit.calibration.draw import measured, ranked, with_both, with_other
from tiltkit.calibration.exchange import exchange_test
from tiltkit.calibration.explanations import check_shares, shares_report
from tiltkit.calibration.regions import ALL, Regions
from tiltkit.calibration.verdict import BLIND, Verdict, judge
from tiltkit.likelihoods import GaussianLikelihood
from tiltkit.operators.compose import Pointwise
from tiltkit.posterior.outcome import QUANTILES, Outcome
from tiltkit.posterior.verdict import find_verdict
from tiltkit.priors.closed_form import Mixture
from tiltkit.problem import Problem

SIDE, NOISE, SAMPLES = 16, 0.3, 16


def halves(mean: np.ndarray) -> Regions:
    labels = np.zeros(mean.shape, int)
    labels[:, SIDE // 2 :] = 1
    return Regions(("left", "right"), labels)


@dataclass(frozen=True)
class Exact:
    """Draws from the posterior of white images, with a wrong spread or mean where asked for."""

    spread: float = 1.0
    shift: float = 0.0

    def __call__(self, problem: Problem, n: int, seed: int) -> Outcome:
        likelihood = problem.likelihood
        assert isinstance(likelihood, GaussianLikelihood)
        weights = likelihood.operator.weights
        precision = 1 + weights.square() / likelihood.noise_var
        mean = weights * likelihood.y / likelihood.noise_var / precision
        white = torch.randn((n, *problem.shape), generator=torch.Generator().manual_seed(seed))
        return outcome(mean + (self.spread * white + self.shift) / precision.sqrt())


def outcome(x: torch.Tensor) -> Outcome:
    images = x[:, 0].numpy()
    quantiles = {q: np.quantile(images, q, axis=0) for q in QUANTILES}
    return Outcome(
        images.mean(0), images.std(0, ddof=1), quantiles, images, images[0], None, {}, x.numpy()
    )


def white_problem(seed: int, weights: torch.Tensor) -> Problem:
    g = torch.Generator().manual_seed(seed)
    shape = (1, 1, SIDE, SIDE)
    y = weights * torch.randn(shape, generator=g) + NOISE * torch.randn(shape, generator=g)
    prior = Mixture(torch.zeros(shape), 1.0, torch.ones(1), (0.01, 10.0))
    return Problem(prior, GaussianLikelihood(Pointwise(weights), y, NOISE**2), shape[1:])


def calibrate(
    sampler: Exact, seed: int = 0, draws: int = 8, weights: torch.Tensor | None = None
) -> Verdict:
    measured_everywhere = torch.ones(1, SIDE, SIDE)
    problem = white_problem(seed, measured_everywhere if weights is None else weights)
    first = sampler(problem, SAMPLES, 1000 + seed)
    found = []
    for k in range(draws):
        x = torch.from_numpy(first.particles[k : k + 1])
        y = measured(problem, x, seed=seed, number=k)
        given = sampler(with_both(problem, y), SAMPLES, 7777 * (seed + 1) + k)
        variance = first.samples.var(0, ddof=1)
        found.append(
            ranked(
                with_other(problem, y),
                x,
                given,
                variance,
                seed=seed,
                number=k,
                draws=draws,
                divide=halves,
            )
        )
    rows = (ALL, "left", "right")
    curves, p = exchange_test([draw.ranks for draw in found], rows, seed)
    gains = np.mean([draw.gain for draw in found], axis=0).tolist()
    return judge(curves, p, SAMPLES, dict(zip(rows, gains, strict=True)), draws)


def test_an_exact_sampler_passes_and_the_verdict_says_what_would_have_shown() -> None:
    verdict = calibrate(Exact(), draws=14)
    assert verdict.status == "passed", verdict.text
    assert verdict.text.startswith("Well calibrated within")
    assert BLIND in verdict.text
    whole = verdict.spreads[0]
    assert 0.8 <= whole.low < 1 < whole.high <= 1.25


@pytest.mark.parametrize(
    ("sampler", "words"),
    [(Exact(spread=0.8), "too narrow"), (Exact(spread=1.4), "too wide")],
    ids=["narrow", "wide"],
)
def test_a_wrong_spread_fails_and_is_within_the_spreads_that_agree(
    sampler: Exact, words: str
) -> None:
    verdict = calibrate(sampler, draws=16)
    assert verdict.status == "failed"
    whole = verdict.spreads[0]
    assert whole.low <= sampler.spread <= whole.high
    assert (whole.coverage < whole.band[0]) == (words == "too narrow")
    assert words in verdict.text or ALL in verdict.text


def test_a_shifted_mean_fails() -> None:
    assert calibrate(Exact(shift=1.0), draws=16).status == "failed"


def test_an_exact_sampler_fails_in_five_per_cent_of_calibrations() -> None:
    failed = sum(calibrate(Exact(), seed, draws=3).status == "failed" for seed in range(20))
    assert failed <= 3  # of 20 at 5 %, more than 3 has a probability of 2 %


def test_a_wrong_spread_of_what_is_not_measured_is_not_called_right() -> None:
    weights = torch.ones(1, SIDE, SIDE)
    weights[..., SIDE // 2 :] = 0
    verdict = calibrate(Exact(), draws=12, weights=weights)
    by_name = {one.name: one for one in verdict.spreads}
    assert by_name["left"].tested
    assert not by_name["right"].tested
    assert verdict.status == "not tested" or "right" in verdict.text


def test_few_draws_are_not_enough_to_tell() -> None:
    verdict = calibrate(Exact(), draws=1)
    assert verdict.status == "not tested"
    assert "Not enough to tell: after 1 draw" in verdict.text


@dataclass(frozen=True)
class TwoModes:
    """Posterior of a mixture of two images; ``ignores_data`` takes either with equal odds."""

    ignores_data: bool

    def __call__(self, problem: Problem, number: int) -> Outcome:
        likelihood, prior = problem.likelihood, problem.prior
        assert isinstance(likelihood, GaussianLikelihood)
        assert isinstance(prior, Mixture)
        precision = 1 / prior.variance + 1 / likelihood.noise_var
        total = prior.variance + likelihood.noise_var
        squares = (likelihood.y - prior.means).square().flatten(1).sum(1)
        odds = torch.softmax(-squares / total / 2, 0)
        if self.ignores_data:
            odds = torch.full((2,), 0.5)
        g = torch.Generator().manual_seed(100 + number)
        chosen = torch.multinomial(odds, 32, replacement=True, generator=g)
        centre = prior.means[chosen] / prior.variance + likelihood.y / likelihood.noise_var
        white = torch.randn(centre.shape, generator=g)
        return outcome(centre / precision + white / precision**0.5)


@pytest.mark.parametrize(("ignores_data", "status"), [(False, "passed"), (True, "failed")])
def test_wrong_shares_of_separate_explanations_show_in_the_ranks_of_the_likelihood(
    two_modes: Problem, ignores_data: bool, status: str
) -> None:
    problem, sampler = two_modes, TwoModes(ignores_data)
    particles = sampler(problem, 1000).particles
    assert particles is not None
    check = check_shares(problem, particles, sampler, seed=1, draws=32)
    assert check.status == status, check.text
    assert check.detectable < 0.3
    shares = find_verdict(shares_report(check)).shares
    assert shares.status == ("failed" if ignores_data else "not tested")


def test_too_few_draws_leave_shares_untested(two_modes: Problem) -> None:
    problem, sampler = two_modes, TwoModes(ignores_data=False)
    particles = sampler(problem, 1000).particles
    assert particles is not None
    check = check_shares(problem, particles, sampler, seed=1, draws=4)
    assert check.status == "not tested"
    assert shares_report(check) == {}


@pytest.mark.parametrize("change", [with_both, with_other])
def test_draws_have_values_beyond_the_field_of_view(change) -> None:
    problem = white_problem(0, torch.ones(SIDE, SIDE))
    part = replace(problem, field_of_view=torch.zeros(SIDE, SIDE, dtype=torch.bool))
    y = measured(part, torch.zeros(1, *part.shape), seed=0, number=0)
    assert change(part, y).field_of_view is None
