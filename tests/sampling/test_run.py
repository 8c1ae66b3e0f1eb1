"""Driving a sampler: one state per level, and errors for wrong operators."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch

from tiltkit.errors import TiltkitError
from tiltkit.sampling.particles.rng import ParticleRng
from tiltkit.sampling.run import run
from tiltkit.sampling.samplers.almc import Almc, AlmcOptions
from tiltkit.sampling.samplers.walmc import Walmc, WalmcOptions
from tiltkit.sampling.target import Target, chunk_size
from tiltkit.testing.known import make_known


def start(n=6, **options):
    mean = torch.zeros(1, 4, dtype=torch.float64)
    known = make_known(mean, 1.0, data=2, noise=0.5, seed=0, sigma_range=(0.01, 20.0))
    target = Target(known.problem, n, n, dtype=torch.float64)
    return target, Walmc(WalmcOptions(**options)), ParticleRng([0], n, target.device)


def test_every_level_gives_one_state_and_the_last_ones_are_samples():
    target, sampler, rng = start(levels=7, collect=3)
    steps = list(run(target, sampler, rng))
    levels = [info.noise_level for _, info in steps]
    assert levels == sampler.levels(target) == [state.level for state, _ in steps]
    assert [info.final for _, info in steps] == [False] * 7 + [True] * 3


class NumpyLevels(Almc):
    """Noise levels as numpy numbers, as a schedule from `numpy.geomspace` gives them."""

    def next_level(self, target, state, infos):
        level = super().next_level(target, state, infos)
        return None if level is None else np.float64(level)


def test_levels_of_numpy_numbers_give_infos_that_json_can_store():
    target, _, rng = start()
    infos = [info for _, info in run(target, NumpyLevels(AlmcOptions(reports=4, collect=1)), rng)]
    assert json.loads(json.dumps([asdict(info) for info in infos]))[-1]["final"] is True


def test_samples_have_equal_weights():
    *_, (state, _) = run(*start(levels=7, collect=1))
    assert state.log_weight.unique().numel() == 1


def test_levels_are_computed_one_at_a_time_on_demand():
    target, sampler, rng = start(levels=7)
    steps = run(target, sampler, rng)
    assert target.network_calls == 0
    next(steps)
    first = target.network_calls
    next(steps)
    assert 0 < first < target.network_calls


def test_a_run_that_is_left_early_can_be_started_again_with_the_same_numbers():
    whole = [state.c for state, _ in run(*start(levels=5))]
    again = run(*start(levels=5))
    assert torch.equal(next(again)[0].c, whole[0])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_an_operator_that_returns_nan_stops_the_run(bad):
    target, sampler, rng = start(levels=5)
    object.__setattr__(target.problem.likelihood, "y", torch.full((1, 2), bad).double())
    with pytest.raises(TiltkitError, match="NaN or infinite at noise level 20"):
        next(run(target, sampler, rng))


def test_a_likelihood_without_approximation_is_an_error_that_names_another_sampler():
    target, sampler, rng = start(levels=5)
    object.__setattr__(target.problem, "likelihood", object())
    with pytest.raises(TiltkitError, match="Gaussian likelihood, not object") as caught:
        next(run(target, sampler, rng))
    assert "almc" in caught.value.hint


@pytest.mark.parametrize(
    ("memory_gb", "expected"), [(1e-9, 1), (1000.0, 16)], ids=["little", "plenty"]
)
def test_chunks_hold_at_least_one_and_at_most_all_particles(memory_gb, expected):
    assert chunk_size((2, 256, 256), 16, memory_gb) == expected


def test_chunks_cover_all_particles_once():
    target, _, _ = start(n=10)
    target.chunk = 4
    covered = [i for rows in target.chunks() for i in range(10)[rows]]
    assert covered == list(range(10))
