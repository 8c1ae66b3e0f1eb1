"""Conformal factors: how many standard deviations an interval needs for its coverage.

Conformal risk control (Angelopoulos et al., arXiv:2208.02814), which is split conformal prediction
with the residual ``|x - mean| / std`` for a loss that averages pixels: the share of pixels of a
region outside of ``mean +- factor std``. With ``n`` exchangeable reference images the smallest
factor with ``(n loss + 1) / (n + 1) <= 1 - level`` has an expected loss of at most ``1 - level`` on
a further image. The guarantee is marginal: over images and the pixels of a region, not for each
pixel or each image.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tiltkit.calibration.regions import Regions

__all__ = ["GUARANTEE", "LEVELS", "conformal_factors", "exceedance", "widen"]

LEVELS = (0.5, 0.8, 0.9, 0.95)
"""Coverage levels of the factors."""

GUARANTEE = (
    "For an image exchangeable with the reference images, measured by the same operator with the"
    " same noise, the expected share of the pixels of a region inside its intervals is at least the"
    " level: on average over images and pixels, not for each pixel or each image."
)
"""The guarantee of the factors, in words."""

# Factors that are tried, in rising order; the guarantee holds for any grid.
FACTORS = np.geomspace(0.02, 200.0, 1201)


def exceedance(
    truth: NDArray[Any], mean: NDArray[Any], std: NDArray[Any], regions: Regions
) -> NDArray[np.float64]:
    """Share (row, factor) of pixels with ``|truth - mean| > factor std``, for all factors.

    Args:
        truth: True image (*image).
        mean: Posterior mean.
        std: Posterior standard deviation; where it is 0, a pixel is inside if the mean is exact.
        regions: Regions of the image; the share of an empty one is 0.
    """
    error = np.abs(np.asarray(truth, np.float64) - mean)
    with np.errstate(divide="ignore", invalid="ignore"):
        residual = np.where(error == 0, 0.0, error / std)
    # Number of factors below the residual; NaN, from a single sample, exceeds all of them.
    below = np.searchsorted(FACTORS, np.nan_to_num(residual, nan=np.inf), side="left")
    labels, n = regions.labels.ravel().astype(np.int64), len(FACTORS) + 1
    counts = np.bincount(labels * n + below.ravel(), minlength=len(regions.names) * n)
    parts = counts.reshape(len(regions.names), n).astype(np.float64)
    table = np.concatenate([parts.sum(0, keepdims=True), parts])
    outside = table[:, ::-1].cumsum(1)[:, ::-1][:, 1:]
    shares: NDArray[np.float64] = outside / np.maximum(table.sum(1, keepdims=True), 1)
    return shares


def conformal_factors(
    losses: Sequence[NDArray[np.float64]], rows: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Factor for each region and level; infinite where there are too few images.

    Args:
        losses: `exceedance` of each reference image.
        rows: Names of the regions.
    """
    n = len(losses)
    bound = (np.sum(losses, axis=0) + 1) / (n + 1)
    return {
        name: {f"{level:g}": _smallest(bound[row], 1 - level) for level in LEVELS}
        for row, name in enumerate(rows)
    }


def _smallest(bound: NDArray[np.float64], allowed: float) -> float:
    """The first factor whose bound is small enough."""
    good = np.flatnonzero(bound <= allowed + 1e-12)
    return float(FACTORS[good[0]]) if len(good) else math.inf


def widen(
    interval: tuple[NDArray[Any], NDArray[Any]],
    mean: NDArray[Any],
    std: NDArray[Any],
    regions: Regions,
    factors: Mapping[str, float],
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Interval that contains both the given one and ``mean +- factor std``; never narrower.

    Args:
        interval: Lower and upper end (*image).
        mean: Posterior mean.
        std: Posterior standard deviation.
        regions: Regions of the image.
        factors: Factor of each region by name.
    """
    table = np.array([factors[name] for name in regions.names])
    reach = (table[regions.labels] * std).astype(std.dtype)
    low, high = interval
    return np.minimum(low, mean - reach), np.maximum(high, mean + reach)
