"""Verdict of a calibration: passed, failed or not tested, in words, with the power of the test."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.special import ndtr, ndtri

from tiltkit.calibration.exchange import Curve, central_intervals, main_interval
from tiltkit.calibration.functionals import GROUPS
from tiltkit.calibration.regions import ALL

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["BLIND", "Spread", "Verdict", "judge", "spread_of"]

Status = Literal["passed", "failed", "not tested"]

BLIND = (
    "Posterior SBC cannot see a wrong spread where the data of the scan say nothing, nor faults"
    " that act like another prior."
)
"""The limit of the test, which every passed posterior SBC repeats."""

# A region is tested where no spread beyond these limits, over the right one, agrees with its ranks:
# a spread 1.25 times too wide or too narrow would have shown.
_NARROWEST, _WIDEST = 0.8, 1.25
# A share of a region's pixels that is off by less is no fault, however sure it is.
_NEGLIGIBLE = 0.03
# Spreads over the right one that are tried.
_SPREADS = np.geomspace(0.1, 10.0, 1601)


@dataclass(frozen=True, slots=True)
class Spread:
    """Coverage of the intervals nearest to 90 % in a region, and the spreads that agree with it.

    Attributes:
        name: The region.
        nominal: Exact coverage of these intervals under a right sampler.
        coverage: Share of true pixels inside them.
        band: Lower and upper limit of that share under a right sampler.
        low: Smallest spread of samples, over the right one, that agrees with the share; NaN where
            none does.
        high: Largest one; infinite where any larger one agrees.
    """

    name: str
    nominal: float
    coverage: float
    band: tuple[float, float]
    low: float
    high: float

    @property
    def tested(self) -> bool:
        """True where a spread off by more than a factor of 1.25 would have shown."""
        return self.low >= _NARROWEST and self.high <= _WIDEST


@dataclass(frozen=True, slots=True)
class Verdict:
    """Result of a calibration.

    Attributes:
        status: ``passed``, ``failed`` or ``not tested``.
        text: One to three sentences for people.
        p_value: Share of exchanges of truth and samples that deviate as much.
        spreads: One record for each region with pixels.
    """

    status: Status
    text: str
    p_value: float
    spreads: tuple[Spread, ...]


def spread_of(curve: Curve, samples: int, gain: float) -> Spread:
    """Range of the spread of samples, over the right one, that agrees with a curve.

    A spread ``c`` times the right one acts on ranks like one of ``(1 - g + g / c^2)^(-1/2)``. In
    posterior SBC ``g`` is the share of the variance that the second measurement removes: where data
    say nothing, the drawn truth is as narrow as the samples and nothing shows. With reference
    images ``g`` is 1. The relation between spread and coverage is that of normal distributions.

    Args:
        curve: Statistics of the region.
        samples: Number of samples of a draw.
        gain: ``g`` of the region, in [0, 1].
    """
    k = main_interval(samples)
    nominal = float(central_intervals(samples)[k])
    z = float(ndtri((1 + nominal) / 2))
    visible = (1 - gain + gain / _SPREADS**2) ** -0.5
    predicted = nominal + 2 * (ndtr(z * visible) - ndtr(z))
    low_band, high_band = (float(v) for v in curve.coverage_band[:, k])
    coverage = float(curve.coverage[k])
    below, above = nominal - low_band, high_band - nominal
    agrees = (coverage >= predicted - below) & (coverage <= predicted + above)
    good = _SPREADS[agrees]
    low = float(good[0]) if len(good) else math.nan
    high = float(good[-1]) if len(good) else math.nan
    high = math.inf if high == _SPREADS[-1] else high
    low = 0.0 if low == _SPREADS[0] else low
    return Spread(curve.name, nominal, coverage, (low_band, high_band), low, high)


def judge(
    curves: Sequence[Curve], p_value: float, samples: int, gains: Mapping[str, float], draws: int
) -> Verdict:
    """Judge the ranks of all draws.

    Args:
        curves: From `tiltkit.calibration.exchange.exchange_test`.
        p_value: Of the largest deviation.
        samples: Number of samples of a draw.
        gains: See `spread_of`, by region.
        draws: Number of draws.
    """
    regions = [curve for curve in curves if curve.name in gains]
    spreads = tuple(spread_of(curve, samples, gains[curve.name]) for curve in regions)
    by_name = {one.name: one for one in spreads}
    off = sorted(
        (one for one in curves if _is_off(one, gains)), key=lambda one: _rank(one, by_name)
    )
    if off:
        first, *others = [_fault(curve, by_name) for curve in off]
        also = f" Also off: {', '.join(curve.name for curve in off[1:])}." if others else ""
        return Verdict("failed", f"{first}{also}", p_value, spreads)
    whole = next(one for one in spreads if one.name == ALL)
    if not whole.tested:
        text = (
            f"Not enough to tell: after {draws} draw{'s' * (draws != 1)} all spreads of samples"
            f" {_range(whole)} of the right one agree with the ranks."
        )
        more = f"{text} More draws narrow this."
        return Verdict("not tested", more, p_value, spreads)
    blind = " " + BLIND if gains[ALL] < 1 else ""
    return Verdict("passed", _passed(whole, spreads) + blind, p_value, spreads)


def _rank(curve: Curve, spreads: Mapping[str, Spread]) -> tuple[bool, bool, float]:
    """Order of faults: wrong coverage of a region first, then functions, then the rest."""
    one = spreads.get(curve.name)
    covered = one is None or one.band[0] <= one.coverage <= one.band[1]
    return covered, one is not None, -curve.score


def _is_off(curve: Curve, regions: Container[str]) -> bool:
    """True outside of a band; for regions only where a share is off by `_NEGLIGIBLE` or more."""
    if curve.score <= 1 or curve.name not in regions:
        return curve.score > 1
    n = len(curve.cumulative)
    pairs = (
        (curve.coverage, central_intervals(n), curve.coverage_band),
        (curve.cumulative, np.arange(1, n + 1) / (n + 1), curve.cumulative_band),
    )
    return any(
        bool(((np.abs(found - exact) >= _NEGLIGIBLE) & ((found < low) | (found > high))).any())
        for found, exact, (low, high) in pairs
    )


def _passed(whole: Spread, spreads: Sequence[Spread]) -> str:
    """The sentences of a calibration without a fault."""
    margin = max(1 / whole.low, whole.high) - 1
    text = (
        f"Well calibrated within {_percent(math.ceil(100 * margin) / 100)}: intervals of"
        f" {_percent(whole.nominal)} hold {_percent(whole.coverage, 1)} of the pixels"
        f" ({_band(whole)} if right). Spreads of samples below {whole.low:.2f} or above"
        f" {whole.high:.2f} of the right one would have shown."
    )
    weak = [one.name for one in spreads if not one.tested]
    return text + (f" Not tested by themselves: {', '.join(weak)}." if weak else "")


def _fault(curve: Curve, spreads: Mapping[str, Spread]) -> str:
    """A sentence on one region or group that is off."""
    if curve.name not in spreads:
        about = GROUPS.get(curve.name, curve.name)
        k = _worst(curve.cumulative, curve.cumulative_band)
        low, high = curve.cumulative_band[:, k]
        share = (k + 1) / (len(curve.cumulative) + 1)
        found = f"{_percent(curve.cumulative[k])} of ranks are among the lowest {_percent(share)}"
        found += f" ({_percent(low)} to {_percent(high)} if right)."
        if curve.name == "likelihood":
            worse = "worse" if curve.cumulative[k] < low else "better"
            return f"Samples fit the simulated data {worse} than the known images do: {found}"
        return f"Ranks of {about} are not uniform: {found}"
    one = spreads[curve.name]
    where = "" if one.name == ALL else f" in the region {one.name}"
    held = (
        f"those of {_percent(one.nominal)} hold {_percent(one.coverage, 1)} ({_band(one)} if right)"
    )
    if not one.band[0] <= one.coverage <= one.band[1]:
        word = "narrow" if one.coverage < one.band[0] else "wide"
        agree = (
            ""
            if math.isnan(one.low)
            else f" Spreads of samples {_range(one)} of the right one agree with that."
        )
        return f"Intervals are too {word}{where}: {held}.{agree}"
    below = float(curve.cumulative[(len(curve.cumulative) - 1) // 2])
    return (
        f"Samples are shifted or have a wrong shape{where}: {_percent(below)} of the true pixels"
        f" are in the lower half of the ranks, and of intervals {held}."
    )


def _worst(values: NDArray[np.float64], band: NDArray[np.float64]) -> int:
    """Index of the value that is farthest outside of its band."""
    return int(np.argmax(np.maximum(band[0] - values, values - band[1])))


def _range(one: Spread) -> str:
    if math.isinf(one.high):
        return f"above {one.low:.2f}"
    return f"from {one.low:.2f} to {one.high:.2f}" if one.low else f"below {one.high:.2f}"


def _band(one: Spread) -> str:
    return f"{100 * one.band[0]:.1f} to {_percent(one.band[1], 1)}"


def _percent(share: float, digits: int = 0) -> str:
    return f"{100 * share:.{digits}f} %"
