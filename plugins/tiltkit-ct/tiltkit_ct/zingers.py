"""Zingers: single values far too bright, from gamma rays that hit the detector."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import maximum_filter1d, median_filter

from tiltkit_ct import frame_statistics

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MAD_TO_SD", "find_zingers", "without_spikes"]

_ANGLES = 5  # of the median filter: a zinger is in one of them
_OUTLIER = 8.0  # robust standard deviations of a spike above the same pixel in other frames
MAD_TO_SD = 1.4826  # standard deviation over median absolute deviation, of normal numbers
_FACTOR = 3.0  # least excess of a zinger over that of any neighbour one projection on


def find_zingers(
    counts: NDArray[np.float32],
    variance: NDArray[np.float32],
    threshold: float,
    step: float = 0.0,
) -> NDArray[np.bool_]:
    """Values far above those of the neighbouring projections in the same pixel.

    A bright edge that turns with the sample exceeds them as well. The projections before and after
    have it too, no further away than the sample turns between two of them.

    Args:
        counts: (angle, row, column), NaN where unusable.
        variance: Variance of the counts, same shape.
        threshold: Least excess in standard deviations of the counts; 0 finds nothing.
        step: Angle between projections in radians.

    Returns:
        True at zingers, same shape.
    """
    if len(counts) < _ANGLES or threshold <= 0:
        return np.zeros(counts.shape, np.bool_)
    filled = np.nan_to_num(counts)
    smooth = median_filter(filled, size=(_ANGLES, 1, 1), mode="mirror")
    scale = np.sqrt(np.nan_to_num(variance, nan=1.0))
    # The beam may have changed between them: neighbours in angle need not be so in time.
    before, now = smooth.sum(axis=(1, 2)), filled.sum(axis=(1, 2))
    brighter = np.divide(now, before, out=np.ones_like(now), where=before > 0)
    excess = filled - smooth * brighter[:, None, None]
    # The first and the last projection have one neighbour: there a trend would exceed it.
    excess[0] = np.minimum(excess[0], filled[0] - 2 * filled[1] + filled[2])
    excess[-1] = np.minimum(excess[-1], filled[-1] - 2 * filled[-2] + filled[-3])
    excess /= scale
    n_columns = counts.shape[2]
    reach = min(math.ceil(abs(step) * n_columns / 2) + 1, n_columns)
    near = maximum_filter1d(excess, 2 * reach + 1, axis=2)
    around = np.pad(near, [(1, 1), (0, 0), (0, 0)], mode="reflect")
    elsewhere = np.maximum(around[:-2], around[2:])
    least = np.maximum(
        threshold, np.maximum(_FACTOR * elsewhere, _curvature(smooth, reach) / scale)
    )
    found: NDArray[np.bool_] = (excess > least) & np.isfinite(counts)
    return found


def without_spikes(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """Frames of the same view (n, row, column), NaN where a value is far above the others.

    The others of two frames are the darker one. A single frame stays as it is.
    """
    if len(frames) < 2:
        return frames
    usual = np.fmin(*frames) if len(frames) == 2 else frame_statistics.median(frames)
    deviation = (frames - usual) / np.sqrt(np.maximum(usual, 1.0))
    different = deviation[deviation > 0] if len(frames) == 2 else deviation
    if not np.isfinite(different).any():
        return frames
    spread = MAD_TO_SD * float(np.nanmedian(np.abs(different)))
    found = deviation > _OUTLIER * max(spread, 1e-6)
    return np.where(found, np.float32(np.nan), frames)


def _curvature(smooth: NDArray[np.float32], reach: int) -> NDArray[np.float32]:
    """Curvature in angle of nearby counts without zingers: a peak that is no zinger."""
    padded = np.pad(smooth, [(1, 1), (0, 0), (0, 0)], mode="reflect")
    curved = np.abs(padded[:-2] - 2 * smooth + padded[2:])
    near: NDArray[np.float32] = maximum_filter1d(
        maximum_filter1d(curved, _ANGLES, axis=0), 2 * reach + 1, axis=2
    )
    return near
