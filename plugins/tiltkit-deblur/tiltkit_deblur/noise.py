"""The noise of a camera, from a single image: variance against brightness."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import convolve1d
from scipy.stats import median_abs_deviation

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Camera", "estimate_camera", "spread", "variance_line"]

# Second differences: they remove linear changes of an image, and most of smooth ones.
_DIFFERENCE = np.array([1.0, -2.0, 1.0])
_SMOOTH = np.array([1.0, 2.0, 1.0]) / 4
# Most bins of the curve of variance against mean, and fewest pixels of each, for a median with a
# standard error of about 15 %.
_BINS, _LEAST = 48, 64
_ROUNDS = 8  # of the reweighted fit of the line
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


def estimate_camera(
    stack: NDArray[np.float32],
    *,
    gain: float | None = None,
    offset: float | None = None,
    read_noise: float | None = None,
) -> Camera:
    """Camera parameters that are not given, from the line of variance against brightness.

    The line has a slope, the gain, and one constant, ``read_noise^2 - gain offset``: of offset
    and read noise one must be given to estimate the other. Where neither is given a positive
    constant is read noise of a camera without offset, and a negative one the offset of one without
    read noise; both fit the data equally well.

    Args:
        stack: Readings (z, y, x).
        gain: Readings per electron, if known.
        offset: Reading in the dark, if known.
        read_noise: In readings, if known.
    """
    if gain is not None and offset is not None and read_noise is not None:
        return Camera(gain, offset, read_noise)
    slope, constant = variance_line(stack, slope=gain)
    if offset is None:
        excess = constant if read_noise is None else constant - read_noise**2
        offset = -excess / slope if excess < 0 < slope else 0.0
        # Half of the pixels cannot be darker than the dark: a slope from few counts is uncertain.
        offset = min(offset, float(np.median(stack)))
    if read_noise is None:
        read_noise = math.sqrt(max(constant + slope * offset, 0.0))
    return Camera(slope, offset, read_noise)


def variance_line(stack: NDArray[np.float32], *, slope: float | None = None) -> tuple[float, float]:
    """Slope and constant of the noise variance against the mean reading, after Foi et al. (2008).

    Second differences along both axes of a plane leave noise and fine detail. In bins of equal
    local mean their median absolute deviation gives a variance that detail in less than half of
    the pixels hardly moves, and a line is fitted that is robust against outlying bins.

    Args:
        stack: Readings (z, y, x); values that are not finite are left out.
        slope: The slope, where it is known.
    """
    mean, residual = _parts(np.asarray(stack, np.float64))
    if not mean.size:
        return (slope or 0.0), 0.0
    order = np.argsort(mean)
    bins = np.array_split(order, max(1, min(_BINS, len(order) // _LEAST)))
    # Bins of equal width represent bright pixels, which are few, as well as dark ones.
    edges = np.linspace(mean[order[0]], mean[order[-1]], _BINS + 1)
    wide = np.searchsorted(mean[order], edges)
    bins += [order[a:b] for a, b in pairwise(wide) if b - a >= _LEAST]
    x = np.array([np.median(mean[rows]) for rows in bins])
    y = np.array([spread(residual[rows]) ** 2 for rows in bins])
    weight = np.array([float(len(rows)) for rows in bins])
    return _line(x, y, weight, slope)


def _parts(stack: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Local mean, and residual whose variance is that of the noise, of all pixels that have both.

    Only axes long enough take part; a pixel at a border has no second difference.
    """
    mean, residual, inner = stack, stack, [slice(None)] * stack.ndim
    for axis in (-2, -1):
        if stack.shape[axis] < 3:
            continue
        mean = convolve1d(mean, _SMOOTH, axis=axis)
        residual = convolve1d(residual, _DIFFERENCE / math.sqrt(6), axis=axis)
        inner[axis] = slice(1, -1)
    if all(part == slice(None) for part in inner):
        return np.empty(0), np.empty(0)
    mean, residual = mean[tuple(inner)].ravel(), residual[tuple(inner)].ravel()
    known = np.isfinite(mean) & np.isfinite(residual)
    return mean[known], residual[known]


def spread(values: NDArray[np.float64]) -> float:
    """Standard deviation of Gaussian values, robust to outliers: the scaled MAD."""
    return float(median_abs_deviation(values, axis=None, scale="normal"))


def _line(
    x: NDArray[np.float64], y: NDArray[np.float64], weight: NDArray[np.float64],
    slope: float | None,
) -> tuple[float, float]:  # fmt: skip
    """Weighted line with a slope of zero or more; relative errors count, outliers little."""
    # The variance of a variance goes as its square.
    w = weight / np.maximum(y, max(1e-3 * float(y.max()), _TINY)) ** 2
    robust = np.ones_like(w)
    a, b = (slope or 0.0), 0.0
    for _ in range(_ROUNDS):
        now = w * robust
        if slope is None:
            xm, ym = np.average(x, weights=now), np.average(y, weights=now)
            power = np.average((x - xm) ** 2, weights=now)
            a = float(np.average((x - xm) * (y - ym), weights=now) / power) if power > 0 else 0.0
            a = max(a, 0.0)
        b = float(np.average(y - a * x, weights=now))
        scaled = (y - a * x - b) * np.sqrt(w)
        scale = spread(scaled) or 1.0
        robust = 1 / (1 + (scaled / (2 * scale)) ** 2)
    return a, b
