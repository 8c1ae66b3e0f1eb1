"""Gain and noise come out as they were put in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tiltkit_ct.noise import (
    dark_variance,
    gain_from_counts,
    gain_from_flats,
    high_frequency_variance,
    noise_variance,
)

DARK = np.zeros((1, 1), np.float32)


def test_the_gain_comes_from_flats_of_a_beam_that_changes(simulate: Callable[..., Any]) -> None:
    for gain in (0.3, 4.0):
        scan = simulate(gain=gain, read_noise=0, dark=0, rows=20, fluctuation=0.05)
        found = gain_from_flats(scan.flats.astype(np.float32), DARK, np.zeros(10), 0.0)
        assert found == pytest.approx(gain, rel=0.03)


def test_reading_noise_is_not_taken_for_photons(simulate: Callable[..., Any]) -> None:
    scan = simulate(gain=1.0, read_noise=30, photons=800, rows=20)
    variance = dark_variance(scan.darks.astype(np.float32))
    assert variance == pytest.approx(900, rel=0.1)
    dark = scan.darks.mean(axis=0).astype(np.float32)
    found = gain_from_flats(scan.flats.astype(np.float32), dark, np.zeros(10), variance)
    assert found == pytest.approx(1.0, rel=0.08)


def test_two_flats_are_enough_where_there_are_many_pixels(simulate: Callable[..., Any]) -> None:
    scan = simulate(n_flats=2, gain=2.0, read_noise=0, dark=0, rows=100)
    found = gain_from_flats(scan.flats.astype(np.float32), DARK, np.zeros(2), 0.0)
    assert found == pytest.approx(2.0, rel=0.05)


def test_zingers_dead_and_saturated_pixels_do_not_change_the_gain(
    simulate: Callable[..., Any],
) -> None:
    scan = simulate(gain=2.0, read_noise=0, dark=0, rows=20)
    flats = scan.flats.astype(np.float32)
    flats[2, 3, 4:9] = 1e6
    flats[:, :, 40] = 0
    flats[:, 2, :30] = np.nan
    found = gain_from_flats(flats, DARK, np.zeros(10), 0.0)
    assert found == pytest.approx(2.0, rel=0.05)


def test_flats_of_different_times_are_not_compared(simulate: Callable[..., Any]) -> None:
    scan = simulate(gain=2.0, read_noise=0, dark=0, rows=40)
    flats = scan.flats.astype(np.float32)
    shape = np.linspace(0.5, 2, flats.shape[2], dtype=np.float32)
    flats[5:] = scan.flats[5:] * np.cos(9 * shape) ** 2  # another beam, of another gain
    times = np.repeat([0.0, 9.0], 5)
    assert gain_from_flats(flats[:5], DARK, times[:5], 0.0) == pytest.approx(2, rel=0.05)
    together = gain_from_flats(flats, DARK, times, 0.0)
    assert together is not None
    assert 0.8 < together < 2.1


@pytest.mark.parametrize("flats", [np.ones((1, 3, 40)), np.full((4, 3, 40), 7.0),
                                   np.full((4, 3, 40), np.nan)])  # fmt: skip
def test_flats_that_do_not_differ_give_no_gain(flats: Any) -> None:
    assert gain_from_flats(flats.astype(np.float32), DARK, np.zeros(len(flats)), 0.0) is None


@pytest.mark.parametrize("gain", [1e-4, 1.0, 5.0])
def test_the_gain_comes_from_projections_where_there_are_no_flats(
    simulate: Callable[..., Any], gain: float
) -> None:
    scan = simulate(gain=gain, read_noise=0, dark=0, photons=1000, n=180)
    assert gain_from_counts(scan.counts[:, 0].astype(np.float32)) == pytest.approx(gain, rel=0.1)


@pytest.mark.parametrize("level", [0.005, 0.02, 0.2])
def test_white_noise_on_a_sinogram_is_measured(project: Callable[..., Any], level: float) -> None:
    clean = project(np.linspace(0, np.pi, 120), 160, 79.5, 60)
    noise = level * np.random.default_rng(0).normal(size=clean.shape)
    found = high_frequency_variance((clean + noise).astype(np.float32))
    assert found == pytest.approx(level**2, rel=0.2)


def test_stripes_and_drifts_are_not_taken_for_noise(project: Callable[..., Any]) -> None:
    rng = np.random.default_rng(0)
    clean = project(np.linspace(0, np.pi, 120), 160, 79.5, 60)
    noisy = clean + 0.02 * rng.normal(size=clean.shape)
    noisy += rng.normal(size=160) + rng.normal(size=120)[:, None]
    assert high_frequency_variance(noisy.astype(np.float32)) == pytest.approx(4e-4, rel=0.1)


def test_noise_that_grows_with_the_value_is_followed(project: Callable[..., Any]) -> None:
    clean = project(np.linspace(0, np.pi, 120), 160, 79.5, 60)
    variance = 1e-4 + 4e-3 * np.maximum(clean, 0)
    rng = np.random.default_rng(0)
    noisy = (clean + np.sqrt(variance) * rng.normal(size=clean.shape)).astype(np.float32)
    chi2 = (noisy - clean) ** 2 / noise_variance(noisy)
    assert chi2.mean() == pytest.approx(1, abs=0.1)
    assert chi2[clean < 0.01].mean() == pytest.approx(1, abs=0.15)
    assert chi2[clean > 0.5].mean() == pytest.approx(1, abs=0.15)


def test_rows_without_beam_do_not_hide_the_gain_of_the_others() -> None:
    rng = np.random.default_rng(0)
    flats = rng.normal(0, 3, (10, 17, 128))
    flats[:, 8:10] += 2 * rng.poisson(5000, (10, 2, 128))
    found = gain_from_flats(flats.astype(np.float32), DARK, np.zeros(10), 9.0)
    assert found == pytest.approx(2.0, rel=0.05)
