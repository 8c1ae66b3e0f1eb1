"""Darks and flats: interpolated in time, without zingers, and refused where they say nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tiltkit_ct.normalise import correct, drift, mean_over_time
from tiltkit_ct.projections import Band

from tiltkit.errors import InputError


def frames(*values: float, shape: tuple[int, int] = (2, 6)) -> Any:
    return np.stack([np.full(shape, value, np.float32) for value in values])


def band(**changes: Any) -> Band:
    n = 5
    rng = np.random.default_rng(0)
    parts = {
        "counts": 300 + rng.normal(size=(n, 2, 6)).astype(np.float32),
        "times": np.arange(n, dtype=float),
        "flats": frames(1100, 1100),
        "darks": frames(100, 100),
        "flat_times": np.zeros(2),
        "dark_times": np.zeros(2),
    }
    return Band(**(parts | changes))


def test_frames_of_one_time_are_averaged_and_kept_for_all_times() -> None:
    mean, used = mean_over_time(frames(1, 2, 6), np.zeros(3), np.arange(4.0))
    np.testing.assert_allclose(mean, frames(3))
    np.testing.assert_array_equal(used, [3, 3, 3, 3])


def test_frames_of_two_times_are_interpolated_and_kept_beyond_the_ends() -> None:
    times = np.array([1.0, 1.0, 3.0, 3.0])
    mean, used = mean_over_time(frames(10, 12, 20, 22), times, np.arange(6.0))
    np.testing.assert_allclose(mean[:, 0, 0], [11, 11, 16, 21, 21, 21])
    # Halfway, four frames count.
    np.testing.assert_allclose(used, [2, 2, 4, 2, 2, 2])


def test_a_zinger_in_one_flat_does_not_count() -> None:
    flats = np.random.default_rng(1).poisson(1000, (8, 2, 6)).astype(np.float32)
    clean, _ = mean_over_time(flats, np.zeros(8), np.zeros(1))
    flats[3, 1, 2] = 9000
    mean, _ = mean_over_time(flats, np.zeros(8), np.zeros(1))
    assert abs(mean[0, 1, 2] - 1000) < 50
    np.testing.assert_array_equal(mean[0, 0], clean[0, 0])


def test_a_pixel_that_is_mostly_saturated_has_no_mean() -> None:
    flats = frames(10, 20, 30)
    flats[:2, 0, 0] = np.nan  # what is left of it would be too dark
    mean, _ = mean_over_time(flats, np.zeros(3), np.zeros(1))
    assert np.isnan(mean[0, 0, 0])
    assert np.isnan(mean).sum() == 1


def test_values_that_are_nan_in_some_flats_come_from_the_others() -> None:
    flats = frames(10, 20, 30)
    flats[0, 0, 0] = np.nan
    flats[:, 1, 1] = np.nan
    mean, _ = mean_over_time(flats, np.zeros(3), np.zeros(1))
    assert mean[0, 0, 0] == 25
    assert np.isnan(mean[0, 1, 1])
    assert np.isfinite(np.delete(mean.ravel(), 7)).all()


def test_darks_are_subtracted_from_both() -> None:
    found = correct(band(), "scan")
    np.testing.assert_allclose(found.blank, frames(1000))
    np.testing.assert_allclose(found.counts, band().counts - 100)
    assert found.usable.all()


def test_without_darks_nothing_is_subtracted() -> None:
    found = correct(band(darks=None), "scan")
    np.testing.assert_allclose(found.blank, frames(1100))


def test_a_beam_that_fades_is_followed() -> None:
    times = np.array([-0.5, 4.5])
    found = correct(band(flats=frames(1100, 600), flat_times=times), "scan")
    np.testing.assert_allclose(found.blank[:, 0, 0], [950, 850, 750, 650, 550])


def test_dead_blocked_and_stuck_pixels_are_marked() -> None:
    flats, counts = frames(1100, 1100), band().counts.copy()
    flats[:, 0, 1] = 100  # blocked
    flats[:, 1, 2] = np.nan  # saturated
    counts[:, 0, 4] = 700  # stuck
    found = correct(band(flats=flats, counts=counts), "scan")
    assert np.argwhere(~found.usable).tolist() == [[0, 1], [0, 4], [1, 2]]


def test_data_without_noise_are_not_taken_for_stuck() -> None:
    assert correct(band(counts=frames(300, 300, 300, 300, 300)), "scan").usable.all()


def test_reading_noise_comes_from_the_darks() -> None:
    darks = 100 + 5 * np.random.default_rng(0).normal(size=(20, 40, 50)).astype(np.float32)
    parts = band(darks=darks, dark_times=np.zeros(20), counts=np.full((5, 40, 50), 300, np.float32),
                 flats=np.full((2, 40, 50), 1100, np.float32))  # fmt: skip
    assert correct(parts, "scan").dark_variance == pytest.approx(25, rel=0.05)


def test_drift_is_one_at_the_sides_after_it_is_divided_out() -> None:
    columns = np.arange(20, dtype=np.float32)
    slope = 0.9 + 0.01 * columns
    transmission = np.broadcast_to(slope, (3, 1, 20)).copy()
    np.testing.assert_allclose(transmission / drift(transmission, 3), 1, rtol=1e-6)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no flats": ({"flats": None}, "no flats"),
    "saturated flats": ({"flats": frames(np.nan, np.nan)}, "saturated or NaN in 100%"),
    "mostly saturated": ({"flats": frames(np.nan, np.nan, 1100)}, "saturated or NaN in 67%"),
    "no beam": ({"flats": frames(100, 100)}, "no brighter than its darks"),
    "swapped": ({"flats": frames(100, 100), "darks": frames(1100, 1100)}, "swapped|brighter"),
    "zero counts": ({"counts": frames(0, 0, 0, 0, 0)}, "no counts"),
    "counts are NaN": ({"counts": frames(*[np.nan] * 5)}, "no counts"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.filterwarnings("error")
def test_bands_without_information_are_refused(case: str) -> None:
    changes, message = BAD[case]
    with pytest.raises(InputError, match=message) as caught:
        correct(band(**changes), "row 3 of scan.h5")
    assert "row 3 of scan.h5" in caught.value.message
    assert caught.value.hint


def test_a_spike_in_one_of_two_flats_does_not_count() -> None:
    flats = np.random.default_rng(1).poisson(1000, (2, 2, 60)).astype(np.float32)
    clean, _ = mean_over_time(flats, np.zeros(2), np.zeros(1))
    flats[1, 0, 7] = 9000
    mean, _ = mean_over_time(flats, np.zeros(2), np.zeros(1))
    assert mean[0, 0, 7] == flats[0, 0, 7]
    np.testing.assert_array_equal(mean[0, 1], clean[0, 1])


def test_rows_of_views_that_were_never_written_cannot_be_used() -> None:
    counts = band().counts.copy()
    counts[3, 1] = 0
    found = correct(band(counts=counts), "scan")
    assert np.isnan(found.counts[3, 1]).all()
    assert np.isnan(found.counts).sum() == 6
    assert found.usable.all()
