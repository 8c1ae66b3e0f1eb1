"""Air beside the sample: detector columns that show the bare beam in every projection."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tiltkit_ct import frame_statistics
from tiltkit_ct.zingers import MAD_TO_SD

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Frames = NDArray[np.float32]
    Values = NDArray[np.float64]

__all__ = ["Air", "find_air"]

# Columns of air at one side: at least so many, and shares of all columns.
_FEWEST, _NARROWEST, _WIDEST = 3, 0.03, 0.1
_VIEWS = 8  # fewest, from which noise is told from a sample that turns
_QUIET = 10.0  # percentile of the columns by their noise: the bare beam has the least
# Columns of air differ from each other and over time by no more than noise and this; a tenth of
# them may differ by more, as stripes do.
_FLAT, _TREND, _STEADY, _MOST = 0.01, 0.005, 0.003, 0.9
_ERRORS, _SPREAD = 4.0, 1.5  # standard errors, and standard deviations over that of noise
# Darker than flats, the inside of a sample that is wider than the detector looks alike. It falls
# towards the middle by more than these standard errors and this share of the darkest column.
_DARKER, _FALL_ERRORS, _FALL = 0.97, 2.5, 0.02
_OF_MEDIAN = 1.25  # standard error of a median over that of a mean
_STRAY = 0.97  # share of the values that are no spikes


@dataclass(frozen=True, slots=True)
class Air:
    """Transmission beside the sample.

    Attributes:
        brightness: Transmission at the first and at the last column, (angle, 2).
        error: Standard error of the brightness in one projection.
        level_error: Standard error of the mean brightness of all, by noise of the flats too.
        columns: Columns at the left and at the right side; 0 where that side has no air.
        certain: False where it may as well be the inside of a sample wider than the detector.
    """

    brightness: Values
    error: float
    level_error: float
    columns: tuple[int, int]
    certain: bool


def find_air(transmission: Frames, flats: float) -> Air | None:
    """Air at one or both sides of the sample, whatever its brightness.

    Columns of air are alike in every projection, except for noise; those of a sample that is wider
    than the detector get darker towards its middle, and change as it turns.

    Args:
        transmission: Counts over those without sample, (angle, row, column), NaN where unusable.
        flats: Effective number of flats behind it.
    """
    n, _, n_columns = transmission.shape
    if n < _VIEWS or n_columns < 4 * _FEWEST:
        return None
    values = frame_statistics.median(np.moveaxis(transmission, 1, 0)).astype(np.float64)
    noise = _noise(values)
    if not 0 < noise < math.inf:
        return None
    sides = [_side(side, noise, flats) for side in (values, values[:, ::-1])]
    found = [side for side in sides if side is not None]
    if not found or (_level(found) < _DARKER and not _is_flat(found, values)):
        return None
    certain = _level(found) >= _DARKER or len(found) == 2
    widths = [0 if side is None else side.width for side in sides]
    error = max(_OF_MEDIAN * noise / math.sqrt(side.width) for side in found)
    level_error = error * math.sqrt(1 / flats + 1 / n)
    if len(found) == 1:
        level = found[0].level
        return Air(
            np.stack([level, level], axis=1), error, level_error, (widths[0], widths[1]), certain
        )
    left, right = (side.level for side in found)
    # From the middle of the air at each side to the ends.
    slope = (right - left) / (n_columns - sum(widths) / 2)
    ends = [left - slope * (widths[0] - 1) / 2, right + slope * (widths[1] - 1) / 2]
    return Air(np.stack(ends, axis=1), error, level_error, (widths[0], widths[1]), certain)


@dataclass(frozen=True, slots=True)
class _Side:
    """Air at one side.

    Attributes:
        level: Transmission, (angle,).
        width: Columns.
        fall: Decrease of the transmission over these columns towards the sample, relative to it.
        error: Standard error of the decrease.
    """

    level: Values
    width: int
    fall: float
    error: float


def _level(sides: list[_Side]) -> float:
    return float(np.mean([np.median(side.level) for side in sides]))


def _is_flat(sides: list[_Side], values: Values) -> bool:
    """True for columns that do not get darker towards the sample, as those of a cylinder would."""
    fall = float(np.mean([side.fall for side in sides]))
    error = math.hypot(*(side.error for side in sides)) / len(sides)
    depth = 1 - float(np.nanmin(_median(values))) / _level(sides)
    return fall <= _FALL_ERRORS * error + _FALL * depth


def _noise(values: Values) -> float:
    """Relative noise of the quietest columns (angle, column), from differences of projections."""
    detail = values[2:] - 2 * values[1:-1] + values[:-2]
    # All columns share changes of the beam.
    detail = detail - _median(detail.T)[:, None]
    usable = np.isfinite(detail).mean(axis=0) > 0.5
    if usable.sum() < _FEWEST:
        return math.nan
    spread = MAD_TO_SD / math.sqrt(6) * _median(np.abs(detail[:, usable]))
    level = _median(values[:, usable])
    relative = spread / np.where(level > 0, level, np.nan)
    return float(np.nanpercentile(relative, _QUIET)) if np.isfinite(relative).any() else math.nan


def _side(values: Values, noise: float, flats: float) -> _Side | None:
    """The widest air at the start of the columns; None without air."""
    n = values.shape[1]
    widest, narrowest = (max(math.ceil(share * n), _FEWEST) for share in (_WIDEST, _NARROWEST))
    for width in range(widest, narrowest - 1, -max(narrowest // 8, 1)):
        if (found := _air(values[:, :width], noise, flats)) is not None:
            return found
    return None


def _air(part: Values, noise: float, flats: float) -> _Side | None:
    """Columns (angle, column) as air where they are alike in all projections; else None."""
    usable = np.isfinite(part).mean(axis=0) > 0.5
    if usable.sum() < _FEWEST:
        return None
    part = part[:, usable]
    level = _median(part.T)
    if not (level > 0).mean() >= _STRAY:
        return None
    relative = part / level[:, None]
    pattern = _median(relative)
    stray = np.abs(relative - pattern)
    spread = MAD_TO_SD * _median(stray)
    of_pattern = noise * math.sqrt(1 / flats + 2 / len(part))
    # Views in which a sample moved into the air, or spikes are half of it.
    alike = _median(stray.T) <= _SPREAD * noise + _STEADY
    n = len(pattern)
    place = (np.arange(n) - (n - 1) / 2) / n
    squares = float(place @ place)
    trend = float(place @ pattern) / squares
    stripes = float(np.std(pattern - pattern.mean() - trend * place))
    error = max(of_pattern, stripes) / math.sqrt(squares)
    flat = (
        np.quantile(np.abs(pattern - 1), _MOST) <= _FLAT + _ERRORS * of_pattern
        and abs(trend) <= _TREND + _ERRORS * error
        and np.quantile(spread, _MOST) <= _SPREAD * noise + _STEADY
        and np.nanquantile(stray, _STRAY) <= _ERRORS * noise + _STEADY
        and alike.mean() >= _STRAY
    )
    if not flat:
        return None
    views = np.arange(len(level))
    level = np.interp(views, views[alike], level[alike])
    return _Side(level, n, -trend, error)


def _median(values: Values) -> Values:
    """Median over the first axis; NaN where there are no values."""
    return frame_statistics.median(values.astype(np.float32)).astype(np.float64)
