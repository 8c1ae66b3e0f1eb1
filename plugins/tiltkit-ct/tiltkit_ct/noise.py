"""Noise of the data: gain of the detector, and noise level where there are no flats."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import uniform_filter, uniform_filter1d
from scipy.stats import chi2, median_abs_deviation

from tiltkit_ct import frame_statistics
from tiltkit_ct.zingers import without_spikes

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = [
    "dark_variance",
    "denoised",
    "gain_from_air",
    "gain_from_counts",
    "gain_from_flats",
    "high_frequency_variance",
    "noise_variance",
]

_SMOOTH = 31  # columns; the beam itself changes over longer distances than that
_LEVELS = 12  # bins of brightness: enough for a curve, each with many pixels
_APART = 2  # columns that are compared: next neighbours share light, or were interpolated
_NEAR = 5  # angles and columns of a local mean
_ONE_SIDED = 0.5  # of the variance around a pixel: below, neighbours at one side replace all
_FEWEST_AIR = 3  # columns beside the sample
_KEPT = 0.9  # share of the pixels in the estimate of the gain: the rest are outliers


def gain_from_flats(
    flats: NDArray[np.float32],
    dark: NDArray[np.float32],
    times: NDArray[np.float64],
    dark_variance: float,
) -> float | None:
    """Detector counts per photon, from how much repeated flats differ (photon transfer).

    Photons have the variance ``gain * mean`` in each pixel. The beam changes between flats: each
    is divided by its brightness, smooth along the columns. A trimmed mean over pixels keeps
    zingers and dead pixels out. Janesick, Photon Transfer, SPIE Press 2007.

    Args:
        flats: (flat, row, column), NaN where unusable.
        dark: Mean dark counts, broadcastable to (row, column).
        times: Time of each flat (flat,); only flats of the same time are compared.
        dark_variance: Variance of the readout, counts^2.

    Returns:
        The gain; None where flats are fewer than two or do not differ.
    """
    ratios, weights = [], []
    for time in np.unique(times):
        group = without_spikes(flats[times == time]) - dark
        if len(group) < 2:
            continue
        mean = frame_statistics.mean(group)
        # Relative to the brightest row: the beam may miss all the others.
        good = np.isfinite(group).all(axis=0) & (
            mean > 0.1 * np.nan_to_num(frame_statistics.median(mean.T)).max()
        )
        if not good.any():
            continue
        relative = np.where(good, group / np.where(good, mean, 1.0), 1.0)
        window = min(_SMOOTH, relative.shape[2])
        relative = relative - uniform_filter1d(relative, window, axis=2, mode="nearest")
        degrees = len(group) - 1
        variance = (relative**2).sum(axis=0) / degrees * mean**2
        excess = variance * window / max(window - 1, 1) - dark_variance
        ratios.append(_trimmed_mean(excess[good] / mean[good], degrees))
        weights.append(degrees)
    if not ratios:
        return None
    gain = float(np.average(ratios, weights=weights))
    return gain if gain > 0 else None


def _trimmed_mean(variances: NDArray[np.float32], degrees: int) -> float:
    """Unbiased mean of sample variances from the smallest 90 % of them.

    They follow a chi-squared distribution of ``degrees`` degrees of freedom, whose mean below a
    quantile is known.
    """
    kept = np.sort(variances, axis=None)[: math.ceil(_KEPT * variances.size)]
    end = chi2.ppf(_KEPT, degrees)
    return float(kept.mean()) * _KEPT / float(chi2.cdf(end, degrees + 2))


def dark_variance(darks: NDArray[np.float32] | None) -> float:
    """Variance of one readout in counts^2, from repeated darks; 0 from fewer than two."""
    if darks is None or len(darks) < 2:
        return 0.0
    return float(np.nan_to_num(frame_statistics.median(frame_statistics.variance(darks).ravel())))


def gain_from_counts(counts: NDArray[np.float32]) -> float | None:
    """Counts per photon from one sinogram (angle, column): ``2 sqrt(counts)`` has this variance."""
    return high_frequency_variance(2 * np.sqrt(np.maximum(counts, 0.0))) or None


def gain_from_air(counts: NDArray[np.float32], dark_variance: float) -> float | None:
    """Counts per photon from columns beside the sample, by differences of successive views.

    Args:
        counts: (angle, column), NaN where unusable.
        dark_variance: Variance of the readout, counts^2.
    """
    n = counts.shape[1]
    level = frame_statistics.mean(counts.T)[:, None]  # the beam changes
    detail = _curve(counts / level, 1)
    if n < _FEWEST_AIR or not np.isfinite(detail).any():
        return None
    spread = median_abs_deviation(detail, axis=None, scale="normal", nan_policy="omit")
    mean = float(np.nanmean(level))
    gain = float(spread**2) * mean * n / (n - 1) - dark_variance / mean
    return gain if gain > 0 else None


def denoised(
    values: NDArray[np.float32], variance_of: Callable[[NDArray[np.float32]], NDArray[np.float32]]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Local Wiener filter: means over neighbours where all differences are noise, values elsewhere.

    Beside an edge, where the neighbours at one side vary much less, they alone are used. Lee,
    IEEE Trans. Pattern Anal. Mach. Intell. 2 (1980) 165-168.

    Args:
        values: (angle, row, column), NaN where unusable.
        variance_of: The variance of the noise of values, from their means.

    Returns:
        Expected values and local means, both of the same shape: means where values are NaN, NaN
        where there are no neighbours either.
    """
    mean, excess = _local(values, variance_of, 0)
    for side in (-(_NEAR // 2), _NEAR // 2):
        other, its_excess = _local(values, variance_of, side)
        smoother = its_excess < _ONE_SIDED * excess
        mean, excess = np.where(smoother, other, mean), np.where(smoother, its_excess, excess)
    kept = np.clip(1 - 1 / excess, 0, 1)
    finite = np.isfinite(values) & np.isfinite(kept)
    return np.where(finite, mean + kept * (values - mean), mean), mean


def _local(
    values: NDArray[np.float32],
    variance_of: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    side: int,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Means over windows shifted by ``side`` columns, and the variance there over that of noise.

    In double precision, because a difference of squares is left.
    """
    finite = np.isfinite(values)

    def window(x: NDArray[np.float64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = uniform_filter(
            np.where(finite, x, 0), (_NEAR, 1, _NEAR), mode="nearest", origin=(0, 0, side)
        )
        return found

    share = window(np.ones(values.shape))
    share = np.where(share > 1e-3, share, np.nan)
    x = values.astype(np.float64)
    mean = window(x) / share
    spread = np.maximum(window(x**2) / share - mean**2, 0)
    level = mean.astype(np.float32)
    return level, np.asarray(spread / variance_of(level), np.float32)


def high_frequency_variance(sinogram: NDArray[np.float32]) -> float:
    """Variance of white noise on a smooth sinogram (angle, column), from its finest detail.

    The median of second differences over both axes: edges of an object are few, rings, drifts and
    slopes cancel. Donoho and Johnstone, Biometrika 81 (1994) 425-455.
    """
    detail = _detail(sinogram)
    return float(median_abs_deviation(detail, axis=None, scale="normal", nan_policy="omit") ** 2)


def noise_variance(sinogram: NDArray[np.float32]) -> NDArray[np.float32]:
    """Variance of every value of a sinogram (angle, column), estimated from the sinogram alone.

    It depends on the value, as for electron detectors: the variance of the finest detail is
    estimated in bins of brightness and interpolated between them.
    """
    smooth = _smooth(sinogram)
    detail = _detail(sinogram)
    trimmed = 1 if len(sinogram) > 2 else 0
    level = smooth[trimmed : len(smooth) - trimmed, _APART:-_APART]
    edges = np.quantile(level, np.linspace(0, 1, _LEVELS + 1))
    bins = np.clip(np.searchsorted(edges, level, side="right") - 1, 0, _LEVELS - 1)
    filled = [bins == i for i in range(_LEVELS) if (bins == i).any()]
    x = np.array([level[inside].mean() for inside in filled])
    y = np.array([median_abs_deviation(detail[inside], scale="normal") ** 2 for inside in filled])
    least = max(1e-3 * float(np.median(y)), float(np.finfo(np.float32).tiny))
    return np.asarray(np.maximum(np.interp(smooth, x, y), least), np.float32)


def _detail(sinogram: NDArray[np.float32]) -> NDArray[np.float32]:
    """Second differences over angles and columns, of the variance of the noise."""
    found = _curve(sinogram.T, _APART).T
    return _curve(found, 1) if len(found) > 2 else found


def _curve(values: NDArray[np.float32], apart: int) -> NDArray[np.float32]:
    """Second differences over the first axis; weights have the sum of squares 1."""
    middle = values[apart:-apart]
    return (values[2 * apart :] - 2 * middle + values[: -2 * apart]) / np.float32(math.sqrt(6))


def _smooth(sinogram: NDArray[np.float32]) -> NDArray[np.float32]:
    """Values smoothed, so that the variance does not follow the noise itself."""
    smooth: NDArray[np.float32] = uniform_filter1d(
        uniform_filter1d(sinogram, 3, axis=0, mode="nearest"), 3, axis=1, mode="nearest"
    )
    return smooth
