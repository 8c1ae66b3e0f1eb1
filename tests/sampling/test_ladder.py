"""Noise ladders: ends, order, shape, and what a user may ask for."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tiltkit.errors import UsageError
from tiltkit.sampling.particles.ladder import bounds, ladder


@pytest.mark.parametrize("levels", [2, 3, 48])
@pytest.mark.parametrize("rho", [1, 7, 1000])
def test_a_ladder_falls_strictly_between_exactly_its_ends(levels, rho):
    steps = ladder(5.0, 0.013, levels, rho)
    assert len(steps) == levels
    assert (steps[0], steps[-1]) == (5.0, 0.013)
    assert all(a > b for a, b in pairwise(steps))


def test_a_large_rho_gives_a_constant_ratio():
    ratios = [a / b for a, b in pairwise(ladder(5.0, 0.01, 40, 1000))]
    assert max(ratios) / min(ratios) < 1.02


def test_rho_of_one_gives_even_steps():
    gaps = [a - b for a, b in pairwise(ladder(5.0, 1.0, 5, 1))]
    assert gaps == pytest.approx([1.0] * 4)


def test_a_smaller_rho_spends_more_levels_on_high_noise():
    assert sum(s > 1 for s in ladder(5, 0.01, 50, 3)) > sum(s > 1 for s in ladder(5, 0.01, 50, 20))


def test_the_range_that_the_prior_knows_is_used_unless_asked_otherwise():
    assert bounds((0.01, 5.0), None, None) == (5.0, 0.01)
    assert bounds((0.01, 5.0), 3.0, None) == (3.0, 0.01)
    assert bounds((0.01, 5.0), None, 0.02) == (5.0, 0.02)


@pytest.mark.parametrize(
    ("sigma_max", "tau"), [(6.0, None), (None, 0.005), (0.02, 0.03), (1.0, 1.0), (None, 5.0)]
)
def test_levels_outside_of_what_the_prior_knows_are_refused(sigma_max, tau):
    with pytest.raises(UsageError, match=r"does not lie within 5 to 0\.01") as caught:
        bounds((0.01, 5.0), sigma_max, tau)
    assert "sampler.tau" in caught.value.hint
