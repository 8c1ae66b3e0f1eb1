"""The noise of a camera, from a single image: variance against brightness."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import convolve1d, gaussian_filter
from scipy.stats import median_abs_deviation

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "DIFFERENCE", "Camera", "VarianceLine", "camera_of", "filtered", "spread", "variance_line",
]  # fmt: skip

# Fourth differences: they remove polynomials up to the third degree along a row or column, and so
# nearly all structure that a point spread function of two pixels or more lets through.
DIFFERENCE = np.array([1.0, -4.0, 6.0, -4.0, 1.0]) / math.sqrt(70)
# Standard deviation in pixels of the smoothed image that pixels are sorted by.
_SORTED_BY = 1.5
# Most bins of the curve of variance against mean, and fewest pixels of each.
_BINS, _LEAST = 48, 64
_ROUNDS = 30  # of the reweighted fit of the line
# Squared relative standard error of a bin's variance, times its number of pixels: residuals of
# neighbours are correlated, and the median absolute deviation is a third as efficient as the mean
# square.
_BIN_ERROR = 20.0
# Deviations of so many standard errors get half of the weight in the fit of the line.
_DEVIATION = 2.0
# Least mean brightness, in standard deviations of the readings.
_LEAST_LIGHT = 0.05
# A variance whose square is still a number; where there is no noise at all.
_TINY = 1e-30


@dataclass(frozen=True, slots=True)
class Camera:
    """``reading = gain * Poisson(electrons) + offset + N(0, read_noise^2)``.

    Attributes:
        gain: Readings per electron.
        offset: Reading in the dark.
        read_noise: Standard deviation of the readout, in readings.
    """

    gain: float
    offset: float
    read_noise: float

    def variance(self, reading: float) -> float:
        """Noise variance of a pixel with a mean reading."""
        return self.gain * max(reading - self.offset, 0.0) + self.read_noise**2


@dataclass(frozen=True, slots=True)
class VarianceLine:
    """Noise variance against mean reading: ``slope * reading + constant``.

    Attributes:
        slope: Zero or more.
        constant: May be negative: the offset times the slope is subtracted.
        error: Standard error of the slope; infinite where nothing determines it.
        free: The slope without the bound at zero.
    """

    slope: float
    constant: float
    error: float
    free: float


def camera_of(
    line: VarianceLine,
    stack: NDArray[np.floating],
    offset: float | None,
    read_noise: float | None,
) -> Camera:
    """The camera of a line of variance against brightness.

    The line has a slope, the gain, and one constant, ``read_noise^2 - gain offset``: of offset
    and read noise one must be given to estimate the other. Where neither is given a positive
    constant is read noise of a camera without offset, and a negative one the offset of one without
    read noise; both fit the data equally well.

    Args:
        line: The line.
        stack: Readings, of which an estimated offset is no higher than the median and the mean.
        offset: Reading in the dark, if known.
        read_noise: In readings, if known.
    """
    if offset is None:
        excess = line.constant if read_noise is None else line.constant - read_noise**2
        offset = -excess / line.slope if excess < 0 < line.slope else 0.0
        # Half of the pixels cannot be darker than the dark: a slope from few counts is uncertain.
        highest = float(np.nanmean(stack)) - _LEAST_LIGHT * float(np.nanstd(stack))
        offset = min(offset, float(np.nanmedian(stack)), highest)
    if read_noise is None:
        read_noise = math.sqrt(max(line.constant + line.slope * offset, 0.0))
    return Camera(line.slope, offset, read_noise)


def variance_line(stack: NDArray[np.floating]) -> VarianceLine:
    """The noise variance against the mean reading, after Foi et al. (2008).

    Fourth differences along both axes of a plane leave noise and hardly any structure. In bins of
    equal brightness their median absolute deviation gives a variance that structure in less than
    half of the pixels hardly moves, and a line is fitted that is robust against outlying bins.

    Args:
        stack: Readings (z, y, x); values that are not finite are left out.
    """
    mean, residual, smooth = _parts(np.asarray(stack, np.float64))
    if not mean.size:
        return VarianceLine(0.0, 0.0, math.inf, 0.0)
    order = np.argsort(smooth)
    bins = np.array_split(order, max(1, min(_BINS, len(order) // _LEAST)))
    # Bins of equal width represent bright pixels, which are few, as well as dark ones.
    edges = np.linspace(smooth[order[0]], smooth[order[-1]], _BINS + 1)
    wide = np.searchsorted(smooth[order], edges)
    bins += [order[a:b] for a, b in pairwise(wide) if b - a >= _LEAST]
    x = np.array([np.mean(mean[rows]) for rows in bins])
    y = np.array([spread(residual[rows]) ** 2 for rows in bins])
    weight = np.array([float(len(rows)) for rows in bins])
    return _line(x, y, weight)


def filtered(stack: NDArray[np.float64], kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Planes (z, y, x) filtered along rows and columns; NaN near a border or a NaN.

    Axes shorter than the kernel take no part.
    """
    for axis in (-2, -1):
        if stack.shape[axis] >= len(kernel):
            stack = convolve1d(stack, kernel, axis=axis, mode="constant", cval=np.nan)
    return stack


def _parts(
    stack: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean, residual and smoothed image of all pixels that have them.

    The variance of the residual is that of the noise at the mean reading. Pixels are sorted by the
    smoothed image and not by the mean, whose noise would go along with that of the residual.
    """
    if max(stack.shape[-2:]) < len(DIFFERENCE):
        return np.empty(0), np.empty(0), np.empty(0)
    residual = filtered(stack, DIFFERENCE)
    known = np.isfinite(residual)
    whole = np.nan_to_num(stack)
    mean = filtered(stack, DIFFERENCE**2)
    smooth = gaussian_filter(whole, (0, _SORTED_BY, _SORTED_BY), truncate=2)
    smooth /= gaussian_filter(
        np.isfinite(stack).astype(np.float64), (0, _SORTED_BY, _SORTED_BY), truncate=2
    ).clip(_TINY)
    return mean[known], residual[known], smooth[known]


def spread(values: NDArray[np.float64]) -> float:
    """Standard deviation of Gaussian values, robust to outliers: the scaled MAD."""
    return float(median_abs_deviation(values, axis=None, scale="normal"))


def _line(x: NDArray[np.float64], y: NDArray[np.float64], n: NDArray[np.float64]) -> VarianceLine:
    """Weighted line with a slope of zero or more; relative errors count, outliers little.

    Args:
        x: Mean readings.
        y: Variances.
        n: Numbers of pixels.
    """
    least = max(1e-3 * float(y.max()), _TINY)
    free, a, b = 0.0, 0.0, 0.0
    robust, power = np.ones_like(y), 0.0
    model = np.maximum(y, least)
    for _ in range(_ROUNDS):
        # The variance of a variance goes as its square; that of the line and not of the bin, as
        # bins with a low variance by chance would count most.
        w = n / model**2 * robust
        xm, ym = np.average(x, weights=w), np.average(y, weights=w)
        power = float((w * (x - xm) ** 2).sum())
        free = float((w * (x - xm) * (y - ym)).sum() / power) if power > 0 else 0.0
        a = max(free, 0.0)
        b = float(ym - a * xm)
        model = np.maximum(a * x + b, least)
        deviation = (y - model) * np.sqrt(n / _BIN_ERROR) / model
        scale = max(spread(deviation), 1.0)
        robust = 1 / (1 + (deviation / (_DEVIATION * scale)) ** 2)
    error = scale * math.sqrt(_BIN_ERROR / power) if power > 0 else math.inf
    return VarianceLine(a, b, error, free)
