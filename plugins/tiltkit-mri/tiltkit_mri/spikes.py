"""Spikes in k-space: single samples that exceed all of their neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Spike", "find_spikes", "relative_power"]

# Power of a spike over the largest power in its neighbourhood, at least. Without spikes the largest
# ratio is 8, and 25 at the centre of k-space itself (18 scans of 1 to 32 coils, 5 of them real).
_LEAST = 40.0
# Neighbours are so many rows away at most; those next to a spike may share it.
_NEAR, _FAR = 2, 5
# Columns so far away are neighbours.
_COLUMNS = 2
# So many rows and columns around the peak of k-space the least ratio is higher.
_PEAK, _LEAST_AT_PEAK = 1, 800.0
# The median of an exponential distribution, which noise power follows, over its mean.
_MEDIAN = np.log(2)


@dataclass(frozen=True, slots=True)
class Spike:
    """One spike.

    Attributes:
        row: Row of k-space.
        column: Column of k-space.
        ratio: Its amplitude over the largest one in its neighbourhood.
    """

    row: int
    column: int
    ratio: float


def relative_power(data: NDArray[np.complexfloating]) -> NDArray[np.float64]:
    """Power of samples, each coil relative to its median, averaged over the coils.

    Args:
        data: Samples (coil, row, column); coils without any count nothing.

    Returns:
        (row, column); about 1 where there is noise alone.
    """
    power = np.square(np.abs(data), dtype=np.float64)
    usual = np.median(power, axis=(1, 2)) / _MEDIAN
    floor = 1e-12 * power.max(axis=(1, 2))
    weight = np.divide(1.0, np.maximum(usual, floor), out=np.zeros_like(usual), where=floor > 0)
    mean: NDArray[np.float64] = np.einsum("cyx,c->yx", power, weight) / len(data)
    return mean


def find_spikes(power: NDArray[np.float64], columns: NDArray[np.bool_]) -> list[Spike]:
    """Samples that exceed their neighbours, in the same column and in those next to it.

    Args:
        power: Power (row, measured column); see `relative_power`.
        columns: Measured columns, bool (column,).

    Returns:
        The strongest first. Samples next to each other in a column count as one spike.
    """
    place = np.flatnonzero(columns)
    around = _around(power, place)
    ratio = power / np.maximum(around, 1.0)
    found = ratio > _LEAST
    smooth = np.where(found, 0.0, power)
    row, column = np.unravel_index(int(smooth.argmax()), power.shape)
    beside = abs(place - place[column]) <= _PEAK
    peak = np.zeros_like(found)
    peak[max(row - _PEAK, 0) : row + _PEAK + 1, beside] = True
    found &= ~peak | (ratio > _LEAST_AT_PEAK)
    # Of neighbours in a column only the largest is kept.
    found &= power >= np.maximum(np.roll(power, 1, axis=0), np.roll(power, -1, axis=0))
    spikes = [
        Spike(int(r), int(place[c]), float(np.sqrt(ratio[r, c]))) for r, c in np.argwhere(found)
    ]
    return sorted(spikes, key=lambda spike: -spike.ratio)


def _around(power: NDArray[np.float64], place: NDArray[np.intp]) -> NDArray[np.float64]:
    """Largest power in the neighbourhood of each sample (row, column), itself left out."""
    shifts = [shift for shift in range(-_FAR, _FAR + 1) if abs(shift) >= _NEAR]
    around = np.max([np.roll(power, shift, axis=0) for shift in shifts], axis=0)
    whole = np.max([np.roll(power, shift, axis=0) for shift in range(1 - _NEAR, _NEAR)], axis=0)
    close = np.diff(place) <= _COLUMNS
    around[:, 1:] = np.maximum(around[:, 1:], np.where(close, whole[:, :-1], 0))
    around[:, :-1] = np.maximum(around[:, :-1], np.where(close, whole[:, 1:], 0))
    result: NDArray[np.float64] = around
    return result
