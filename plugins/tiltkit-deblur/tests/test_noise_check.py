"""Preprocessing and cameras that make an estimate of the noise doubtful are named."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from tiltkit_deblur.noise_check import cut_off_reading, examine_noise

Array = NDArray[np.float64]
GAIN, OFFSET, READ_NOISE = 2.0, 100.0, 4.0


def light(seed: int = 0, peak: float = 300.0) -> Array:
    """Expected electrons of blurred cells on a dark ground, one plane."""
    rng = np.random.default_rng(seed)
    rough = ndimage.gaussian_filter(rng.normal(size=(1, 192, 192)), (0, 8, 8))
    cells = ndimage.gaussian_filter(np.maximum(rough - rough.std(), 0), (0, 1.2, 1.2))
    return 10 + peak * cells / cells.max()


def camera(seed: int = 0) -> Array:
    """Readings of a healthy camera."""
    rng = np.random.default_rng(seed + 1)
    electrons = rng.poisson(light(seed))
    return (GAIN * electrons + OFFSET + READ_NOISE * rng.normal(size=electrons.shape)).round()


def codes(readings: Array, **known: float) -> list[str]:
    return [note.code for note in examine_noise(readings.astype(np.float32), **known).notes]


@pytest.mark.parametrize("seed", [0, 10, 20])
def test_a_healthy_camera_has_its_gain_within_a_fifth_and_no_note(seed: int) -> None:
    noise = examine_noise(camera(seed).astype(np.float32))
    assert noise.camera.gain == pytest.approx(GAIN, rel=0.2)
    assert not noise.notes


def upsampled(readings: Array) -> Array:
    return ndimage.zoom(readings, (1, 2, 2), order=1).round()


def smoothed(readings: Array) -> Array:
    return ndimage.gaussian_filter(readings, (0, 0.8, 0.8))


def denoised(readings: Array) -> Array:
    return ndimage.median_filter(readings, (1, 3, 3))


def clipped(readings: Array) -> Array:
    return (readings - np.median(readings)).clip(0)


def subtracted(readings: Array) -> Array:
    return readings - np.median(readings)


def rescaled(readings: Array) -> Array:
    return (readings / 40).round()


def with_columns(readings: Array) -> Array:
    return readings + 12 * np.random.default_rng(2).normal(size=readings.shape[-1])


def corrected(readings: Array) -> Array:
    return 1000 * ((readings - readings.min()) / np.ptp(readings)) ** 0.45


@pytest.mark.parametrize(
    ("process", "code"),
    [
        (upsampled, "noise_correlated"), (smoothed, "noise_correlated"),
        (denoised, "noise_correlated"), (clipped, "readings_cut_off"),
        (subtracted, "background_subtracted"), (rescaled, "noise_below_step"),
        (with_columns, "column_noise"), (corrected, "noise_constant"),
    ],
)  # fmt: skip
def test_preprocessed_images_are_named_with_the_option_that_mends_it(
    process: object, code: str
) -> None:
    assert callable(process)
    found = examine_noise(process(camera()).astype(np.float32)).notes
    note = next(note for note in found if note.code == code)
    assert note.assumed
    assert "-s task." in note.text or "use images before" in note.text


def test_multiplied_electrons_are_noted_and_their_noise_is_right() -> None:
    rng = np.random.default_rng(0)
    electrons = rng.poisson(np.tile(light(peak=60), (8, 1, 1)))
    readings = rng.gamma(np.maximum(electrons, 1e-9)) * 10 + 100
    noise = examine_noise(readings.astype(np.float32))
    assert noise.camera.gain == pytest.approx(20, rel=0.15)
    assert [note.code for note in noise.notes] == ["noise_skewed"]


def test_counts_in_the_dark_are_not_cut_off() -> None:
    counts = np.random.default_rng(0).poisson(light(peak=100) - 9.9).astype(np.float64)
    assert "readings_cut_off" not in codes(7 * counts)


def test_correlated_noise_is_that_of_coarse_detail() -> None:
    noise = examine_noise(np.kron(camera(), np.ones((1, 2, 2))).astype(np.float32))
    assert noise.camera.gain == pytest.approx(4 * GAIN, rel=0.3)


def test_stated_values_win_and_are_compared_with_the_images() -> None:
    known = {"gain": GAIN, "offset": OFFSET, "read_noise": READ_NOISE}
    assert not codes(camera(), **known)
    wrong = known | {"gain": 1 / GAIN}
    noise = examine_noise(camera().astype(np.float32), **wrong)
    assert noise.camera.gain == 1 / GAIN
    assert [note.code for note in noise.notes] == ["stated_noise_differs"]
    assert "readings per electron" in noise.notes[0].text


def test_a_plateau_at_any_reading_is_saturation_and_a_single_bright_pixel_is_not() -> None:
    readings = camera().astype(np.float32)
    assert cut_off_reading(readings) == np.inf
    top = float(np.percentile(readings, 99.5))
    assert cut_off_reading(np.minimum(readings, top)) == top
    readings[0, 5, 5] = 1e5
    assert cut_off_reading(readings) == np.inf
