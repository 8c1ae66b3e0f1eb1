"""Phase retrieval undoes propagation, keeps uniform images, and propagates the noise variance."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, laplace
from tiltkit_ct.phase import filter_length, paganin


def test_the_length_follows_the_published_formula() -> None:
    # 20 keV: wavelength 0.06199 nm. sqrt(0.06199e-9 * 0.5 * 1000 / (4 pi)) = 49.66 um.
    assert filter_length(20, 500, 1000, 0.001) == pytest.approx(49.66, rel=1e-3)


def test_a_uniform_image_stays_as_it_is() -> None:
    image = np.full((2, 30, 41), 0.37, np.float32)
    filtered, variance = paganin(image, np.ones_like(image), 6.0)
    np.testing.assert_allclose(filtered, 0.37, rtol=1e-5)
    assert (variance < 0.05).all()


def test_fringes_of_propagation_are_undone() -> None:
    # Transport of intensity through a single material: I = (1 - length^2 laplacian) I_0.
    rng = np.random.default_rng(0)
    contact = np.exp(-gaussian_filter(rng.random((80, 100)), 4, mode="wrap") * 3)
    length = 5.0
    contact = np.pad(contact, 40, mode="edge")
    contact = gaussian_filter(contact, 2)
    propagated = contact - length**2 * laplace(contact)
    inner = (slice(None), slice(40, 120), slice(40, 140))
    ones = np.ones((1, *propagated.shape), np.float32)
    found = paganin(propagated[None].astype(np.float32), ones, length)[0]
    error = np.abs(found[inner] - contact[None][inner]).max()
    assert error < 0.03 * np.abs(propagated[None][inner] - contact[None][inner]).max()


def test_the_variance_is_that_of_filtered_noise() -> None:
    noise = np.random.default_rng(0).normal(size=(200, 64, 64)).astype(np.float32)
    filtered, variance = paganin(noise, np.ones_like(noise), 1.5)
    middle = (slice(None), slice(20, 44), slice(20, 44))
    assert filtered[middle].var() == pytest.approx(variance[middle].mean(), rel=0.05)


def test_the_sides_do_not_wrap_around() -> None:
    image = np.zeros((1, 20, 60), np.float32)
    image[..., 30:] = 1
    filtered, _ = paganin(image, np.ones_like(image), 3.0)
    assert filtered[0, 10, 0] < 1e-3
    assert filtered[0, 10, -1] > 1 - 1e-3
