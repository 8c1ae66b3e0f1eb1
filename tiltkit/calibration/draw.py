"""One draw of a calibration: a known image, data simulated from it, samples given the data, ranks.

In posterior simulation-based calibration (Saeilynoja, Schmitt, Buerkner and Vehtari,
arXiv:2502.03279) the known image is a posterior sample of the scan, and samples are drawn given the
scan's data and the simulated data together. Under a right sampler the known image is one more such
sample. With a reference image samples are drawn given the simulated data alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tiltkit.calibration.conformal import exceedance
from tiltkit.calibration.functionals import functions_of, tolerance
from tiltkit.calibration.ranks import Ranks, rank_counts
from tiltkit.calibration.regions import Regions, segment
from tiltkit.likelihoods import combine, remeasure, simulate

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from tiltkit.posterior.outcome import Outcome
    from tiltkit.problem import Problem

__all__ = ["Draw", "generators", "measured", "ranked", "with_both", "with_other"]

# Regions from the mean of an image.
Divide = Callable[["NDArray[Any]"], Regions]


@dataclass(frozen=True, slots=True)
class Draw:
    """Ranks and coverage of one known image.

    Attributes:
        ranks: Ranks of the image, and of each sample in its place.
        gain: Mean share of a pixel's variance that the simulated data remove (row,), by region; 1
            for reference images.
        held: Share (row,) of pixels between the 5 % and 95 % quantiles that a result stores.
        exceedance: Shares (row, factor) of `tiltkit.calibration.conformal.exceedance`.
        seconds: Computing time.
    """

    ranks: Ranks
    gain: NDArray[np.float64]
    held: NDArray[np.float64]
    exceedance: NDArray[np.float64]
    seconds: float = 0.0


def generators(seed: int, number: int) -> tuple[torch.Generator, np.random.Generator]:
    """Random numbers of a draw: for noise, and for ties of ranks."""
    state = np.random.SeedSequence(seed, spawn_key=(number, 3))
    noise = int(state.generate_state(1, np.uint64)[0] >> np.uint64(1))
    return torch.Generator().manual_seed(noise), np.random.default_rng(state.spawn(1)[0])


def measured(problem: Problem, x: Tensor, *, seed: int, number: int) -> Tensor:
    """Simulate the data of a draw from its known image ``x`` (1, channel, *space).

    Raises:
        UsageError: The likelihood cannot simulate.
    """
    return simulate(problem.likelihood, x, generators(seed, number)[0])


def with_both(problem: Problem, y: Tensor) -> Problem:
    """The problem given its own data and those of a draw; see `with_other`."""
    return replace(problem, likelihood=combine(problem.likelihood, y), field_of_view=None)


def with_other(problem: Problem, y: Tensor) -> Problem:
    """The problem given the data of a draw in the place of its own.

    Pixels beyond the field of view count too: a right posterior covers them as often.
    """
    return replace(problem, likelihood=remeasure(problem.likelihood, y), field_of_view=None)


def ranked(
    problem: Problem,
    x: Tensor,
    outcome: Outcome,
    variance: NDArray[Any] | None = None,
    *,
    seed: int,
    number: int,
    draws: int,
    divide: Divide = segment,
) -> Draw:
    """Rank a known image among samples.

    Args:
        problem: The problem given the data of the draw alone, see `with_other`.
        x: The known image (1, channel, *space), in the prior's value range.
        outcome: Samples given the data of the draw, and in posterior SBC those of the scan too.
        variance: Posterior variance (*image) given the scan alone; None for reference images.
        seed: Of the calibration.
        number: Number of the draw.
        draws: Number of all draws.
        divide: Regions from a mean image.
    """
    ties = generators(seed, number)[1]
    truth = problem.to_image(x)[0].cpu().numpy()
    members = np.concatenate([truth[None], outcome.samples])
    # Truth and samples alike decide the regions: otherwise their ranks would not be exchangeable.
    regions = divide(members.mean(0))
    values = functions_of(members, regions, seed, ties, tolerance(draws))
    if outcome.particles is not None:
        values["likelihood"] = _log_likelihoods(
            problem, x, outcome.particles, ties, tolerance(draws)
        )
    own = divide(outcome.mean)
    low, *_, high = (outcome.quantiles[level] for level in sorted(outcome.quantiles))
    held = own.sums((low <= truth) & (truth <= high)) / np.maximum(own.sizes(), 1)
    return Draw(
        rank_counts(truth, outcome.samples, values, regions, ties),
        _gain(outcome.samples, variance, regions),
        held,
        exceedance(truth, outcome.mean, outcome.std, own),
    )


def _log_likelihoods(
    problem: Problem,
    x: Tensor,
    particles: NDArray[Any],
    rng: np.random.Generator,
    noise: float,
) -> NDArray[np.float64]:
    """Log-likelihoods (member, 1) of truth and samples, with noise, see `tolerance`.

    The mean potential of all members minus that of their mean is half the sum of their variances in
    the units of the noise.
    """
    images = [x, *(torch.from_numpy(one[None]).to(x) for one in particles)]
    with torch.inference_mode():
        values = np.array([float(problem.likelihood.potential(one)[0]) for one in images])
        middle = float(problem.likelihood.potential(torch.cat(images).mean(0, keepdim=True))[0])
    added = noise * abs(values.mean() - middle) * rng.standard_normal(len(values))
    found: NDArray[np.float64] = (added - values)[:, None]
    return found


def _gain(
    samples: NDArray[Any], variance: NDArray[Any] | None, regions: Regions
) -> NDArray[np.float64]:
    """Mean share (row,) of a pixel's variance that is gone, from 0 to 1.

    It is 1 without a variance before. The ratio of two sample variances of ``n`` samples is
    ``(n - 1) / (n - 3)`` times the true ratio on average.
    """
    n = len(samples)
    if variance is None or n < 4:
        return np.ones(len(regions.rows))
    after = samples.var(0, ddof=1) * (n - 3) / (n - 1)
    left = np.divide(after, variance, out=np.ones_like(after), where=variance > 0)
    return np.clip(1 - regions.sums(left) / np.maximum(regions.sizes(), 1), 0, 1)
