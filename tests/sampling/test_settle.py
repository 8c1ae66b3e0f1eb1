"""Further rounds of moves until the spread of the samples has settled."""

from __future__ import annotations

import pytest
import torch

import tiltkit
from tiltkit.likelihoods import GaussianLikelihood
from tiltkit.operators.compose import Pointwise
from tiltkit.posterior.level import Info
from tiltkit.priors.closed_form import Mixture
from tiltkit.problem import Problem
from tiltkit.recon.result import Result
from tiltkit.sampling.samplers.walmc import Walmc, WalmcOptions
from tiltkit.sampling.settle import further_rounds
from tiltkit.sampling.target import Target

SHAPE = (1, 32, 32)


def problem(noise: float) -> Problem:
    """White Gaussian images of unit variance and white noise."""
    g = torch.Generator().manual_seed(0)
    y = torch.randn(1, *SHAPE, generator=g) + noise * torch.randn(1, *SHAPE, generator=g)
    prior = Mixture(torch.zeros(1, *SHAPE), 1.0, torch.ones(1), (0.05, 20.0))
    return Problem(prior, GaussianLikelihood(Pointwise(torch.ones(SHAPE)), y, noise**2), SHAPE)


def run(noise: float, sampler: str = "walmc", **options: float) -> Result:
    # Few levels leave too little variance.
    options = {"levels": 12, "collect": 1, "most_shared_ancestry": 0} | options
    return tiltkit.sample(problem(noise), sampler=sampler, n=16, options=options)


@pytest.mark.parametrize("sampler", ["walmc", "twisted"])
def test_rounds_are_made_until_every_band_has_settled(sampler: str) -> None:
    before = run(0.05, sampler).diagnostics[0]
    after = run(0.05, sampler, settle=10.0).diagnostics[0]
    assert before["settling_rounds"] == 0
    if any(abs(one.spread - 1) > max(0.1, 2 * one.spread_error) for one in before["bands"]):
        assert after["settling_rounds"] > 0
    assert all(abs(one.spread - 1) < max(0.1, 2 * one.spread_error) for one in after["bands"])


def test_rounds_cost_no_more_than_their_share_of_the_network_calls() -> None:
    before = run(0.1, "twisted", levels=24).diagnostics[0]
    after = run(0.1, "twisted", levels=24, settle=0.2).diagnostics[0]
    assert 0 < after["settling_rounds"] <= 0.2 * before["network_calls"]
    calls = before["network_calls"] + after["settling_rounds"]
    assert after["network_calls"] == pytest.approx(calls)


def test_bands_that_moves_at_the_last_level_cannot_mend_are_not_waited_for() -> None:
    report = run(1.0, settle=0.5).diagnostics[0]
    assert min(one.spread for one in report["bands"]) < 0.95
    assert report["settling_rounds"] == 0


def test_rounds_beyond_the_plan_are_counted() -> None:
    target = Target(problem(1.0), 4, 4)
    path = [Info(1.0, 1.0)] * 12
    rounds = [Info(0.05, 1.0, final=True)] * 3
    sampler = Walmc(WalmcOptions(levels=12, collect=2, settle=0.5))
    assert further_rounds(sampler, target, [*path, *rounds]) == 1
    assert further_rounds(sampler, target, path) == 0
    without = Walmc(WalmcOptions(levels=12, collect=2))
    assert further_rounds(without, target, [*path, *rounds]) == 0


def test_samples_of_rounds_that_had_not_settled_are_left_out() -> None:
    result = run(0.05, "twisted", levels=8, settle=10.0, collect=4)
    report = result.diagnostics[0]
    assert report["settling_rounds"] > 0
    exact = 1 / (1 / (1 + 0.05**2) + 1 / 0.05**2)
    assert float((result.std**2).mean()) / exact == pytest.approx(1, abs=0.06)
    assert all(0.9 < one.spread < 1.1 for one in report["bands"])


def test_the_check_is_of_the_standard_deviation_that_is_reported() -> None:
    result = run(0.05, "twisted", levels=8, collect=6)
    exact = 1 / (1 / (1 + 0.05**2) + 1 / 0.05**2)
    bands = result.diagnostics[0]["bands"]
    reported = float((result.std**2).mean()) / exact
    assert reported > 1.1, "early rounds vary too much"
    total = sum(one.coordinates for one in bands)
    checked = sum(one.spread * one.coordinates for one in bands) / total
    assert checked == pytest.approx(reported, rel=0.03)
