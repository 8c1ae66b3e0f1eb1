"""The mean of weighted images, and how far chance alone may have moved it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch

from tiltkit.operators.bands import Bands

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Average", "Averaging", "frequency_bands"]


@lru_cache(maxsize=8)
def frequency_bands(shape: tuple[int, ...], device: torch.device) -> Bands:
    """Bands of real images (*image) by spatial frequency."""
    return Bands.shells((1, *shape), device)


@dataclass(frozen=True, slots=True)
class Average:
    """A mean of images, in the user's units.

    Attributes:
        image: (*image) float64.
        chance: (band,) float64: expected squared difference from the mean of endlessly many
            independent images, summed over the coefficients of each of the `frequency_bands`.
        least: The smallest value of any image in the mean.
    """

    image: Tensor
    chance: Tensor
    least: Tensor

    @property
    def bands(self) -> Bands:
        """Of the image's Hartley coefficients."""
        return frequency_bands(tuple(self.image.shape), self.image.device)


class Averaging:
    """Takes in weighted images one after the other: the same mean for any chunk size."""

    def __init__(self) -> None:
        # Differences from the first image, so that single precision is enough for their squares.
        self._first: Tensor | None = None
        self._least: Tensor

    def add(self, images: Tensor, weights: Tensor) -> None:
        """Take in images (n, *image) with weights (n,), in units of their own."""
        if self._first is None:
            self._begin(images[0])
        first, bands = self._started
        for image, weight in zip(images, weights.double(), strict=True):
            difference = (image - first)[None]
            self._sum += weight * difference[0].double()
            self._squares += weight * bands.inner(difference, difference)[0]
            self._weights += torch.stack([weight, weight.square()])
            self._least = torch.minimum(self._least, image.min())

    def _begin(self, image: Tensor) -> None:
        count = frequency_bands(tuple(image.shape), image.device).count
        self._first = image.clone()
        self._sum = torch.zeros_like(image, dtype=torch.float64)
        self._squares = torch.zeros(count, dtype=torch.float64, device=image.device)
        self._weights = self._squares.new_zeros(2)
        self._least = image.min()

    @property
    def _started(self) -> tuple[Tensor, Bands]:
        """The first image, and the bands that images are compared in."""
        if self._first is None:
            raise ValueError("no images yet")
        return self._first, frequency_bands(tuple(self._first.shape), self._first.device)

    @property
    def image(self) -> Tensor:
        """Mean image, float64.

        Raises:
            ValueError: There was no image.
        """
        first, _ = self._started
        return first.double() + self._sum / self._weights[0]

    @property
    def scatter(self) -> Tensor:
        """(band,) mean squared difference of images from their mean, summed over coefficients."""
        _, bands = self._started
        middle = (self._sum / self._weights[0])[None]
        return (self._squares / self._weights[0] - bands.inner(middle, middle)[0]).clamp_min(0)

    def result(self) -> Average:
        """The mean of images that are independent of each other.

        Its `chance` is 0 for a single image: nothing tells.
        """
        total, squares = self._weights
        share = squares / total**2
        chance = torch.where(share < 1, self.scatter * share / (1 - share), 0.0)
        return Average(self.image, chance, self._least)

    @property
    def count(self) -> float:
        """Sum of all weights."""
        return 0.0 if self._first is None else float(self._weights[0])

    @property
    def least(self) -> Tensor:
        """The smallest value of any image."""
        return self._least

    def dump(self) -> dict[str, Tensor]:
        """Tensors that `restore` takes."""
        if self._first is None:
            return {}
        return {
            "first": self._first, "sum": self._sum, "squares": self._squares,
            "weights": self._weights, "least": self._least,
        }  # fmt: skip

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `dump` gave."""
        self._first = tensors.get("first")
        if self._first is not None:
            self._sum, self._squares = tensors["sum"], tensors["squares"]
            self._weights, self._least = tensors["weights"], tensors["least"]
