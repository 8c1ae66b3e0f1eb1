"""What a network is measured on: which of the held-out images."""

from __future__ import annotations

import numpy as np
import pytest

from tiltkit.training.images import Image
from tiltkit.training.validation import ValidationSet


def chosen(count: int) -> list[int]:
    """Numbers of the images that an validation takes of so many."""
    images = [Image(np.full((1, 8, 8), k, np.float32), 0.0, "", "") for k in range(count)]
    validation = ValidationSet.of(images, (0.01, 5.0), is_complex=False, seed=0)
    return [int(image.max()) for image in validation.images]


@pytest.mark.parametrize("count", range(1, 9))
def test_few_images_are_all_measured(count: int) -> None:
    assert chosen(count) == list(range(count))


@pytest.mark.parametrize("count", [9, 10, 11, 13, 20, 100, 1001])
def test_of_many_images_some_are_measured_evenly_and_none_twice(count: int) -> None:
    found = chosen(count)
    gaps = np.diff(found)
    assert len(found) == 8
    assert gaps.min() >= 1
    assert gaps.max() - gaps.min() <= 1
    assert found[0] >= gaps.min() - 1, "the ends show little"
    assert count - 1 - found[-1] >= gaps.min() - 1
