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
    """Running weighted mean of images.

    The size of the chunks changes it by rounding: the mean in double precision, the scatter in that
    of the images.
    """

    def __init__(self) -> None:
        self._mean: Tensor | None = None
        self._scatter: Tensor
        self._minimum: Tensor
        self._weights = (0.0, 0.0)  # sum of weights and of their squares

    def add(self, images: Tensor, weights: Tensor) -> None:
        """Take in images (n, *image) with weights (n,) on the host, which need not sum to 1."""
        w = weights.cpu().double().numpy()
        new, squares = float(w.sum()), float((w**2).sum())
        old, old_squares = self._weights
        self._weights = total, _ = old + new, old_squares + squares
        normalised = torch.from_numpy(w / new if new else w).to(images.device)
        mean = torch.tensordot(normalised, images.double(), 1)
        # Single precision is enough for squares of differences from the mean.
        deviation = images - mean.to(images.dtype)
        bands = frequency_bands(tuple(mean.shape), mean.device)
        scatter, minimum = normalised @ bands.inner(deviation, deviation), images.min()
        if self._mean is None:
            self._mean, self._scatter, self._minimum = mean, scatter, minimum
            return
        self._minimum = torch.minimum(self._minimum, minimum)
        if new:
            share, shift = new / total, (mean - self._mean)[None]
            self._mean = self._mean + share * shift[0]
            between = (1 - share) * bands.inner(shift, shift)[0]
            self._scatter = (1 - share) * self._scatter + share * (scatter + between)

    @property
    def image(self) -> Tensor:
        """Mean image (*image), float64.

        Raises:
            ValueError: There was no image.
        """
        if self._mean is None:
            raise ValueError("no images yet")
        return self._mean

    @property
    def scatter(self) -> Tensor:
        """(band,) mean squared deviation of images from their mean, summed over coefficients.

        Raises:
            ValueError: There was no image.
        """
        if self._mean is None:
            raise ValueError("no images yet")
        return self._scatter

    def result(self) -> MeanEstimate:
        """The mean, with the variance that it has when the images are independent.

        The variance of a weighted mean is ``scatter * q / (1 - q)`` with
        ``q = sum w^2 / (sum w)^2``; for equal weights that is the scatter over ``n - 1``. It is 0
        for a single image, which gives no estimate of it.
        """
        total, squares = self._weights
        q = squares / total**2
        variance = self.scatter * (q / (1 - q) if q < 1 else 0.0)
        return MeanEstimate(self.image, variance, self._minimum)

    @property
    def count(self) -> float:
        """Sum of all weights."""
        return self._weights[0]

    @property
    def minimum(self) -> Tensor:
        """Smallest value of any image, a scalar."""
        return self._minimum

    def dump(self) -> dict[str, Tensor]:
        """Tensors that `restore` takes."""
        if self._mean is None:
            return {}
        weights = torch.tensor(self._weights, dtype=torch.float64)
        return {
            "mean": self._mean, "scatter": self._scatter, "weights": weights,
            "minimum": self._minimum,
        }  # fmt: skip

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Continue from what `dump` returned."""
        self._mean = tensors.get("mean")
        if self._mean is not None:
            self._scatter, self._minimum = tensors["scatter"], tensors["minimum"]
            total, squares = tensors["weights"].tolist()
            self._weights = total, squares
