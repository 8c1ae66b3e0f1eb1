"""Streaming statistics against numpy on all samples at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tiltkit.posterior.moments import Moments, Quantiles


def samples(n, seed=0):
    return torch.randn(n, 4, 5, generator=torch.Generator().manual_seed(seed)) * 3 + 100


@pytest.mark.parametrize("sizes", [[30], [1] * 30, [7, 1, 20, 2]])
def test_moments_match_numpy_however_the_samples_arrive(sizes):
    x, moments = samples(30), Moments()
    for part in torch.split(x, sizes):
        moments.add(part)
    assert moments.count == 30
    np.testing.assert_allclose(moments.mean, x.double().numpy().mean(0), rtol=1e-12)
    np.testing.assert_allclose(moments.std(), x.double().numpy().std(0, ddof=1), rtol=1e-10)


def test_a_small_spread_around_a_large_mean_is_not_lost():
    x = 1e6 + torch.randn(200, 3, generator=torch.Generator().manual_seed(0)).double() * 1e-3
    moments = Moments()
    for part in torch.split(x, 10):
        moments.add(part)
    np.testing.assert_allclose(moments.std(), x.numpy().std(0, ddof=1), rtol=1e-4)


def test_a_single_sample_has_no_spread():
    moments = Moments()
    moments.add(samples(1))
    assert moments.std().isnan().all()


def test_copies_of_samples_do_not_make_the_spread_smaller():
    moments, x = Moments(), samples(5)
    for _ in range(3):
        moments.add(x)
    np.testing.assert_allclose(moments.std(5), x.double().numpy().std(0, ddof=1), rtol=1e-10)
    assert (moments.std() < moments.std(5)).all()


def test_moments_of_nothing_are_an_error():
    with pytest.raises(ValueError, match="no samples"):
        _ = Moments().mean
    with pytest.raises(ValueError, match="no samples"):
        _ = Moments().std()


@pytest.mark.parametrize("n", [1, 2, 16, 256])
def test_quantiles_of_up_to_256_samples_are_the_exact_ones(n):
    x, quantiles = samples(n), Quantiles()
    for part in torch.split(x, 50):
        quantiles.add(part)
    for level, image in quantiles.at((0.05, 0.5, 0.95)).items():
        expected = np.quantile(x.double().numpy(), level, axis=0, method="weibull")
        np.testing.assert_allclose(image, expected, rtol=1e-5)


@pytest.mark.parametrize("order", ["random", "rising", "falling"])
@pytest.mark.parametrize("batch", [1, 64, 1000])
def test_quantiles_of_many_samples_are_close_in_rank_whatever_their_order(order, batch):
    n, pixels = 6000, 40
    x = torch.rand(n, pixels, generator=torch.Generator().manual_seed(1))
    if order != "random":
        x = x.sort(dim=0, descending=order == "falling").values
    quantiles = Quantiles()
    for part in torch.split(x, batch):
        quantiles.add(part)
    for level, image in quantiles.at((0.05, 0.5, 0.95)).items():
        # Values are uniform, so that a value is its own rank.
        error = image - level
        assert error.mean().abs() < 0.015, (level, order)
        assert error.abs().max() < 0.12, (level, order)


def test_memory_of_the_quantiles_is_bounded():
    quantiles = Quantiles()
    for seed in range(40):
        quantiles.add(samples(50, seed))
    assert len(quantiles._kept) <= 257


def test_an_interval_covers_a_further_draw_as_often_as_it_says():
    quantiles = Quantiles()
    quantiles.add(torch.randn(39, 20_000, generator=torch.Generator().manual_seed(2)))
    bands = quantiles.at((0.05, 0.95))
    further = torch.randn(20_000, generator=torch.Generator().manual_seed(3))
    covered = ((bands[0.05] <= further) & (further <= bands[0.95])).double().mean()
    assert covered == pytest.approx(0.9, abs=0.01)


@pytest.mark.parametrize("correlation", [0.0, 0.7, 1.0])
def test_the_spread_of_few_particles_is_right_however_correlated_their_rounds_are(correlation):
    g = torch.Generator().manual_seed(0)
    x, parts = torch.randn(6, 20_000, generator=g), (Moments(), Moments())
    for number in range(4):
        parts[number // 2].add(x)
        new = torch.randn(6, 20_000, generator=g)
        x = correlation * x + (1 - correlation**2) ** 0.5 * new
    whole = parts[0].merged(parts[1], same_group=True)
    assert float(whole.std(6).square().mean()) == pytest.approx(1, abs=0.015)


def test_other_particles_count_with_the_distance_of_their_mean():
    groups = Moments(), Moments()
    for number, group in enumerate(groups):
        for _ in range(2):
            group.add(torch.tensor([[-1.0], [1.0]]) + 10 * number)
    values = torch.tensor([-1.0, 1, 9, 11]).double()
    assert float(groups[0].merged(groups[1]).std(4)) == pytest.approx(float(values.std()))
