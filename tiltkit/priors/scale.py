"""The image scale: the value of an image that becomes 1 in the units of a prior."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["image_scale"]

# The top of an image is this quantile: single hot pixels lie above it.
_TOP = 0.999
# Pixels above this share of the top are bright: the object rather than its background.
_BRIGHT = 0.1


def image_scale(magnitude: ArrayLike, percentile: float = 99.0) -> float:
    """Percentile of the bright pixels, those above a tenth of the 99.9th percentile of all.

    Tasks divide measured data by it, and training and ``prior check`` clean images, so that a
    prior is used on the scale of its training. Background does not lower it, and
    fewer hot pixels than one in a thousand do not raise it.

    Args:
        magnitude: Pixels of one image or of several, any shape, real; magnitudes of complex ones.
        percentile: Percentile of the bright pixels, 0 to 100.

    Returns:
        The scale in the units of the pixels; 0 where no pixel is bright.
    """
    values = np.asarray(magnitude, np.float64).ravel()
    bright = values[values > _BRIGHT * np.quantile(values, _TOP)] if values.size else values
    return float(np.percentile(bright, percentile)) if bright.size else 0.0
