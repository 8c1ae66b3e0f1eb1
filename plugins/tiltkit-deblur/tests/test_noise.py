"""Gain, offset and read noise from a single image."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from tiltkit_deblur.noise import Camera
from tiltkit_deblur.noise_check import examine_noise


def readings(gain: float, offset: float, read_noise: float, seed: int = 0) -> np.ndarray:
    """Planes of soft blobs, as on a camera."""
    rng = np.random.default_rng(seed)
    scene = gaussian_filter((rng.random((4, 256, 256)) < 2e-3).astype(float), (0, 6, 6))
    electrons = rng.poisson(20 + 2000 * scene / scene.max())
    noisy = gain * electrons + offset + read_noise * rng.standard_normal(scene.shape)
    return noisy.astype(np.float32)


@pytest.mark.parametrize("gain", [0.5, 2.0, 40.0])
def test_the_gain_is_found_within_a_tenth(gain: float) -> None:
    camera = examine_noise(readings(gain, 100.0, 3.0), offset=100.0).camera
    assert camera.gain == pytest.approx(gain, rel=0.1)


def test_the_variance_is_right_at_dark_and_bright_pixels_whatever_is_known() -> None:
    true = Camera(2.0, 100.0, 12.0)
    stack = readings(2.0, 100.0, 12.0)
    for known in ({}, {"offset": 100.0}, {"read_noise": 12.0}, {"gain": 2.0}):
        camera = examine_noise(stack, **known).camera
        for reading in (200.0, 800.0, 2000.0):
            assert camera.variance(reading) == pytest.approx(true.variance(reading), rel=0.15)


def test_what_is_given_is_taken() -> None:
    noise = examine_noise(readings(2, 100, 3), gain=3.0, offset=5.0, read_noise=1.0)
    assert noise.camera == Camera(3.0, 5.0, 1.0)


def test_an_image_without_noise_has_next_to_none() -> None:
    y, x = np.mgrid[:128, :128].astype(np.float32)
    camera = examine_noise((1000 + y + 2 * x)[None]).camera
    assert camera.variance(1200.0) < 1e-3


def test_saturated_pixels_are_left_out() -> None:
    stack = readings(2.0, 100.0, 3.0)
    full = stack > np.percentile(stack, 97)
    stack[full] = np.nan
    assert examine_noise(stack, offset=100.0).camera.gain == pytest.approx(2.0, rel=0.15)
