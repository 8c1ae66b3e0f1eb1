"""Mean, median and variance over frames without NaN; NaN where too few values are left."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Frames = NDArray[np.float32]

__all__ = ["mean", "median", "variance"]


def mean(frames: Frames) -> Frames:
    """Mean (*frame) over the first axis of frames (n, *frame), summed in float64."""
    return _statistic(partial(np.nanmean, axis=0, dtype=np.float64), frames, 1)


def median(frames: Frames) -> Frames:
    """Median (*frame) over the first axis of frames (n, *frame)."""
    return _statistic(partial(np.nanmedian, axis=0), frames, 1)


def variance(frames: Frames) -> Frames:
    """Unbiased variance (*frame) over the first axis of frames (n, *frame), summed in float64."""
    return _statistic(partial(np.nanvar, axis=0, ddof=1, dtype=np.float64), frames, 2)


def _statistic(function: Callable[[Frames], Any], frames: Frames, fewest: int) -> Frames:
    """A statistic of numpy in float32; NaN in pixels with fewer than ``fewest`` values.

    Numpy would warn about such pixels, and warnings cannot be silenced in one thread alone. They
    are therefore kept from it.
    """
    too_few = np.sum(~np.isnan(frames), axis=0) < fewest
    if np.all(too_few):
        return np.full(frames.shape[1:], np.nan, np.float32)
    if np.any(too_few):
        frames = np.where(too_few, np.float32(0), frames)
    with np.errstate(invalid="ignore", over="ignore"):  # infinite values give NaN
        result = np.asarray(function(frames), np.float32)
    return np.where(too_few, np.float32(np.nan), result)
