"""Baselines of a prior check: total variation and wavelets, weights chosen with the truth."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from scipy.optimize import minimize_scalar
from torch import Tensor

from tiltkit.hookspecs import PriorEntry
from tiltkit.priors.total_variation import total_variation
from tiltkit.priors.wavelet import WaveletOptions, wavelet_prior

__all__ = ["BASELINES", "best_weight", "wavelets"]

# Denoised images from noisy ones (batch, channel, h, w), the noise level and a weight in its units.
Baseline = Callable[[Tensor, float, float], Tensor]

_ENTRY = PriorEntry(name="wavelet", target="", summary="")


def wavelets(x: Tensor, sigma: float, weight: float) -> Tensor:
    """The prior ``wavelet`` with a threshold of ``weight sigma``."""
    return wavelet_prior(WaveletOptions(strength=weight), _ENTRY).denoise(x, sigma)


# Each baseline with the smallest and largest weight that is tried.
BASELINES: dict[str, tuple[Baseline, tuple[float, float]]] = {
    "TV": (lambda x, sigma, weight: total_variation(x, weight * sigma), (0.2, 6.0)),
    "wavelet": (wavelets, (0.5, 8.0)),
}


def best_weight(
    name: str, noisy: Sequence[Tensor], clean: Sequence[Tensor], sigma: float
) -> tuple[float, list[Tensor]]:
    """The weight with the smallest error on these images, and the images denoised with it."""
    denoise, (low, high) = BASELINES[name]

    def error(log_weight: float) -> float:
        weight = math.exp(log_weight)
        pairs = zip(noisy, clean, strict=True)
        return sum(float((denoise(x, sigma, weight) - c).square().mean().log()) for x, c in pairs)

    # The error falls and rises once: a few golden sections are within a hundredth of a dB.
    bounds = (math.log(low), math.log(high))
    found = minimize_scalar(error, bounds=bounds, method="bounded", options={"maxiter": 8})
    weight = math.exp(found.x)
    return weight, [denoise(x, sigma, weight) for x in noisy]
