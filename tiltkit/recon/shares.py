"""Test of the shares of separate explanations among the samples of a run, by posterior SBC."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tiltkit.calibration.explanations import check_shares, shares_report
from tiltkit.errors import UsageError
from tiltkit.posterior.outcome import Outcome
from tiltkit.posterior.verdict import find_verdict
from tiltkit.posterior.warnings import find_warnings
from tiltkit.priors.wrapper import fallback_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tiltkit.problem import Problem

__all__ = ["with_shares_tested"]

# Further runs of a test: a share of ranks that is off by 0.3 then shows.
DRAWS = 32
# Fewest samples with ranks.
FEWEST_SAMPLES = 4


def with_shares_tested(
    outcome: Outcome, problem: Problem, solve: Callable[[Problem, int], Iterable[Any]], seed: int
) -> Outcome:
    """The outcome with a verdict on the shares; costs as much as 32 further runs.

    Args:
        outcome: Outcome of the run.
        problem: Its problem.
        solve: Steps of a run for another problem, the last of which is its `Outcome`; the number
            decides its seed.
        seed: Seed of simulated noise.
    """
    report = dict(outcome.diagnostics) | _tested(outcome, problem, solve, seed)
    report |= find_verdict(report).figures()
    cautions = find_warnings(report, fallback_of(problem.prior))
    return replace(outcome, diagnostics=report | {"warnings": cautions})


def _tested(
    outcome: Outcome, problem: Problem, solve: Callable[[Problem, int], Iterable[Any]], seed: int
) -> dict[str, Any]:
    """Figures of the test by name, or why there is none."""
    particles = outcome.particles
    if particles is None or len(particles) < FEWEST_SAMPLES:
        return {"shares_not_tested": f"a test needs {FEWEST_SAMPLES} samples or more"}

    def sample(other: Problem, number: int) -> Outcome:
        *_, last = solve(other, number)
        assert isinstance(last, Outcome)  # noqa: S101
        return last

    try:
        check = check_shares(problem, particles, sample, seed=seed, draws=DRAWS)
    except UsageError as error:  # this likelihood cannot be simulated
        return {"shares_not_tested": str(error)}
    text = check.text.removesuffix(".")
    # A passed test does not prove the shares right: see `check_shares`.
    return shares_report(replace(check, text=text)) or {"shares_not_tested": text}
