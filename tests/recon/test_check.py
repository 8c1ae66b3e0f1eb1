"""The estimated cost of a run: what its trial counts is what a run does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tiltkit.problem import Problem
from tiltkit.recon.check import _time_score, _TrialTarget, _try_steps, measure
from tiltkit.sampling.particles.rng import ParticleRng
from tiltkit.sampling.run import run
from tiltkit.sampling.samplers.moments import Moments
from tiltkit.sampling.samplers.twisted import Twisted
from tiltkit.sampling.samplers.walmc import Walmc
from tiltkit.sampling.target import Target
from tiltkit.testing.known import make_known

N = 4


@pytest.fixture(params=[True, False], ids=["iterative", "diagonal"])
def problem(request: pytest.FixtureRequest) -> Problem:
    means = torch.zeros(1, 16)
    return make_known(
        means, 1.0, data=8, noise=0.1, seed=0, sigma_range=(0.05, 5.0), plain=request.param
    ).problem


@pytest.mark.parametrize("make", [Moments, Twisted, Walmc])
@pytest.mark.parametrize("collect", [1, 5])
def test_the_trial_counts_the_score_evaluations_of_a_run(
    problem: Problem, make: Any, collect: int
) -> None:
    sampler = make(make.Options(levels=12, collect=collect))
    target = Target(problem, N, N)
    for _ in run(target, sampler, ParticleRng([0], N, target.device)):
        pass
    counted = _try_steps(_TrialTarget(problem, N, N), sampler).calls
    assert counted == pytest.approx(target.network_calls, rel=0.1)


def test_a_check_evaluates_few_images_of_a_slow_prior(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = make_known(
        torch.zeros(1, 16), 1.0, data=8, noise=0.1, seed=0, sigma_range=(0.05, 5.0)
    ).problem
    target = Target(problem, 64, 64)
    monkeypatch.setattr("tiltkit.recon.check._time", lambda _, work: (10.0, work()))
    seconds, together = _time_score(target)
    assert (seconds, together) == (10.0, 1)
    assert target.network_calls == pytest.approx(1 / 64)


def test_the_estimate_grows_with_the_number_of_samples(
    problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tiltkit.recon.check._time", lambda _, work: (1.0, work()))
    sampler = Moments(Moments.Options(levels=6))
    few, many = (measure(problem, sampler, n, n, torch.device("cpu")) for n in (4, 4000))
    assert many.seconds > 5 * few.seconds


def test_a_coarser_problem_stands_for_a_large_one_in_proportion_to_their_values(
    problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tiltkit.recon.check._time", lambda _, work: (1.0, work()))
    sampler, device = Moments(Moments.Options(levels=6)), torch.device("cpu")
    whole = measure(problem, sampler, 4, 4, device)
    large = replace(problem, shape=(1, 32))  # 2 times as many values; nothing of it is computed
    by_coarse = measure(large, sampler, 4, 4, device, problem)
    assert by_coarse.seconds == pytest.approx(2 * whole.seconds)
    assert by_coarse.call == pytest.approx(2 * whole.call)
