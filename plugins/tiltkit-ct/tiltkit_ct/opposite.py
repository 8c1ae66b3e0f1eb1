"""Opposite views, which mirror each other: a test of angles, and of the order of the axes.

Parallel rays cross the sample in either direction alike: a projection and the one half a turn
later are mirror images around the rotation axis.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import fft
from scipy.ndimage import gaussian_filter1d

from tiltkit_ct.noise import noise_variance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["AGREE", "closes", "mirror_axis", "mirror_mismatch", "mismatch", "smoothed_noise"]

# Views whose mismatch is below this share of that of unlike views are mirror images.
AGREE = 0.3
_SMOOTH = 1.5  # columns, against noise
_OVERLAP = 0.5  # of the detector, that mirrored views share at least
_PARTS = 4  # of a column, between shifts that are compared


def mirror_mismatch(
    sinogram: NDArray[np.floating], one: Sequence[int], other: Sequence[int], noise: float
) -> float:
    """Mean square difference of views and the mirror images of others, without that of noise.

    The axis of the mirror is common to all pairs; the one with the smallest difference counts.

    Args:
        sinogram: Line integrals (angle, column), finite.
        one: Numbers of views.
        other: Numbers of the views that they are compared with.
        noise: `smoothed_noise` of the sinogram.

    Returns:
        The difference; zero or less where it is no larger than that of noise.
    """
    _, found = _by_axis(_smooth(sinogram[list(one)]), _smooth(sinogram[list(other)]))
    return _smallest(found) - 2 * noise


def mirror_axis(one: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    """Column of the axis around which views mirror others best, within a quarter of a column.

    Args:
        one: Line integrals (view, column).
        other: Line integrals half a turn later (view, column).
    """
    axis, found = _by_axis(_smooth(one), _smooth(other))
    return float(axis[found.argmin()])


def _by_axis(
    one: NDArray[np.float64], other: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean square difference of views and mirrored others, for every column of the axis."""
    a, b = one, other[:, ::-1]
    m = a.shape[1]
    ones = np.ones_like(a)
    square = _correlations(a**2, ones) + _correlations(ones, b**2) - 2 * _correlations(a, b)
    shift = _shifts(m) / _PARTS
    overlap = m - np.abs(shift)
    within = overlap >= _OVERLAP * m
    return (m - 1 + shift[within]) / 2, square[within] / (overlap[within] * len(a))


def mismatch(
    sinogram: NDArray[np.floating], one: Sequence[int], other: Sequence[int], noise: float
) -> float:
    """Mean square difference of views as they are, without that of noise; see `mirror_mismatch`."""
    change = _smooth(sinogram[list(one)]) - _smooth(sinogram[list(other)])
    return float(np.mean(change**2)) - 2 * noise


def closes(sinogram: NDArray[np.floating], angles: NDArray[np.float64]) -> bool | None:
    """Return whether opposite views of a sinogram mirror each other.

    Args:
        sinogram: Line integrals (angle, column), finite.
        angles: Radians (angle,).

    Returns:
        None where that cannot be decided: no opposite views, or views that are all alike.
    """
    step = float(np.median(np.abs(np.diff(np.sort(angles)))))
    opposite, quarter = (_pairs(angles, apart, 1.1 * step) for apart in (np.pi, np.pi / 2))
    if not opposite[0] or not quarter[0]:
        return None
    noise = smoothed_noise(sinogram)
    unlike = mirror_mismatch(sinogram, *quarter, noise)
    if unlike <= noise:
        return None
    return bool(mirror_mismatch(sinogram, *opposite, noise) < AGREE * unlike)


def smoothed_noise(sinogram: NDArray[np.floating]) -> float:
    """Variance of the noise of a sinogram after the smoothing of `mismatch`."""
    shrunk = 1 / (2 * np.sqrt(np.pi) * _SMOOTH)
    return float(shrunk * noise_variance(np.asarray(sinogram, np.float32)).mean())


def _smooth(views: NDArray[np.floating]) -> NDArray[np.float64]:
    smooth: NDArray[np.float64] = gaussian_filter1d(np.asarray(views, np.float64), _SMOOTH, axis=1)
    return smooth


def _pairs(
    angles: NDArray[np.float64], apart: float, tolerance: float
) -> tuple[list[int], list[int]]:
    """Numbers of views, and of the views nearest to ``apart`` radians later."""
    turned = (angles[None] - angles[:, None] - apart + np.pi) % (2 * np.pi) - np.pi
    nearest = np.abs(turned).argmin(axis=1)
    found = np.abs(turned).min(axis=1) <= tolerance
    return np.flatnonzero(found).tolist(), nearest[found].tolist()


def _shifts(m: int) -> NDArray[np.int64]:
    """Shifts of less than ``m`` columns, in parts of a column."""
    return np.arange(_PARTS * (1 - m), _PARTS * (m - 1) + 1)


def _correlations(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum over views and columns of products, for all shifts of ``other``.

    Between whole columns the sums are interpolated: smoothed views are band-limited.
    """
    m = one.shape[1]
    spectrum = (fft.rfft(one, 2 * m) * np.conj(fft.rfft(other, 2 * m))).sum(axis=0)
    fine = _PARTS * fft.irfft(spectrum, 2 * m * _PARTS)
    return np.asarray(fine[_shifts(m)], np.float64)


def _smallest(values: NDArray[np.float64]) -> float:
    """The minimum, from a parabola through the lowest value and its neighbours."""
    i = int(np.clip(values.argmin(), 1, len(values) - 2))
    before, here, after = values[i - 1 : i + 2]
    curvature = before - 2 * here + after
    return float(here - (before - after) ** 2 / (8 * curvature)) if curvature > 0 else float(here)
