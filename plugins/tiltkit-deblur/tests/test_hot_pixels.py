"""Hot pixels are left out; points of light are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from tiltkit_deblur.hot_pixels import find_hot
from tiltkit_deblur.noise import Camera
from tiltkit_deblur.options import DeblurOptions
from tiltkit_deblur.task import Deblur

CAMERA = Camera(2.0, 100.0, 3.0)


def spot(sigma: float) -> np.ndarray:
    point = np.zeros((15, 15))
    point[7, 7] = 1
    return gaussian_filter(point, sigma)


@pytest.mark.parametrize("sigma", [0.5, 0.8, 1.5])
def test_stars_are_not_hot_pixels_even_where_the_psf_is_too_wide(sigma: float) -> None:
    rng = np.random.default_rng(0)
    stars = np.zeros((1, 128, 128))
    stars[0][tuple(rng.integers(5, 123, (2, 40)))] = 10 ** rng.uniform(2, 5, 40)
    light = gaussian_filter(stars, (0, sigma, sigma)) + 5
    readings = 2 * rng.poisson(light) + 100 + 3 * rng.normal(size=light.shape)
    hot = find_hot(readings.astype(np.float32), spot(1.5), CAMERA)
    assert hot.sum() == 0


def test_single_bright_pixels_are_hot_unless_a_point_may_look_so() -> None:
    rng = np.random.default_rng(0)
    readings = 2 * rng.poisson(np.full((2, 64, 64), 20.0)) + 100 + 3 * rng.normal(size=(2, 64, 64))
    at = (np.array([0, 0, 1]), np.array([10, 0, 40]), np.array([12, 30, 63]))
    readings[at] += 800
    hot = find_hot(readings.astype(np.float32), spot(1.0), CAMERA)
    assert np.argwhere(hot).tolist() == np.argwhere(readings > 500).tolist()
    assert not find_hot(readings.astype(np.float32), spot(0.3), CAMERA).any()


def test_hot_pixels_are_not_measured_and_noted(scene: Any, tiff: Callable[..., Path]) -> None:
    readings = scene.readings.copy()
    readings[3, 30] += 3000
    options = DeblurOptions(psf=tiff("psf.tif", scene.psf), offset=100, read_noise=3)
    with Deblur(options).open(tiff("data.tif", readings)) as scan:
        prepared = scan._prepared(0, (slice(0, 1),), torch.device("cpu"))
        assert "hot_left_out" in [note.code for note in scan.notes]
    measured = prepared.measured[prepared.grid.at].numpy()
    assert np.argwhere(~measured).tolist() == [[3, 30]]
