"""Priors with exact scores at every noise level: Gaussians and Gaussian mixtures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

if TYPE_CHECKING:
    from tiltkit.hookspecs import PriorEntry

__all__ = ["GaussianOptions", "Mixture", "SmoothGaussian", "gaussian_prior"]


@dataclass(frozen=True, slots=True)
class Mixture:
    """Isotropic Gaussians of one variance: ``sum_k weight_k N(mean_k, variance I)``.

    With real images as means and a small variance it is an image prior with known answers; with
    one mean it is a Gaussian.

    Attributes:
        means: (component, channel, *space).
        variance: Variance of every component, nonnegative; 0 puts all mass on the means.
        weights: (component,), positive; need not be normalised.
        sigma_range: Noise levels to be used; any positive level is exact.
        value_range: Range of image values, as text for people.
    """

    means: Tensor
    variance: float
    weights: Tensor
    sigma_range: tuple[float, float]
    value_range: str = "that of the component means"

    @property
    def channels(self) -> int:
        """Channels of the images."""
        return int(self.means.shape[1])

    def score(self, x: Tensor, sigma: float) -> Tensor:
        """Exact score of the mixture noised by ``sigma``."""
        # Relative to the mean of all means: beside a large common offset, single precision would
        # lose the differences between images.
        middle = self.means.mean(0)
        means = (self.means - middle).flatten(1)
        flat = (x - middle).flatten(1)
        variance = self.variance + sigma**2
        # |x|^2 is shared by all components and drops out of the softmax.
        logits = (flat @ means.T - 0.5 * means.square().sum(1)) / variance + self.weights.log()
        nearest = torch.softmax(logits, dim=1) @ means
        return ((nearest - flat) / variance).view_as(x)

    def to(self, device: torch.device) -> Mixture:
        """The same prior on another device."""
        return replace(self, means=self.means.to(device), weights=self.weights.to(device))


@dataclass(frozen=True, slots=True)
class SmoothGaussian:
    """A stationary Gaussian with the power spectrum of natural images, for images of any size.

    Per channel, variance ``amplitude^2`` per pixel, spread over frequencies as
    ``1 / (1 + (f / corner)^exponent)``; ``f`` in cycles per image.

    Attributes:
        amplitude: Standard deviation of a pixel.
        corner: Frequency where the spectrum starts to fall, cycles per image.
        exponent: Exponent of its fall; 2 to 3 for natural images (Field 1987).
        channels: Channels of the images; 0 for any number.
        sigma_range: Noise levels to be used.
        value_range: Range of image values, as text for people.
    """

    amplitude: float
    corner: float
    exponent: float
    channels: int = 0
    sigma_range: tuple[float, float] = (0.01, 5.0)
    value_range: str = "magnitude 0 to about 1"

    def score(self, x: Tensor, sigma: float) -> Tensor:
        """Exact score ``-(C + sigma^2 I)^-1 x`` with the circulant covariance ``C``."""
        dims = tuple(range(2, x.ndim))
        spectrum = self.spectrum(tuple(x.shape[2:]), x.device).to(x.dtype)
        k = torch.fft.fftn(x, dim=dims) / (spectrum + sigma**2)
        score: Tensor = -torch.fft.ifftn(k, dim=dims).real
        return score

    def spectrum(self, space: tuple[int, ...], device: torch.device) -> Tensor:
        """Eigenvalues of the covariance on the FFT grid, float64; their mean is the variance."""
        return _spectrum(space, self.amplitude, self.corner, self.exponent).to(device)

    def to(self, device: torch.device) -> SmoothGaussian:
        """The same prior: it follows the device of its images."""
        return self


@lru_cache(maxsize=8)
def _spectrum(space: tuple[int, ...], amplitude: float, corner: float, exponent: float) -> Tensor:
    axes = [torch.fft.fftfreq(n, d=1 / n, dtype=torch.float64) for n in space]
    radius = torch.stack(torch.meshgrid(*axes, indexing="ij")).square().sum(0).sqrt()
    shape = 1 / (1 + (radius / corner) ** exponent)
    return amplitude**2 * shape / shape.mean()


class GaussianOptions(BaseModel):
    """Settings of the smooth Gaussian prior."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    amplitude: float = Field(0.3, gt=0, description="standard deviation of a pixel")
    corner: float = Field(2.0, gt=0, description="frequency where the spectrum falls, cycles per "
                          "image")  # fmt: skip
    exponent: float = Field(
        3.0, gt=0, le=8, description="exponent of its fall; natural images have 2 to 3"
    )


def gaussian_prior(options: GaussianOptions, entry: PriorEntry) -> SmoothGaussian:
    """The smooth Gaussian as a prior of the command line."""
    return SmoothGaussian(
        options.amplitude, options.corner, options.exponent, channels=entry.channels
    )


gaussian_prior.Options = GaussianOptions  # type: ignore[attr-defined]
