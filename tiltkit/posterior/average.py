"""Weighted mean of images, and its sampling variance by band of spatial frequency."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch

from tiltkit.operators.bands import Bands

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["MeanEstimate", "StreamingMean", "frequency_bands"]


@lru_cache(maxsize=8)
def frequency_bands(shape: tuple[int, ...], device: torch.device) -> Bands:
    """Bands of spatial frequency of real images (*image)."""
    return Bands.shells((1, *shape), device)


@dataclass(frozen=True, slots=True)
class MeanEstimate:
    """An estimate of a mean image, in the user's units.

    Attributes:
        image: The estimate (*image), float64.
        variance: (band,) float64: sampling variance of the estimate, summed over the coefficients
            of each of the `frequency_bands`.
        minimum: Smallest value of any image in the mean, a scalar.
    """

    image: Tensor
    variance: Tensor
    minimum: Tensor

    @property
    def bands(self) -> Bands:
        """Bands of the image's Hartley coefficients."""
        return frequency_bands(tuple(self.image.shape), self.image.device)


class StreamingMean:
    """Running weighted mean of images; chunks change it by rounding in float64 only."""

    def __init__(self) -> None:
        # Differences from the first image, so that single precision is enough for their squares.
        self._first: Tensor | None = None
        self._minimum: Tensor

    def add(self, images: Tensor, weights: Tensor) -> None:
        """Take in images (n, *image) with weights (n,), which need not sum to 1."""
        if self._first is None:
            self._start(images[0])
        first, bands = self._reference()
        weights = weights.double()
        difference = images - first
        self._sum += torch.tensordot(weights, difference.double(), 1)
        self._squares += weights @ bands.inner(difference, difference)
        self._weights += torch.stack([weights.sum(), weights.square().sum()])
        self._minimum = torch.minimum(self._minimum, images.min())

    def _start(self, image: Tensor) -> None:
        count = frequency_bands(tuple(image.shape), image.device).count
        self._first = image.clone()
        self._sum = torch.zeros_like(image, dtype=torch.float64)
        self._squares = torch.zeros(count, dtype=torch.float64, device=image.device)
        self._weights = self._squares.new_zeros(2)
        self._minimum = image.min()

    def _reference(self) -> tuple[Tensor, Bands]:
        """The first image, and the bands of its frequencies."""
        if self._first is None:
            raise ValueError("no images yet")
        return self._first, frequency_bands(tuple(self._first.shape), self._first.device)

    @property
    def image(self) -> Tensor:
        """Mean image (*image), float64.

        Raises:
            ValueError: There was no image.
        """
        first, _ = self._reference()
        return first.double() + self._sum / self._weights[0]

    @property
    def scatter(self) -> Tensor:
        """(band,) mean squared deviation of images from their mean, summed over coefficients.

        Raises:
            ValueError: There was no image.
        """
        _, bands = self._reference()
        mean = (self._sum / self._weights[0])[None]
        return (self._squares / self._weights[0] - bands.inner(mean, mean)[0]).clamp_min(0)

    def result(self) -> MeanEstimate:
        """The mean, with the variance that it has when the images are independent.

        The variance of a weighted mean is ``scatter * q / (1 - q)`` with
        ``q = sum w^2 / (sum w)^2``; for equal weights that is the scatter over ``n - 1``. It is 0
        for a single image, which gives no estimate of it.
        """
        total, squares = self._weights
        q = squares / total**2
        variance = torch.where(q < 1, self.scatter * q / (1 - q), 0.0)
        return MeanEstimate(self.image, variance, self._minimum)

    @property
    def count(self) -> float:
        """Sum of all weights."""
        return 0.0 if self._first is None else float(self._weights[0])

    @property
    def minimum(self) -> Tensor:
        """Smallest value of any image, a scalar."""
        return self._minimum

    def dump(self) -> dict[str, Tensor]:
        """Tensors that `restore` takes."""
        if self._first is None:
            return {}
        return {
            "first": self._first, "sum": self._sum, "squares": self._squares,
            "weights": self._weights, "minimum": self._minimum,
        }  # fmt: skip

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Continue from what `dump` returned."""
        self._first = tensors.get("first")
        if self._first is not None:
            self._sum, self._squares = tensors["sum"], tensors["squares"]
            self._weights, self._minimum = tensors["weights"], tensors["minimum"]
