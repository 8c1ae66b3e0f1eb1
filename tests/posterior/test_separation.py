"""The test for separate explanations of the data among samples."""

from __future__ import annotations

import pytest
import torch

from tiltkit.likelihoods import GaussianLikelihood
from tiltkit.operators.compose import Pointwise
from tiltkit.posterior.separation import MOST_SEPARATION, find_separation, separation_report

SHAPE = (1, 8, 8)


def likelihood(noise_var: float = 0.25) -> GaussianLikelihood:
    weights = torch.linspace(0.2, 2.0, 64).view(SHAPE)
    return GaussianLikelihood(Pointwise(weights), torch.zeros(1, *SHAPE), noise_var)


def one_explanation(n: int, seed: int, noise_var: float = 0.25) -> torch.Tensor:
    """Draws of the posterior of a flat prior, the widest that one explanation allows."""
    g = torch.Generator().manual_seed(seed)
    weights = torch.linspace(0.2, 2.0, 64).view(SHAPE)
    return noise_var**0.5 / weights * torch.randn(n, *SHAPE, generator=g)


@pytest.mark.parametrize("n", [2, 8, 64])
def test_one_explanation_is_within_the_limit(n: int) -> None:
    found = [find_separation(likelihood(), one_explanation(n, seed), n).ratio for seed in range(50)]
    assert max(found) <= MOST_SEPARATION


@pytest.mark.parametrize("n", [8, 64])
def test_two_separate_groups_are_beyond_the_limit(n: int) -> None:
    x = one_explanation(n, 0) / 10
    x[: n // 2, 0, 4] += 2.0
    report = separation_report(likelihood(), x, n)
    assert report["separation"] > MOST_SEPARATION
    assert "further apart" in report["shares_not_tested"]


def test_separation_does_not_depend_on_units_or_chunks() -> None:
    x = one_explanation(16, 0)
    found = find_separation(likelihood(), x, 16).ratio
    assert find_separation(likelihood(25.0), 10 * x, 3).ratio == pytest.approx(found, rel=1e-4)


def test_a_single_sample_is_not_tested() -> None:
    assert separation_report(likelihood(), one_explanation(1, 0), 1) == {}


@pytest.mark.parametrize(("n", "weighable"), [(4, False), (16, True)])
def test_weights_choose_only_among_samples_that_differ_in_few_values(
    n: int, weighable: bool
) -> None:
    # They differ in all 64 measured values: 21 and 4 for each sample.
    assert find_separation(likelihood(), one_explanation(n, 0), n).weighable is weighable
