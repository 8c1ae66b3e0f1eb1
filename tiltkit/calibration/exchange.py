"""Tests of ranks against the samples in the place of the truth: bands, curves, spread.

For each draw one of its members, truth or sample, is taken at random; statistics of these ranks
have the distribution that a right sampler gives them. Bands are simultaneous over all statistics,
as those of Saeilynoja, Buerkner and Vehtari (Statistics and Computing 2022, arXiv:2103.10522).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tiltkit.calibration.ranks import Ranks

__all__ = ["Curve", "central_intervals", "exchange_test", "main_interval"]

# Random exchanges, and the probability that a right sampler stays within all bands.
_EXCHANGES, _LEVEL = 6000, 0.95
# Shares that differ by less are equal.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Curve:
    """Statistics of the ranks of one region or group of functions, with their bands.

    Attributes:
        name: Region or group.
        weight: Mean number of pixels or functions per draw.
        coverage: Share of true values in each central interval (interval,).
        coverage_band: Lower and upper limit (2, interval).
        cumulative: Share of ranks up to each rank (rank,).
        cumulative_band: Lower and upper limit (2, rank).
        shares: Share of each rank (rank + 1,): the rank histogram.
        shares_band: Lower and upper limit (2, rank + 1), simultaneous for all histograms.
        score: Limit of p-values over the smallest one; above 1 outside of a band.
    """

    name: str
    weight: float
    coverage: NDArray[np.float64]
    coverage_band: NDArray[np.float64]
    cumulative: NDArray[np.float64]
    cumulative_band: NDArray[np.float64]
    shares: NDArray[np.float64]
    shares_band: NDArray[np.float64]
    score: float


def central_intervals(samples: int) -> NDArray[np.float64]:
    """Exact coverage of the interval from sample ``j`` to ``n + 1 - j`` in rising order, from 1."""
    j = np.arange(1, samples // 2 + 1)
    return (samples + 1 - 2 * j) / (samples + 1)


def main_interval(samples: int) -> int:
    """Index of the central interval nearest to 90 %."""
    return int(np.argmin(np.abs(central_intervals(samples) - 0.9)))


def exchange_test(
    draws: Sequence[Ranks], rows: Sequence[str], seed: int
) -> tuple[list[Curve], float]:
    """Curves of all regions and groups, and the share of exchanges as extreme as the truth.

    Args:
        draws: Ranks of every draw, with equal numbers of samples.
        rows: Names of the regions.
        seed: Of the exchanges.

    Returns:
        The curves of regions and groups that have pixels or functions, and the p-value of the
        largest deviation of any of them.
    """
    tables = _tables(draws, rows)
    members = next(iter(tables.values())).shape[1]
    picks = np.random.default_rng([seed, 2]).integers(members, size=(_EXCHANGES, len(draws)))
    counts = {name: _picked(table, picks) for name, table in tables.items()}
    tested, p = _family(counts, _coverage_and_cumulative)
    histograms, _ = _family(counts, _shares)
    split = (members - 1) // 2
    curves = []
    for name, table in tables.items():
        one, shares = tested[name], histograms[name]
        curves.append(
            Curve(
                name, float(table[:, 0].sum(1).mean()),
                one.values[:split], one.band[:, :split], one.values[split:], one.band[:, split:],
                shares.values, shares.band, one.score,
            )
        )  # fmt: skip
    return curves, p


@dataclass(frozen=True, slots=True)
class _Tested:
    """Statistics of the truth with their simultaneous band (2, statistic).

    The score is the limit of p-values over the smallest p-value of these statistics.
    """

    values: NDArray[np.float64]
    band: NDArray[np.float64]
    score: float


def _family(
    counts: Mapping[str, NDArray[np.float64]],
    statistics: Callable[[NDArray[np.float64]], NDArray[np.float64]],
) -> tuple[dict[str, _Tested], float]:
    """Bands that a right sampler stays in with all statistics of all names together.

    Args:
        counts: Counts (exchange + 1, rank) by name; the first row is the truth.
        statistics: Statistics (..., statistic) of counts (..., rank).

    Returns:
        The tests by name, and the p-value of the truth for all statistics together.
    """
    found = {name: statistics(rows) for name, rows in counts.items()}
    smallest = {name: _p_values(values).min(1) for name, values in found.items()}
    least = np.min(list(smallest.values()), axis=0)
    limit = float(np.sort(least[1:])[int((1 - _LEVEL) * _EXCHANGES)])
    tested = {
        name: _Tested(rows[0], _band(rows[1:], limit), limit / float(smallest[name][0]))
        for name, rows in found.items()
    }
    return tested, float((least <= least[0]).mean())


def _p_values(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Two-sided p-values (row, statistic) of each row among all rows; at least 2 / rows."""
    p = np.empty_like(values)
    for k, column in enumerate(values.T):
        ordered = np.sort(column)
        below = np.searchsorted(ordered, column + _ROUNDING, side="right")
        above = len(column) - np.searchsorted(ordered, column - _ROUNDING, side="left")
        p[:, k] = 2 * np.minimum(below, above) / len(column)
    return p


def _band(nulls: NDArray[np.float64], limit: float) -> NDArray[np.float64]:
    """Values (2, statistic) between which p-values are at least ``limit``."""
    ordered = np.sort(nulls, axis=0)
    k = max(math.ceil(limit / 2 * len(ordered)), 1)
    return np.stack([ordered[k - 1], ordered[-k]])


def _tables(draws: Sequence[Ranks], rows: Sequence[str]) -> Mapping[str, NDArray[np.float64]]:
    """Counts (draw, member, rank) by region and group; empty ones are left out."""
    pixels = np.stack([one.pixels for one in draws])
    tables = {name: pixels[:, :, k] for k, name in enumerate(rows)}
    for name in draws[0].groups:
        tables[name] = np.stack([one.groups[name] for one in draws])
    return {name: table for name, table in tables.items() if table.any()}


def _picked(table: NDArray[np.float64], picks: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """Counts (exchange + 1, rank) over all draws: of the truth, then of picked members."""
    found = np.zeros((len(picks) + 1, table.shape[2]))
    for draw, counts in enumerate(table):
        found += counts[np.append(0, picks[:, draw])]
    return found


def _shares(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of each rank."""
    shares: NDArray[np.float64] = counts / counts.sum(-1, keepdims=True)
    return shares


def _coverage_and_cumulative(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coverage of central intervals, then cumulative shares of ranks."""
    cumulative = np.cumsum(_shares(counts), -1)
    half = (counts.shape[-1] - 1) // 2
    # ranks j to n - j lie within the interval from the j-th smallest sample to the j-th largest
    coverage = [cumulative[..., -1 - j] - cumulative[..., j - 1] for j in range(1, half + 1)]
    return np.concatenate([np.stack(coverage, -1), cumulative[..., :-1]], -1)
