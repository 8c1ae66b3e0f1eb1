"""Particle weights: effective sample size, resampling and flattening."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tiltkit.sampling.particles.weights import (
    effective_power,
    ess,
    normalised,
    systematic_resampling,
)

logs = st.lists(st.floats(-30, 30), min_size=2, max_size=40)


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def test_equal_weights_have_the_full_effective_sample_size():
    assert ess(tensor([3.0] * 17)) == pytest.approx(17)


def test_one_dominating_weight_leaves_a_single_effective_particle():
    assert ess(tensor([0.0, -800.0, -900.0])) == pytest.approx(1)


@given(logs, st.floats(-500, 500))
def test_the_effective_sample_size_does_not_depend_on_a_shared_constant(values, shift):
    assert ess(tensor(values) + shift) == pytest.approx(ess(tensor(values)), rel=1e-6)
    assert 1 - 1e-9 <= ess(tensor(values)) <= len(values) * (1 + 1e-9)


@given(logs, st.floats(0, 0.999))
def test_resampling_gives_every_particle_its_share_of_copies_to_within_one(values, u):
    log_weight = tensor(values)
    counts = torch.bincount(systematic_resampling(log_weight, u), minlength=len(values))
    assert counts.sum() == len(values)
    share = len(values) * normalised(log_weight)
    assert ((counts - share).abs() < 1 + 1e-6).all()


def test_resampling_is_unbiased():
    log_weight = tensor([0.0, 1.0, -1.0, 0.5, -3.0, 2.0, 0.1])
    points = 4000
    counts = torch.zeros(7, dtype=torch.float64)
    for i in range(points):
        counts += torch.bincount(systematic_resampling(log_weight, (i + 0.5) / points), minlength=7)
    torch.testing.assert_close(counts / points, 7 * normalised(log_weight), atol=2e-3, rtol=0)


def test_systematic_resampling_varies_less_than_multinomial():
    log_weight = torch.linspace(-1, 1, 20, dtype=torch.float64)
    share = 20 * normalised(log_weight)
    u = torch.rand(2000, generator=torch.Generator().manual_seed(0)).tolist()
    counts = torch.stack(
        [torch.bincount(systematic_resampling(log_weight, v), minlength=20) for v in u]
    )
    variance = (counts - share).square().mean(0)
    multinomial = share * (1 - share / 20)
    assert (variance < multinomial).all()
    assert variance.sum() < 0.4 * multinomial.sum()


def test_resampling_keeps_equally_weighted_particles():
    assert systematic_resampling(torch.zeros(9), 0.3).tolist() == list(range(9))


def test_weights_that_keep_enough_particles_are_not_flattened():
    assert effective_power(tensor([0.1, 0.0, -0.1, 0.2]), torch.zeros(4).double(), 2.0) == 1.0


def test_flattened_weights_have_exactly_the_requested_effective_sample_size():
    g = torch.Generator().manual_seed(0)
    increment = 1.5 * torch.randn(200, generator=g, dtype=torch.float64)
    before = 0.3 * torch.randn(200, generator=g, dtype=torch.float64)
    power = effective_power(increment, before, 60.0)
    assert 0.5 < power < 1
    assert ess(before + power * increment) == pytest.approx(60, rel=1e-6)


def test_weights_that_are_nearly_all_noise_are_skipped():
    increment = 50 * torch.randn(100, generator=torch.Generator().manual_seed(0)).double()
    assert effective_power(increment, torch.zeros(100).double(), 50.0) == 0.0


def test_a_floor_of_zero_never_flattens():
    assert effective_power(tensor([0.0, -1000.0, -2000.0]), torch.zeros(3).double(), 0.0) == 1.0
