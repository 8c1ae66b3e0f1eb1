"""The validation set: PSNR of a denoiser on held-out images per noise level, and that of TV."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tiltkit.priors.total_variation import chambolle
from tiltkit.training.augment import rephased
from tiltkit.training.batches import pair
from tiltkit.training.images import Image

__all__ = ["ValidationSet", "best_tv"]

Denoise = Callable[[Tensor, float], Tensor]

LEVELS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
# Larger images are measured in their middle; more images are left out evenly.
_LARGEST, _MOST = 256, 8
# Factors on the strength of total variation, in steps of sqrt(2): the best one counts.
_TV_STRENGTHS = (0.5, 0.7, 1.0, 1.4, 2.0)


@dataclass(frozen=True)
class ValidationSet:
    """Held-out images and the noise added to them, the same at every check.

    Attributes:
        images: At most eight, each (channel, row, column).
        noises: Standard deviation of the noise in each image.
        levels: Noise levels to measure at.
        complex: True where the channels are (re, im), whose squared errors add up.
        seed: Seed of the added noise.
    """

    images: Sequence[Tensor]
    noises: Sequence[float]
    levels: tuple[float, ...]
    complex: bool
    seed: int

    @classmethod
    def of(
        cls,
        images: Sequence[Image],
        sigma_range: tuple[float, float],
        *,
        is_complex: bool,
        seed: int,
    ) -> ValidationSet:
        """The validation set of some of the images, evenly chosen, none twice."""
        rng = np.random.default_rng((seed, 1))
        count = min(_MOST, len(images))
        # not the ends where possible: the first and last slices of a volume are nearly empty
        places = np.linspace(-1, len(images), count + 2)[1:-1].round().astype(int)
        chosen = [images[i] for i in places]
        values = [_middle(image.values) for image in chosen]
        if is_complex:
            # magnitudes get a phase, as scans have one
            values = [x if x[1].any() else rephased(x, rng) for x in values]
        inside = tuple(s for s in LEVELS if sigma_range[0] <= s <= sigma_range[1])
        return cls(
            images=[torch.from_numpy(np.ascontiguousarray(x)) for x in values],
            noises=[image.noise for image in chosen],
            levels=inside or (math.sqrt(sigma_range[0] * sigma_range[1]),),
            complex=is_complex,
            seed=seed,
        )

    def psnr(self, denoise: Denoise, device: torch.device) -> tuple[float, ...]:
        """PSNR in dB for peak 1, the mean over the images, one per noise level."""
        return tuple(self._psnr_at(level, denoise, device) for level in self.levels)

    def _psnr_at(self, level: float, denoise: Denoise, device: torch.device) -> float:
        rng = np.random.default_rng((self.seed, 2))
        found = []
        for image, noise in zip(self.images, self.noises, strict=True):
            given = image.numpy()
            xi = rng.standard_normal(given.shape, dtype=np.float32)
            noisy, target = pair(given, noise, level, xi)
            clean = denoise(torch.from_numpy(noisy)[None].to(device), level)[0].cpu().numpy()
            error = float(np.square(clean - target, dtype=np.float64).mean())
            # The target of a noisy image has noise of its own, independent of the input's.
            found.append(error - noise**2 / (1 - (noise / level) ** 2))
        if any(self.noises):
            found = [float(np.mean(found))]  # one image alone may come out below zero
        both = 2 if self.complex else 1
        return float(np.mean([-10 * math.log10(max(both * error, 1e-12)) for error in found]))


def best_tv(validation: ValidationSet) -> tuple[float, ...]:
    """PSNR of total variation, its strength chosen in hindsight for each noise level."""
    found = []
    for strength in _TV_STRENGTHS:

        def denoise(x: Tensor, sigma: float, strength: float = strength) -> Tensor:
            # skimage's default tolerance stops too early at high noise levels
            return chambolle(x, strength * sigma, iterations=50, tolerance=1e-6)

        found.append(validation.psnr(denoise, torch.device("cpu")))
    return tuple(max(column) for column in zip(*found, strict=True))


def _middle(values: NDArray[np.float32]) -> NDArray[np.float32]:
    for axis in (-2, -1):
        size = values.shape[axis]
        start = max(0, (size - _LARGEST) // 2)
        values = np.take(values, range(start, min(size, start + _LARGEST)), axis)
    return values
