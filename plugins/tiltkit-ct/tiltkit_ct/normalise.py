"""Dark and flat correction: counts without sample at the times of the projections."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tiltkit.errors import InputError
from tiltkit_ct import frame_statistics
from tiltkit_ct.noise import dark_variance
from tiltkit_ct.zingers import without_spikes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tiltkit_ct.projections import Band

    Frames = NDArray[np.float32]

__all__ = ["Corrected", "correct", "drift", "mean_over_time"]

# A pixel with less than this share of the typical beam is dead or behind a blocker.
_BLOCKED_SHARE = 0.02
_HALF = 0.5  # of the views
_SURE = 5.0  # standard errors by which light must exceed darks


@dataclass(frozen=True, slots=True)
class Corrected:
    """Counts of a band of rows without dark counts; NaN where they cannot be used.

    Attributes:
        counts: With sample, (angle, row, column).
        blank: Without sample, at the same times, (angle, row, column).
        used_flats: Effective number of flats averaged for a blank, (angle,).
        dark_variance: Variance of the readout of a single value, in counts^2; 0 where unknown.
        usable: Pixels that work, (row, column).
    """

    counts: Frames
    blank: Frames
    used_flats: NDArray[np.float64]
    dark_variance: float
    usable: NDArray[np.bool_]


def correct(band: Band, where: str) -> Corrected:
    """Subtract darks, and interpolate flats to the times of the projections.

    Args:
        band: Counts with flats; darks of zero are assumed where there are none.
        where: The scan and its rows, for messages.

    Raises:
        InputError: No flats, saturated flats, no beam, or no counts.
    """
    if band.flats is None:
        raise InputError(
            f"{where} has no flats (projections without sample).",
            "give flats with --flats FILE, or their counts with --flat-value, or add --kind"
            " line_integrals if the values are line integrals already.",
        )
    _check_flats(band.flats, where)
    dark = np.zeros((1, 1, 1), np.float32)
    if band.darks is not None:
        dark, _ = mean_over_time(band.darks, band.dark_times, band.times)
    flat, used = mean_over_time(band.flats, band.flat_times, band.times)
    blank = flat - dark
    counts = np.where(_unwritten(band.counts), np.float32(np.nan), band.counts - dark)
    # Relative to the brightest row: the beam may miss all the others.
    rows = frame_statistics.median(np.moveaxis(blank, 1, 2).reshape(-1, blank.shape[1]))
    typical = float(np.fmax.reduce(rows))
    if not typical > _by_chance(band, float(used.min()), blank[0].size):
        raise InputError(
            f"The flats of {where} are no brighter than its darks (median difference"
            f" {typical:.3g}).",
            "check that flats and darks are not swapped, and that the beam was on.",
        )
    usable = _usable(band.counts, blank, typical)
    if band.brightness is not None:
        left, right = band.brightness.astype(np.float32).T[..., None, None]
        blank = blank * (
            left + (right - left) * np.linspace(0, 1, blank.shape[2], dtype=np.float32)
        )
    light = float(frame_statistics.mean(counts[:, usable].ravel()))
    if not light > _by_chance(band, len(counts), int(usable.sum())):
        raise InputError(
            f"{where} has no counts: its projections are no brighter than darks.",
            "leave these rows out with --rows, or check that the beam was on.",
        )
    return Corrected(counts, blank, used, dark_variance(band.darks), usable)


def mean_over_time(
    frames: Frames, times: NDArray[np.float64], at: NDArray[np.float64]
) -> tuple[Frames, NDArray[np.float64]]:
    """Flats or darks at the times of the projections.

    Frames taken at the same place in the scan are averaged, without zingers. Between such groups
    the average is interpolated linearly in time; before the first and after the last it is kept.

    Args:
        frames: (frame, row, column).
        times: Time of each frame, as fractional projection number, (frame,).
        at: Times of the projections, (n,).

    Returns:
        Means (n, row, column), or (1, row, column) where there is one group; and the effective
        number of frames in each, (n,).
    """
    groups = np.unique(times)
    means = np.stack([_robust_mean(frames[times == time]) for time in groups])
    sizes = np.array([(times == time).sum() for time in groups], np.float64)
    if len(groups) == 1:
        return means, np.full(len(at), sizes[0])
    weights = np.stack([np.interp(at, groups, unit) for unit in np.eye(len(groups))], axis=1)
    mean = np.tensordot(weights.astype(np.float32), means, axes=1)
    return mean, 1 / (weights**2 / sizes).sum(axis=1)


def drift(transmission: Frames, air: int) -> Frames:
    """Brightness of the beam relative to the flats, from columns beside the sample.

    Args:
        transmission: (angle, row, column).
        air: Number of columns without sample at either side.

    Returns:
        Divisor of the transmission: linear from the left to the right side, (angle, row, column).
    """
    columns = transmission.shape[2]
    left, right = (
        frame_statistics.median(np.moveaxis(side, 2, 0))[..., None]
        for side in (transmission[..., :air], transmission[..., -air:])
    )
    # A side that cannot be used gets the values of the other one.
    left, right = np.where(np.isnan(left), right, left), np.where(np.isnan(right), left, right)
    place = (np.arange(columns, dtype=np.float32) - (air - 1) / 2) / max(columns - air, 1)
    brightness: Frames = left + (right - left) * place
    return brightness


def _robust_mean(frames: Frames) -> Frames:
    """Mean over frames without zingers; NaN where more than half are (saturated values)."""
    missing = np.isnan(frames).mean(axis=0) > 0.5
    mean = frame_statistics.mean(without_spikes(frames))
    return np.where(missing, np.float32(np.nan), mean)


def _check_flats(flats: Frames, where: str) -> None:
    lost = float((~np.isfinite(flats)).mean())
    if lost > 0.5:
        raise InputError(
            f"The flats of {where} are saturated or NaN in {lost:.0%} of their pixels.",
            "take flats with a shorter exposure; these cannot be used.",
        )


def _by_chance(band: Band, frames: float, pixels: int) -> float:
    """Counts above the darks, on average, that are no light: noise of reading can make them."""
    if band.darks is None or not pixels:
        return 0.0
    variance = dark_variance(band.darks) * (1 / frames + 1 / len(band.darks)) / pixels
    return _SURE * math.sqrt(variance)


def _unwritten(raw: Frames) -> NDArray[np.bool_]:
    """Rows of views (angle, row, 1) with one number in all columns: parts that were never written.

    None in rows where that holds for half of the views: data without noise, of air.
    """
    low, high = (f.reduce(raw, axis=2, keepdims=True) for f in (np.fmin, np.fmax))
    same = low == high
    return np.asarray(same & (same.mean(axis=0) < _HALF), np.bool_)


def _usable(raw: Frames, blank: Frames, typical: float) -> NDArray[np.bool_]:
    """Pixels that the beam reaches and that react to it, (row, column)."""
    good = np.asarray(np.all(blank > _BLOCKED_SHARE * typical, axis=0), np.bool_)
    if len(raw) > 2:
        stuck = np.asarray(np.fmax.reduce(raw, axis=0) <= np.fmin.reduce(raw, axis=0))
        # Data without any noise are constant where there is air.
        if stuck.mean() < 0.1:
            good[stuck] = False
    return good
