"""Posterior SBC of a small problem within a run: do shares of explanations follow the data?"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tiltkit.calibration.draw import measured, ranked, with_both, with_other
from tiltkit.calibration.exchange import Curve, exchange_test
from tiltkit.calibration.functionals import GROUPS
from tiltkit.calibration.regions import Regions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tiltkit.calibration.verdict import Status
    from tiltkit.posterior.outcome import Outcome
    from tiltkit.problem import Problem

__all__ = ["SMALL", "SharesCheck", "check_shares", "shares_report"]

SMALL = 4096
"""Number of values of an image up to which a run with a cheap prior can afford `check_shares`."""

# Groups of functions that react to shares of separate explanations.
_GROUPS = ("components", "projections", "likelihood")
# The test has power if a cumulative share of ranks off by this much would have shown.
_LARGEST_SHARE = 0.3


@dataclass(frozen=True, slots=True)
class SharesCheck:
    """Result of posterior SBC on scalar functions.

    Attributes:
        status: ``failed``; ``passed`` where no fault was found; ``not tested`` without power.
        text: A sentence or two for people.
        p_value: Share of exchanges of truth and samples that deviate as much.
        detectable: Error of a cumulative share of ranks that would have shown.
        draws: Number of draws.
    """

    status: Status
    text: str
    p_value: float
    detectable: float
    draws: int


def check_shares(
    problem: Problem,
    particles: NDArray[Any],
    sample: Callable[[Problem, int], Outcome],
    *,
    seed: int,
    draws: int = 32,
) -> SharesCheck:
    """Posterior SBC with the samples of a run; costs ``draws`` further runs.

    A sampler that ignores the data when it chooses between explanations gives uniform ranks of all
    image values, but not of the log-likelihood: this fault shows. Two others do not, so that a
    passed check does not prove the shares right: an explanation that the sampler never finds, and a
    constant factor on the odds of two explanations, which is right under another prior.

    Args:
        problem: The problem of the run.
        particles: Its samples (n, channel, *space) in the prior's value range, n at least 4.
        sample: Samples a problem with a number, which decides its seed: one of a draw, or a
            negative one for a further run where there are more draws than samples. It gives as many
            samples each time, with `Outcome.particles`.
        seed: Of noise and choice.
        draws: Number of draws.
    """
    runs = range(1, math.ceil(draws / len(particles)))
    particles = np.concatenate([particles, *(_particles(sample(problem, -k)) for k in runs)])
    order = np.random.default_rng([seed, 4]).permutation(len(particles))[:draws]
    found = []
    for number, k in enumerate(order.tolist()):
        x = torch.from_numpy(particles[k : k + 1])
        y = measured(problem, x, seed=seed, number=number)
        outcome = sample(with_both(problem, y), number)
        draw = ranked(
            with_other(problem, y),
            x,
            outcome,
            seed=seed,
            number=number,
            draws=len(order),
            divide=_undivided,
        )
        groups = {name: draw.ranks.groups[name] for name in _GROUPS if name in draw.ranks.groups}
        found.append(replace(draw.ranks, groups=groups))
    curves, p = exchange_test(found, (), seed)
    return _judge(curves, p, len(order))


def shares_report(check: SharesCheck) -> dict[str, Any]:
    """The figures of a certificate from which `tiltkit.posterior.verdict` makes its global half.

    Only a failed check gives any: a passed one does not prove the shares right, see `check_shares`.
    """
    if check.status != "failed":
        return {}
    return {"shares_test": check.text, "shares_failed": True}


def _particles(outcome: Outcome) -> NDArray[np.float32]:
    assert outcome.particles is not None  # noqa: S101  (see `check_shares`)
    return outcome.particles


def _undivided(mean: NDArray[Any]) -> Regions:
    """One region for all pixels."""
    return Regions(("image",), np.zeros(mean.shape, np.uint8))


def _judge(curves: list[Curve], p: float, draws: int) -> SharesCheck:
    worst = max(curves, key=lambda curve: curve.score)
    middle = [curve.cumulative_band[:, len(curve.cumulative) // 2] for curve in curves]
    detectable = max((float(high - low) / 2 for low, high in middle), default=math.inf)
    if worst.score > 1:
        text = f"Posterior SBC: ranks of {GROUPS[worst.name]} are not uniform in {draws} draws."
        return SharesCheck("failed", text, p, detectable, draws)
    if detectable > _LARGEST_SHARE:
        text = f"Posterior SBC: {draws} draws are too few to tell."
        return SharesCheck("not tested", text, p, detectable, draws)
    text = (
        f"Posterior SBC: no fault in {draws} draws; cumulative ranks off by {detectable:.2f} would"
        " have shown. A constant preference for one explanation would not."
    )
    return SharesCheck("passed", text, p, detectable, draws)
