"""Hot pixels and cosmic rays: bright pixels without the light around them that the PSF gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import convolve, median_filter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tiltkit_deblur.noise import Camera

__all__ = ["find_hot"]

# The eight neighbours of a pixel, and the surroundings whose median is the background.
_NEIGHBOURS = np.array([[1.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 1.0]]) / 8
_AROUND = 5
# Of the share of a point's brightness that its neighbours have on average: the part below which a
# pixel is hot, the largest such share, below that of any sharp image, and the smallest one of a
# PSF.
_PART, _MOST, _LEAST = 1 / 8, 0.05, 0.1
# Standard errors by which a pixel exceeds the background, and of the mean of its neighbours.
_BRIGHT, _CERTAIN = 8.0, 2.0


def find_hot(
    readings: NDArray[np.float32], kernel: NDArray[np.float64], camera: Camera
) -> NDArray[np.bool_]:
    """True for hot pixels; nowhere if the PSF is so narrow that a point may look like one.

    Args:
        readings: Planes (z, y, x); NaN where there is no reading.
        kernel: Point spread function (z, y, x) or (y, x).
        camera: Gain, offset and read noise.
    """
    hot = np.zeros(readings.shape, dtype=np.bool_)
    plane = kernel if kernel.ndim == 2 else kernel[len(kernel) // 2]
    share = convolve(plane, _NEIGHBOURS, mode="constant")[plane.shape[0] // 2, plane.shape[1] // 2]
    share /= max(float(plane[plane.shape[0] // 2, plane.shape[1] // 2]), 1e-30)
    if share < _LEAST or min(readings.shape[1:]) < _AROUND:
        return hot
    for number, image in enumerate(readings):
        known = np.isfinite(image)
        if not known.any():
            continue
        whole = np.where(known, image, np.median(image[known])).astype(np.float64)
        background = median_filter(whole, _AROUND)
        light = np.maximum(background - camera.offset, 0)
        noise = np.sqrt(camera.gain * light + camera.read_noise**2)
        excess = whole - background
        beside = convolve(excess, _NEIGHBOURS, mode="mirror") + _CERTAIN * noise / 8**0.5
        dark = beside < min(_PART * share, _MOST) * excess
        hot[number] = known & (excess > _BRIGHT * noise) & dark
    return hot
