"""The test of shares of separate explanations within a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import tiltkit
from tiltkit.likelihoods import GaussianLikelihood
from tiltkit.posterior.outcome import Outcome
from tiltkit.priors.closed_form import Mixture
from tiltkit.problem import Problem
from tiltkit.recon.shares import with_shares_tested


def outcome(
    problem: Problem, number: int, n: int, *, right: bool, preference: float = 1.0
) -> Outcome:
    """Samples of the two modes, exact but for the shares.

    They may ignore the data, or prefer the first mode by a factor on its odds.
    """
    prior, likelihood = problem.prior, problem.likelihood
    assert isinstance(prior, Mixture)
    assert isinstance(likelihood, GaussianLikelihood)
    total = prior.variance + likelihood.noise_var
    misfit = (likelihood.y - prior.means).flatten(1).square().sum(1)
    odds = torch.softmax(-misfit / 2 / total, 0) if right else torch.tensor([0.5, 0.5])
    odds = odds * torch.tensor([preference, 1.0])
    g = torch.Generator().manual_seed(1000 + number)
    centre = prior.means[torch.multinomial(odds, n, replacement=True, generator=g)]
    gain = prior.variance / total
    x = centre + gain * (likelihood.y - centre)
    x = x + (gain * likelihood.noise_var) ** 0.5 * torch.randn(x.shape, generator=g)
    images = x[:, 0].numpy()
    return Outcome(
        images.mean(0), images.std(0), {0.05: images[0], 0.5: images[0], 0.95: images[0]},
        images, images[0], None, {"chi2": 1.0}, x.numpy(),
    )  # fmt: skip


def after_test(problem: Problem, n: int, *, right: bool, preference: float = 1.0) -> Outcome:
    def solve(other: Problem, number: int) -> Iterator[Outcome]:
        yield outcome(other, number, n, right=right, preference=preference)

    first = outcome(problem, 0, n, right=right, preference=preference)
    return with_shares_tested(first, problem, solve, 1)


@pytest.mark.parametrize("preference", [1.0, 10.0])
def test_shares_without_a_fault_are_not_called_right_since_a_constant_preference_passes(
    two_modes: Problem, preference: float
) -> None:
    report = after_test(two_modes, 64, right=True, preference=preference).diagnostics
    assert report["shares"] == "not tested"
    assert "no fault in 32 draws" in report["shares_found"]
    assert "constant preference" in report["shares_found"]
    assert report["warnings"] == ()
    assert report["chi2"] == 1.0


def test_shares_that_ignore_the_data_are_failed_and_warned_about(two_modes: Problem) -> None:
    report = after_test(two_modes, 64, right=False).diagnostics
    assert report["shares"] == "failed"
    assert [one.code for one in report["warnings"]] == ["shares_wrong"]


def test_a_test_without_power_leaves_the_shares_untested_for_a_reason(two_modes: Problem) -> None:
    report = after_test(two_modes, 3, right=True).diagnostics
    assert report["shares"] == "not tested"
    assert "4 samples" in report["shares_found"]


@pytest.mark.timeout(600)
def test_a_run_can_test_its_shares_and_its_samples_stay_the_same(
    two_modes: Problem, tmp_path: Path
) -> None:
    options = {"levels": 12, "collect": 1}
    plain = tiltkit.sample(two_modes, sampler="walmc", n=32, options=options)
    result = tiltkit.sample(two_modes, sampler="walmc", n=32, options=options, test_shares=True)
    np.testing.assert_array_equal(plain.samples, result.samples)
    assert plain.verdict.shares.text == "no test was made"
    assert "Posterior SBC" in result.verdict.shares.text
    result.save(tmp_path / "out.h5")
    assert tiltkit.load_result(tmp_path / "out.h5").verdict == result.verdict
