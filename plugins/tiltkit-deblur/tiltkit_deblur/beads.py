"""A point spread function from an image of beads: detection, alignment and average."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import center_of_mass, gaussian_filter, shift

from tiltkit.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["bead_average", "find_beads"]

# Smallest brightness of a bead above the background, over that of the brightest.
_BRIGHT = 0.3
# Beads brighter or darker than the median by more than this factor are clusters or dirt.
_FACTOR = 2.0


def find_beads(
    stack: NDArray[np.float32], half: Sequence[int], saturation: float = np.inf
) -> list[tuple[int, ...]]:
    """Centres of beads that lie alone, away from the borders, and are not saturated.

    Args:
        stack: (z, y, x).
        half: Pixels (z, y, x) on either side of a bead that belong to it.
        saturation: Reading from which on a pixel is saturated.
    """
    from skimage.feature import peak_local_max

    # Smoothed: noise has local maxima, and may split one bead in two.
    sigma = [1.0 if n > 1 else 0.0 for n in stack.shape]
    smooth = gaussian_filter(np.asarray(stack, np.float64), sigma)
    dark = float(np.median(smooth))
    find: Any = peak_local_max  # skimage has no types
    peaks = find(
        smooth, min_distance=1, threshold_abs=dark + _BRIGHT * (smooth.max() - dark),
        exclude_border=False,
    )  # fmt: skip
    size, reach = np.array(stack.shape), np.array(half)
    alone = []
    for peak in peaks:
        near = (np.abs(peaks - peak) <= 2 * reach).all(axis=1).sum() == 1
        inside = ((peak - reach >= 0) & (peak + reach < size)).all()
        if near and inside and stack[_box(peak, half)].max() < saturation:
            alone.append(tuple(int(p) for p in peak))
    light = {p: smooth[p] - dark for p in alone}
    usual = float(np.median(list(light.values()))) if light else 0.0
    return [p for p in alone if usual / _FACTOR <= light[p] <= usual * _FACTOR]


def bead_average(
    stack: NDArray[np.float32], half: Sequence[int], saturation: float = np.inf, name: str = ""
) -> tuple[NDArray[np.float32], int]:
    """The mean bead (z, y, x) with odd sides, and the number of beads in it.

    Every bead is moved by a fraction of a pixel so that its centre of mass is in the middle, and
    scaled to unit light. The size of the beads stays in the result: use
    beads smaller than the resolution.

    Raises:
        InputError: There is no usable bead.
    """
    half = [min(h, (n - 1) // 2) for h, n in zip(half, stack.shape, strict=True)]
    beads = find_beads(stack, half, saturation)
    if not beads:
        raise InputError(
            f"No bead that lies alone and is not saturated was found in {name or 'the image'}.",
            f"give -s task.bead_half to change the {half} pixels (z, y, x) kept free around one.",
        )
    total = np.zeros([2 * h + 1 for h in half])
    for bead in beads:
        spot = np.asarray(stack[_box(bead, half)], np.float64)
        rim = np.ones(spot.shape[1:], bool)
        rim[1:-1, 1:-1] = False
        spot = spot - np.median(spot[:, rim])
        # The bright part alone: noise far away would shift the centre of mass.
        bright = np.where(spot > 0.2 * spot.max(), spot, 0)
        move = [h - c for h, c in zip(half, center_of_mass(bright), strict=True)]
        total += shift(spot, move, mode="nearest") / bright.sum()
    return (total / len(beads)).astype(np.float32), len(beads)


def _box(centre: Sequence[int], half: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(int(c) - h, int(c) + h + 1) for c, h in zip(centre, half, strict=True))
