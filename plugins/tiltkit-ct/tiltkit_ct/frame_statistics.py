"""Statistics over frames without NaN; silently NaN where there is nothing else."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Frames = NDArray[np.float32]

__all__ = ["mean", "median", "variance"]


def mean(frames: Frames) -> Frames:
    """Mean over the first axis."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.asarray(np.nanmean(frames, axis=0, dtype=np.float64), np.float32)


def median(frames: Frames) -> Frames:
    """Median over the first axis."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.asarray(np.nanmedian(frames, axis=0), np.float32)


def variance(frames: Frames) -> Frames:
    """Unbiased variance over the first axis."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.asarray(np.nanvar(frames, axis=0, ddof=1, dtype=np.float64), np.float32)
