"""Frames that cannot be used: darks and flats unlike the others, projections without light."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tiltkit_ct import frame_statistics
from tiltkit_ct.zingers import MAD_TO_SD

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    Frames = NDArray[np.float32]
    Chosen = NDArray[np.bool_]

__all__ = [
    "frames_unlike_others",
    "level_of",
    "levels_unlike_others",
    "listed",
    "views_without_light",
]

# A frame is unlike the others where more than this share of its pixels differ from the median of
# the frames by so many robust standard deviations.
_SHARE, _SURE = 0.05, 8.0
_MOST_RUNS = 40  # of frames that a text lists
_FLICKER = 0.05  # changes of the beam that are no fault
_FEWEST = 3  # frames of which the median is one that was taken
# Share of the brightest values of a view that may be zingers.
_ZINGERS = 0.02
# A view has no light where it is darker than this share of the flats, of the brightest view, and
# than so many standard errors of reading.
_OF_FLATS, _OF_VIEWS, _ERRORS = 0.01, 0.05, 5.0


def frames_unlike_others(frames: Frames, least: float) -> Chosen:
    """Frames that differ from the median of all frames in many pixels.

    The unit is the robust standard deviation of values around the median of their pixel, relative
    to the root of that median. It contains noise and usual changes of the beam.

    Args:
        frames: Darks, or flats, (n, row, column), NaN where unusable.
        least: Smallest difference that matters, in counts.

    Returns:
        (n,); all False for fewer than three frames.
    """
    n = len(frames)
    if n < _FEWEST or not np.isfinite(frames).any():
        return np.zeros(n, np.bool_)
    usual = frame_statistics.median(frames)
    deviation = np.abs(frames - usual).reshape(n, -1)
    # Counts vary as their square root: pixels beside the beam would make the unit too small.
    relative = deviation / np.sqrt(np.maximum(usual, 1.0)).ravel()
    unit = MAD_TO_SD * float(np.nanmedian(relative))
    different = deviation[deviation > 0]
    # Darks of small noise are mostly equal: then a step of the detector counts as noise.
    step = float(different.min()) / 2 if different.size else 0.0
    far = (relative > _SURE * unit) & (deviation > max(least, _SURE * step))
    usable = np.maximum(np.isfinite(deviation).sum(axis=1), 1)
    return np.asarray(far.sum(axis=1) > _SHARE * usable, np.bool_)


def levels_unlike_others(levels: NDArray[np.float64]) -> Chosen:
    """Flats whose brightness (n,) differs from the median by far more than is usual."""
    if len(levels) <= _FEWEST:
        return np.zeros(len(levels), np.bool_)
    change = np.abs(levels / np.nanmedian(levels) - 1)
    limit = max(_SURE * MAD_TO_SD * float(np.nanmedian(change)), _FLICKER)
    return np.asarray(change > limit, np.bool_)


def level_of(frames: Frames) -> NDArray[np.float64]:
    """Brightness of frames (n, row, column): their mean without the brightest values, (n,)."""
    values = np.sort(frames.reshape(len(frames), -1), axis=1)  # NaN at the end
    finite = np.isfinite(values).sum(axis=1)
    kept = np.arange(values.shape[1]) < np.maximum(finite * (1 - _ZINGERS), 1)[:, None]
    total = np.where(kept, np.nan_to_num(values), 0).sum(axis=1, dtype=np.float64)
    level: NDArray[np.float64] = np.where(finite > 0, total / kept.sum(axis=1), np.nan)
    return level


def listed(frames: Iterable[int]) -> str:
    """Numbers of frames as ranges, first and last included: ``20-28, 50``."""
    runs: list[list[int]] = []
    for frame in sorted(frames):
        if runs and frame == runs[-1][-1] + 1:
            runs[-1] = [runs[-1][0], frame]
        else:
            runs.append([frame])
    texts = ["-".join(map(str, run)) for run in runs[:_MOST_RUNS]]
    return ", ".join(texts) + (", ..." if len(runs) > _MOST_RUNS else "")


def views_without_light(light: NDArray[np.float64], flat: float, error: float) -> Chosen:
    """Projections that are as dark as darks, while others are not.

    Args:
        light: Brightness of each view above that of the darks, (n,), NaN where unusable.
        flat: Brightness of the flats above that of the darks; 0 where there are none.
        error: Standard error of ``light`` by noise of reading.
    """
    if not np.isfinite(light).any():
        return np.zeros(len(light), np.bool_)
    top = float(np.nanmax(light))
    limit = min(max(_ERRORS * error, _OF_FLATS * flat), _OF_VIEWS * top)
    with np.errstate(invalid="ignore"):
        return np.asarray((light < limit) & (top - light > _ERRORS * error), np.bool_)
