"""Tests of ranks against the samples in the place of the truth: bands, curves, spread.

For each draw one of its members, truth or sample, is taken at random; statistics of these ranks
have the distribution that a right sampler gives them. Bands are simultaneous over all statistics,
as those of Saeilynoja, Buerkner and Vehtari (Statistics and Computing 2022, arXiv:2103.10522).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tiltkit.calibration.ranks import Ranks

__all__ = ["Curve", "central_intervals", "exchange_test", "main_interval"]

# Random exchanges, and the probability that a right sampler stays within all bands.
_EXCHANGES, _LEVEL = 4000, 0.95


@dataclass(frozen=True, slots=True)
class Curve:
    """Statistics of the ranks of one region or group of functions, with their bands.

    Attributes:
        name: Region or group.
        weight: Mean number of pixels or functions per draw.
        coverage: Share of true values in each central interval (interval,).
        coverage_band: Lower and upper limit (2, interval).
        coverage_error: Standard deviation under a right sampler (interval,).
        cumulative: Share of ranks up to each rank (rank,).
        cumulative_band: Lower and upper limit (2, rank).
        shares: Share of each rank (rank + 1,): the rank histogram.
        shares_band: Lower and upper limit (2, rank + 1).
        score: Largest deviation over its limit; above 1 outside of a band.
    """

    name: str
    weight: float
    coverage: NDArray[np.float64]
    coverage_band: NDArray[np.float64]
    coverage_error: NDArray[np.float64]
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
    found = {name: _statistics(table, picks) for name, table in tables.items()}
    # The mean under exchange is exact: the ranks of all members together are uniform.
    exact = _shares(np.ones((1, members)))[0]
    errors = {name: np.sqrt(np.square(null - exact).mean(0)) for name, (_, null) in found.items()}
    scores = {n: _scaled(real - exact, errors[n]) for n, (real, _) in found.items()}
    nulls = np.max([_scaled(null - exact, errors[n]).max(1) for n, (_, null) in found.items()], 0)
    limit = float(np.quantile(nulls, _LEVEL))
    worst = max(float(score.max()) for score in scores.values())
    p = float((1 + (nulls >= worst).sum()) / (1 + len(nulls)))
    curves = []
    for name, (real, _) in found.items():
        band = np.clip(exact + np.outer((-1, 1), limit * errors[name]), 0, 1)
        weight = float(tables[name][:, 0].sum(1).mean())
        score = float(scores[name].max()) / limit
        curves.append(_curve(name, weight, real, band, errors[name], score, members))
    return curves, p


def _tables(draws: Sequence[Ranks], rows: Sequence[str]) -> Mapping[str, NDArray[np.float64]]:
    """Counts (draw, member, rank) by region and group; empty ones are left out."""
    pixels = np.stack([one.pixels for one in draws])
    tables = {name: pixels[:, :, k] for k, name in enumerate(rows)}
    for name in draws[0].groups:
        tables[name] = np.stack([one.groups[name] for one in draws])
    return {name: table for name, table in tables.items() if table.any()}


def _statistics(
    table: NDArray[np.float64], picks: NDArray[np.integer[Any]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Statistics (statistic,) of the truth, and (exchange, statistic) of picked members."""
    draws = np.arange(len(table))
    real = _shares(table[:, 0].sum(0, keepdims=True))[0]
    null = np.zeros((len(picks), table.shape[2]))
    for draw in draws:
        null += table[draw, picks[:, draw]]
    return real, _shares(null)


def _shares(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coverage of central intervals, cumulative shares and shares, of counts (..., rank)."""
    shares = counts / counts.sum(-1, keepdims=True)
    cumulative = np.cumsum(shares, -1)
    half = (shares.shape[-1] - 1) // 2
    # ranks j to n - j lie within the interval from the j-th smallest sample to the j-th largest
    coverage = [cumulative[..., -1 - j] - cumulative[..., j - 1] for j in range(1, half + 1)]
    return np.concatenate([np.stack(coverage, -1), cumulative[..., :-1], shares], -1)


def _scaled(deviation: NDArray[np.float64], error: NDArray[np.float64]) -> NDArray[np.float64]:
    """Absolute deviation in standard deviations; 0 where nothing varies."""
    size = np.abs(deviation)
    return np.divide(size, error, out=np.zeros_like(size), where=error > 1e-12)


def _curve(
    name: str,
    weight: float,
    real: NDArray[np.float64],
    band: NDArray[np.float64],
    error: NDArray[np.float64],
    score: float,
    members: int,
) -> Curve:
    """Divide the statistics of `_shares`."""
    ends = [(members - 1) // 2, (members - 1) // 2 + members - 1]
    (coverage, cumulative, shares) = np.split(real, ends)
    (coverage_band, cumulative_band, shares_band) = np.split(band, ends, axis=1)
    return Curve(
        name, weight, coverage, coverage_band, error[: ends[0]], cumulative, cumulative_band,
        shares, shares_band, score,
    )  # fmt: skip
