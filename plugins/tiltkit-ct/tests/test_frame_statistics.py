"""Statistics over frames with missing values, in threads."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tiltkit_ct import frame_statistics


@pytest.mark.parametrize("name", ["mean", "median", "variance"])
def test_a_pixel_without_values_is_nan_and_the_others_keep_their_statistic(name: str) -> None:
    frames = np.array([[1, 5, np.nan], [3, np.nan, np.nan], [8, 7, np.nan]], np.float32)
    expected = {"mean": [4, 6], "median": [3, 6], "variance": [13, 2]}[name]
    result = getattr(frame_statistics, name)(frames)
    np.testing.assert_allclose(result[:2], expected, rtol=1e-6)
    assert np.isnan(result[2])
    assert result.dtype == np.float32


def test_statistics_in_threads_leave_the_warning_filters_as_they_are() -> None:
    before = list(warnings.filters)
    empty = np.full((4, 100), np.nan, np.float32)
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(frame_statistics.median, [empty] * 200))
    assert all(np.isnan(result).all() for result in results)
    assert warnings.filters == before
