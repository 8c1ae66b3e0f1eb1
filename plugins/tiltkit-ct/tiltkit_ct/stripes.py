"""Stripes in sinograms, which become rings: filters against them, from the published recipes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.ndimage import median_filter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[np.float32]

__all__ = ["Filter", "remove_stripes"]

Filter = Literal["none", "sort", "wavelet"]

_WAVELET = "db5"
_DAMPING = 1.0  # frequencies along the angles, in periods per sinogram


def remove_stripes(sinogram: Image, kind: Filter, width: int = 5) -> Image:
    """A sinogram without stripes.

    Args:
        sinogram: (angle, column).
        kind: ``sort`` preserves the object best, ``wavelet`` removes more of dense stripes.
        width: Approximate width of the widest stripes in columns; larger widths remove more fine
            detail of the object.
    """
    if kind == "sort":
        return _sort(sinogram, min(2 * width - 1, sinogram.shape[1] // 4 * 2 + 1))
    if kind == "wavelet":
        return _wavelet(sinogram, max(round(math.log2(width)), 1))
    return sinogram


def _sort(sinogram: Image, size: int) -> Image:
    """Sort each column by value, take the median across columns, sort back.

    Neighbouring columns measure nearly the same object, so their sorted values are nearly equal
    unless the detector responds differently. Vo, Atwood, Drakopoulos, Superior techniques for
    eliminating ring artifacts in X-ray micro-tomography, Opt. Express 26 (2018) 28396-28412,
    algorithm 3.
    """
    order = np.argsort(sinogram, axis=0)
    ranked = np.take_along_axis(sinogram, order, axis=0)
    smooth = median_filter(ranked, size=(1, size), mode="nearest")
    result = np.empty_like(sinogram)
    np.put_along_axis(result, order, smooth, axis=0)
    return result


def _wavelet(sinogram: Image, levels: int) -> Image:
    """Damp detail across columns that is constant along the angles, at every scale.

    Münch, Trtik, Marone, Stampanoni, Stripe and ring artifact removal with combined
    wavelet-Fourier filtering, Opt. Express 17 (2009) 8567-8591.
    """
    import pywt

    levels = min(pywt.dwt_max_level(min(sinogram.shape), _WAVELET), levels)
    approximation, *details = pywt.wavedec2(sinogram, _WAVELET, mode="symmetric", level=levels)
    damped = []
    for horizontal, vertical, diagonal in details:
        spectrum = np.fft.rfft(vertical, axis=0)
        frequency = np.arange(len(spectrum))[:, None]
        spectrum *= 1 - np.exp(-(frequency**2) / (2 * _DAMPING**2))
        damped.append((horizontal, np.fft.irfft(spectrum, len(vertical), axis=0), diagonal))
    result: Image = pywt.waverec2([approximation, *damped], _WAVELET, mode="symmetric")
    return result[: sinogram.shape[0], : sinogram.shape[1]].astype(np.float32)
