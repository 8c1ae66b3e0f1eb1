"""Wavelet thresholding as a prior, by PyWavelets: the classic that every denoiser should beat."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import Tensor

from tiltkit.priors.denoiser import DenoiserPrior

if TYPE_CHECKING:
    from tiltkit.hookspecs import PriorEntry

__all__ = ["WaveletOptions", "wavelet_prior"]


class WaveletOptions(BaseModel):
    """Settings of the wavelet prior."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    wavelet: str = Field("sym4", description="orthogonal wavelet, as PyWavelets calls it")
    levels: int = Field(4, ge=1, le=8, description="scales that are thresholded")
    strength: float = Field(2.0, gt=0, description="threshold, in units of the noise level")

    @field_validator("wavelet")
    @classmethod
    def _known(cls, name: str) -> str:
        import pywt

        if name not in pywt.wavelist(kind="discrete") or not pywt.Wavelet(name).orthogonal:
            raise ValueError("must be an orthogonal wavelet of PyWavelets, such as haar or sym4")
        return name


def wavelet_prior(options: WaveletOptions, entry: PriorEntry) -> DenoiserPrior:
    """Soft thresholds of all shifts of the wavelet transform (cycle spinning), on the CPU.

    A pixel's channels shrink together, so the phase of complex images stays. Thresholding is no
    posterior mean: what this prior gives as spread is a rough guess, as with ``tv``.
    """

    def denoise(x: Tensor, sigma: float) -> Tensor:
        images = x.detach().cpu().double().numpy()
        threshold = options.strength * sigma
        clean = [
            shrink_details(image, threshold, options.wavelet, options.levels) for image in images
        ]
        return torch.as_tensor(np.stack(clean), dtype=x.dtype, device=x.device)

    return DenoiserPrior(denoise, entry.channels, (0.01, 5.0), "magnitude 0 to about 1")


wavelet_prior.Options = WaveletOptions  # type: ignore[attr-defined]


def shrink_details(
    image: NDArray[np.float64], threshold: float, wavelet: str, levels: int
) -> NDArray[np.float64]:
    """One image (channel, h, w) with its stationary wavelet details shrunk by a threshold."""
    import pywt

    height, width = image.shape[-2:]
    multiple = 2**levels
    border = multiple  # the transform is periodic: the padding is cut off again
    sides = [(border, border + -(n + 2 * border) % multiple) for n in (height, width)]
    padded = np.pad(image, [(0, 0), *sides], mode="symmetric")
    coefficients = pywt.swt2(padded, wavelet, level=levels, axes=(-2, -1), trim_approx=True)
    kept = [coefficients[0]]
    for details in coefficients[1:]:
        kept.append(tuple(_shrink(band, threshold) for band in details))
    clean: NDArray[np.float64] = pywt.iswt2(kept, wavelet, axes=(-2, -1))
    return clean[..., border : border + height, border : border + width]


def _shrink(band: NDArray[np.float64], threshold: float) -> NDArray[np.float64]:
    """Soft threshold of the length of a pixel's coefficients over channels (channel, h, w)."""
    length: NDArray[np.float64] = np.sqrt(np.square(band).sum(0, keepdims=True))
    kept: NDArray[np.float64] = np.maximum(1 - threshold / np.maximum(length, 1e-30), 0)
    return band * kept
