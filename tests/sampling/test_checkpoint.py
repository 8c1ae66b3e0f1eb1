"""A checkpoint goes on with the problem that made it, and with no other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tiltkit.likelihoods import GaussianLikelihood
from tiltkit.operators.compose import Pointwise
from tiltkit.posterior.outcome import Outcome
from tiltkit.priors.closed_form import Mixture
from tiltkit.problem import Constraint, Problem
from tiltkit.recon.solve import solve
from tiltkit.sampling import run as run_module
from tiltkit.sampling.problem_digest import digest_of
from tiltkit.sampling.run import Group
from tiltkit.sampling.samplers.walmc import Walmc, WalmcOptions
from tiltkit.sampling.target import Target

SHAPE = (1, 8, 8)
CPU = torch.device("cpu")


def problem_of(value: float = 1.0, gain: float = 1.0, noise: float = 0.01, spread: float = 1.0):
    prior = Mixture(torch.zeros(1, *SHAPE), spread, torch.ones(1), (0.01, 20.0))
    operator = Pointwise(gain * torch.ones(SHAPE))
    likelihood = GaussianLikelihood(operator, torch.full((1, *SHAPE), value), noise)
    return Problem(prior, likelihood, SHAPE, lambda x: x[:, 0], torch.zeros(8, 8))


def target_of(problem: Problem, n: int = 8) -> Target:
    return Target(problem, n, n)


def walmc(**options: Any) -> Walmc:
    return Walmc(WalmcOptions(**{"levels": 10, "collect": 1} | options))


def one_pixel(problem: Problem) -> Problem:
    y = problem.likelihood.y.clone()
    y[0, 0, 3, 3] += 1e-6
    return replace(problem, likelihood=replace(problem.likelihood, y=y))


def shifted(problem: Problem) -> Problem:
    prior = Mixture(torch.full((1, *SHAPE), 0.1), 1.0, torch.ones(1), (0.01, 20.0))
    return replace(problem, prior=prior)


def doubled(problem: Problem) -> Problem:
    prior = Mixture(torch.zeros(1, *SHAPE).double(), 1.0, torch.ones(1).double(), (0.01, 20.0))
    operator, y = Pointwise(torch.ones(SHAPE).double()), problem.likelihood.y.double()
    return replace(problem, prior=prior, likelihood=GaussianLikelihood(operator, y, 0.01))


def known_outside(problem: Problem) -> Problem:
    support = torch.ones(SHAPE, dtype=torch.bool)
    support[0, 0, 0] = False
    return replace(problem, constraint=Constraint(support=support))


CHANGES: dict[str, Callable[[Problem], Problem]] = {
    "data": lambda _: problem_of(-1.0),
    "one value of the data": one_pixel,
    "noise": lambda _: problem_of(noise=0.0101),
    "operator": lambda _: problem_of(gain=1.001),
    "spread of the prior": lambda _: problem_of(spread=1.05),
    "mean of the prior": shifted,
    "units": lambda problem: replace(problem, to_image=lambda x: 2 * x[:, 0]),
    "sign": lambda problem: replace(
        problem, constraint=Constraint(nonnegative=True)
    ),
    "support": known_outside,
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_every_part_of_a_problem_counts(change: str) -> None:
    first, sampler = digest_of(target_of(problem_of()), walmc(), (0,)), walmc()
    other = digest_of(target_of(CHANGES[change](problem_of())), sampler, (0,))
    assert not first.matches(other.sha256, other.operator, other.prior)


def test_settings_seed_number_and_type_count() -> None:
    problem = problem_of()
    first = digest_of(target_of(problem), walmc(), (0,))
    again = digest_of(target_of(problem_of()), walmc(), (0,))
    assert first.matches(again.sha256, again.operator, again.prior)
    others = [
        digest_of(target_of(problem), walmc(levels=11), (0,)),
        digest_of(target_of(problem), walmc(), (1,)),
        digest_of(target_of(problem), walmc(), (0, 1)),
        digest_of(target_of(problem, 9), walmc(), (0,)),
        digest_of(replace(target_of(doubled(problem)), dtype=torch.float64), walmc(), (0,)),
    ]
    assert not any(first.matches(o.sha256, o.operator, o.prior) for o in others)


def test_rounding_of_another_order_of_sums_does_not_count() -> None:
    first = digest_of(target_of(problem_of()), walmc(), (0,))
    operator = [value * (1 + 3e-6) for value in first.operator]
    prior = [value * (1 - 3e-5) for value in first.prior]
    assert first.matches(first.sha256, operator, prior)


def start(problem: Problem, path: Path | None, levels: int = 10):
    return solve([problem], walmc(levels=levels), seed=(0,), n=8, devices=[CPU], checkpoint=path)


def last(steps: Any) -> Outcome:
    *_, outcome = steps
    assert isinstance(outcome, Outcome)
    return outcome


@pytest.mark.parametrize("levels", [10, 12])
def test_a_checkpoint_of_other_data_or_settings_is_not_taken(tmp_path: Path, levels: int) -> None:
    last(start(problem_of(1.0), tmp_path / "checkpoint"))
    found = last(start(problem_of(-1.0), tmp_path / "checkpoint", levels))
    assert (found.samples == last(start(problem_of(-1.0), None, levels)).samples).all()


def test_the_digest_is_not_asked_for_where_there_is_no_checkpoint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_arguments: object) -> None:
        raise AssertionError("two network calls for nothing")

    monkeypatch.setattr(run_module, "digest_of", fail)
    last(start(problem_of(), None))


@pytest.mark.parametrize("stop", [KeyboardInterrupt, MemoryError])
def test_an_interrupt_in_the_middle_of_a_level_is_not_saved_with_half_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: type[BaseException]
) -> None:
    whole, path = last(start(problem_of(), None)), tmp_path / "checkpoint"
    real, seen = Group._take_in, []

    def interrupted(self: Group, state: Any, info: Any) -> None:
        real(self, state, info)
        seen.append(info)
        if len(seen) == 11:  # the statistics have it, the random numbers are not noted
            raise stop

    with monkeypatch.context() as patch:
        patch.setattr(Group, "_take_in", interrupted)
        with pytest.raises(stop):
            last(start(problem_of(), path))
    resumed = last(start(problem_of(), path))
    assert (resumed.samples == whole.samples).all()
    assert (resumed.mean == whole.mean).all()
    assert (resumed.std == whole.std).all()


def test_an_error_leaves_the_last_whole_level(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint"
    monkeypatch.setattr("time.perf_counter", lambda: 0.0)  # saves at every level else
    real, calls = Walmc.step, []

    def failing(self: Walmc, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 6:
            raise MemoryError
        return real(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Walmc, "step", failing)
        with pytest.raises(MemoryError):
            last(start(problem_of(), path))
    steps = list(start(problem_of(), path))
    assert len(steps) == len(list(start(problem_of(), None))) - 6
