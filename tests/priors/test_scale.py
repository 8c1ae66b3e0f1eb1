"""The image scale is the bright end of the object, whatever the background and single pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tiltkit.io.images import read_images
from tiltkit.priors.check import from_images
from tiltkit.priors.scale import image_scale


def image() -> np.ndarray:
    """A textured object of brightness about 1 in the middle of dark background."""
    rng = np.random.default_rng(0)
    values = np.zeros((128, 128), np.float32)
    values[32:96, 32:96] = 1 + 0.1 * rng.standard_normal((64, 64))
    return values


@pytest.mark.parametrize("hot", [10.0, 1e6])
def test_single_hot_pixels_hardly_change_the_scale(hot: float) -> None:
    spoiled = image()
    spoiled[[5, 40, 90], [5, 40, 90]] = hot
    assert image_scale(spoiled) == pytest.approx(image_scale(image()), rel=0.02)


def test_background_does_not_change_the_scale() -> None:
    assert image_scale(image()) == pytest.approx(image_scale(image()[32:96, 32:96]), rel=1e-6)


def test_the_scale_goes_with_the_brightness() -> None:
    assert image_scale(7 * image()) == pytest.approx(7 * image_scale(image()), rel=1e-6)


@pytest.mark.parametrize("values", [np.zeros((8, 8)), np.zeros((0, 8))])
def test_an_image_without_signal_has_scale_zero(values: np.ndarray) -> None:
    assert image_scale(values) == 0


def test_the_images_of_a_prior_check_keep_their_scale_with_a_hot_pixel(tmp_path: Path) -> None:
    whole = []
    for name, hot in (("clean", 0.0), ("hot", 50.0)):
        values = image()
        values[5, 5] = hot
        np.save(tmp_path / f"{name}.npy", values)
        g = torch.Generator().manual_seed(0)
        whole.append(
            from_images(read_images([tmp_path / f"{name}.npy"], 1), name, 1, 1, "auto", g).images[0]
        )
    torch.testing.assert_close(whole[0][..., 32:96, 32:96], whole[1][..., 32:96, 32:96],
                               rtol=0.02, atol=0)  # fmt: skip
