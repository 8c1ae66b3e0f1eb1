"""Conformal factors: coverage of held-out images, the number of images that they need."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tiltkit.calibration.conformal import LEVELS, conformal_factors, exceedance, widen
from tiltkit.calibration.regions import Regions, labelled_regions, segment
from tiltkit.errors import InputError

SHAPE = (12, 10)
TOP = Regions(("top", "bottom"), np.repeat([[0], [1]], [6, 6], axis=0).repeat(10, axis=1))


def image(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, mean and a standard deviation that is 0.6 of the error, and 0.3 at the bottom.

    Images differ in how wrong they are.
    """
    error = rng.gamma(4) / 4 * rng.standard_normal(SHAPE)
    mean = rng.standard_normal(SHAPE)
    return mean + error, mean, np.where(TOP.labels == 0, 0.6, 0.3)


def test_factors_restore_the_coverage_of_held_out_images() -> None:
    rng = np.random.default_rng(0)
    coverage = {(name, level): [] for name in TOP.rows for level in LEVELS}
    for _ in range(60):
        losses = [exceedance(*image(rng), TOP) for _ in range(20)]
        factors = conformal_factors(losses, TOP.rows)
        truth, mean, std = image(rng)
        inside = {n: np.abs(truth - mean) for n in TOP.rows}
        for row, name in enumerate(TOP.rows):
            place = slice(None) if row == 0 else TOP.labels == row - 1
            for level in LEVELS:
                held = inside[name][place] <= factors[name][f"{level:g}"] * std[place]
                coverage[name, level].append(held.mean())
    for (name, level), values in coverage.items():
        error = np.std(values) / math.sqrt(len(values))
        assert np.mean(values) >= level - 2.5 * error, (name, level)
        assert np.mean(values) <= level + 1 / 21 + 0.03 + 2.5 * error, (name, level)


def test_nine_images_are_needed_for_90_per_cent() -> None:
    rng = np.random.default_rng(0)
    losses = [exceedance(*image(rng), TOP) for _ in range(9)]
    assert math.isfinite(conformal_factors(losses, TOP.rows)["top"]["0.9"])
    assert math.isinf(conformal_factors(losses[:8], TOP.rows)["top"]["0.9"])
    assert math.isinf(conformal_factors(losses, TOP.rows)["top"]["0.95"])


def test_widened_intervals_contain_the_given_ones_and_the_factor_times_the_spread() -> None:
    rng = np.random.default_rng(0)
    _, mean, std = image(rng)
    low, high = mean - rng.random(SHAPE), mean + rng.random(SHAPE)
    wide = widen((low, high), mean, std, TOP, {"top": 1.0, "bottom": 3.0})
    assert (wide[0] <= low).all()
    assert (wide[1] >= high).all()
    np.testing.assert_array_less(mean[6:] + 0.899, wide[1][6:])
    np.testing.assert_array_less(wide[0][:6], mean[:6] - 0.599)


def test_a_pixel_without_spread_is_inside_only_where_its_mean_is_exact() -> None:
    one = Regions(("all",), np.zeros(2, int))
    shares = exceedance(np.array([1.0, 2.0]), np.array([1.0, 1.0]), np.zeros(2), one)
    np.testing.assert_array_equal(shares, 0.5)


def test_air_object_and_edges_of_a_bright_disk_are_found() -> None:
    y, x = np.mgrid[-20:20, -20:20]
    radius = np.hypot(x, y)
    regions = segment(np.where(radius < 12, 1.0, 0.02 * np.sin(x)))
    names = np.array(regions.names)[regions.labels]
    assert (names[radius > 16] == "air").all()
    assert (names[radius < 8] == "object").all()
    assert (names[np.abs(radius - 12) < 0.5] == "edges").all()
    assert set(np.unique(segment(np.ones((5, 5))).labels)) == {0}


def test_labels_of_regions_must_fit_the_image() -> None:
    assert labelled_regions(np.array([[5, 7]]), (1, 2)).names == ("region 5", "region 7")
    with pytest.raises(InputError, match=r"have shape \(1, 2\)"):
        labelled_regions(np.array([[5, 7]]), (2, 2))
    with pytest.raises(InputError, match="not whole numbers"):
        labelled_regions(np.array([[0.5, 7]]), (1, 2))
