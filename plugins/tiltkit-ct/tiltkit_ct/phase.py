"""Phase retrieval from one distance, for samples of a single material.

Paganin, Mayo, Gureyev, Miller, Wilkins, Simultaneous phase and amplitude extraction from a single
defocused image of a homogeneous object, J. Microsc. 206 (2002) 33-40.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy import fft

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["filter_length", "paganin"]

_WAVELENGTH = 1.2398419843320026e-6  # mm keV: Planck's constant times the speed of light


def filter_length(
    energy_kev: float, distance_mm: float, delta_beta: float, pixel_mm: float
) -> float:
    """Over how many pixels the filter smooths: its response falls by e in this distance."""
    wavelength = _WAVELENGTH / energy_kev
    return math.sqrt(wavelength * distance_mm * delta_beta / (4 * math.pi)) / pixel_mm


def paganin(
    transmission: NDArray[np.float32], variance: NDArray[np.float32], length: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Transmission as it would be without propagation: low-pass filtered by 1 / (1 + (k l)^2).

    Args:
        transmission: (angle, row, column), finite.
        variance: Variance of the transmission, independent noise, same shape.
        length: Length from `filter_length`, in pixels.

    Returns:
        Filtered transmission and the variance of its values, whose noise is no longer
        independent.
    """
    ny, nx = transmission.shape[1:]
    # The cosine transform mirrors images at their sides: its frequencies are those of twice the
    # size, and nothing wraps around.
    ky = 2 * np.pi * np.fft.fftfreq(2 * ny)[:, None]
    kx = 2 * np.pi * np.fft.rfftfreq(2 * nx)
    response = 1 / (1 + length**2 * (ky**2 + kx**2))
    kernel = np.fft.irfft2(response, (2 * ny, 2 * nx))
    spread = np.fft.rfft2(kernel**2).real

    def filtered(images: NDArray[np.float32], by: NDArray[np.float64]) -> NDArray[np.float32]:
        spectrum = fft.dctn(images, axes=(1, 2)) * by[:ny, :nx]
        return np.asarray(fft.idctn(spectrum, axes=(1, 2)), np.float32)

    return filtered(transmission, response), np.maximum(filtered(variance, spread), 0)
