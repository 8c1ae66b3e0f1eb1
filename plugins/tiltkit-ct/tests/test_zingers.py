"""Zingers are found, moving edges and noise are left alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tiltkit_ct.zingers import find_zingers


def found(counts: Any, gain: float, angles: Any, threshold: float = 8.0) -> Any:
    variance = gain * np.maximum(counts, 1).astype(np.float32)
    return find_zingers(counts.astype(np.float32), variance, threshold, angles[1] - angles[0])


@pytest.mark.parametrize("photons", [100, 10000, 1000000])
def test_a_scan_without_zingers_has_none(simulate: Callable[..., Any], photons: float) -> None:
    scan = simulate(photons=photons, gain=1, read_noise=0, dark=0, thickness=4.0)
    assert not found(scan.counts, 1.0, scan.angles).any()


def test_zingers_of_any_angle_and_place_are_found(simulate: Callable[..., Any]) -> None:
    scan = simulate(photons=5000, gain=1, read_noise=0, dark=0)
    counts = scan.counts.copy()
    rng = np.random.default_rng(0)
    where = np.zeros(counts.shape, bool)
    for angle in range(0, 90, 8):  # the first and the last projection too
        row, column = rng.integers(3), rng.integers(5, 123)
        where[angle, row, column] = where[angle, row, column + 1] = True
    where[-1, 1, 60] = True
    counts[where] += 6000
    np.testing.assert_array_equal(found(counts, 1.0, scan.angles), where)


def test_a_threshold_of_zero_finds_nothing(simulate: Callable[..., Any]) -> None:
    scan = simulate()
    scan.counts[40, 1, 60] = 1e6
    assert not found(scan.counts, 2.0, scan.angles, threshold=0.0).any()


def test_values_that_are_nan_are_neither_zingers_nor_in_the_way(
    simulate: Callable[..., Any],
) -> None:
    scan = simulate()
    scan.counts[10, 0, 5] = np.nan
    scan.counts[40, 1, 60] = 1e6
    assert np.argwhere(found(scan.counts, 2.0, scan.angles)).tolist() == [[40, 1, 60]]


def test_a_beam_that_flickers_makes_no_zingers(simulate: Callable[..., Any]) -> None:
    """As of projections that are neighbours in angle, but were taken hours apart."""
    scan = simulate(photons=50000, gain=1, read_noise=0, dark=0)
    scan.counts[:] *= np.random.default_rng(1).uniform(0.8, 1.2, (90, 1, 1))
    scan.counts[40, 1, 60] += 60000
    assert np.argwhere(found(scan.counts, 1.0, scan.angles)).tolist() == [[40, 1, 60]]
