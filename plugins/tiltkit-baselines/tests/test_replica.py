"""Replica exchange: exact Gaussian posteriors, and the mode weights that annealing gets wrong."""

from __future__ import annotations

import math

import pytest
import torch
from tiltkit_baselines.exchange import Chain, swap_by_line
from tiltkit_baselines.pula import Pula, PulaOptions
from tiltkit_baselines.replica import Replica, ReplicaOptions

from tiltkit.posterior.certificate import ladder_report
from tiltkit.sampling.particles.rng import ParticleRng
from tiltkit.sampling.run import Group, run
from tiltkit.sampling.samplers.almc import Almc, AlmcOptions
from tiltkit.sampling.target import Target
from tiltkit.testing.known import make_known

BOTH = pytest.mark.parametrize("swap", ["kernel", "line"])


def gaussian():
    mean = torch.linspace(-1, 1, 4, dtype=torch.float64)[None]
    return make_known(mean, 0.5, data=2, noise=0.3, seed=3, sigma_range=(0.1, 2.0))


def three_modes():
    """Modes that separate while they are annealed; the first has three quarters."""
    means = torch.tensor([[-3.0, 0.0], [3.0, 0.0], [0.0, 3.0]], dtype=torch.float64)
    return make_known(means, 0.15, data=1, noise=1.0, seed=5, sigma_range=(0.1, 10.0))


def finished(known, sampler, *, n=500, chunk=None, seed=0):
    target = Target(known.problem, n, chunk or n, dtype=torch.float64)
    steps = list(run(target, sampler, ParticleRng([seed], n, target.device)))
    return sampler.images(target, steps[-1][0]), [info for _, info in steps], target


def replica(**options):
    return Replica(ReplicaOptions.model_validate({"collect": 1} | options))


@BOTH
def test_a_gaussian_keeps_its_mean_and_spread(swap):
    known, n = gaussian(), 1000
    options = {"levels": 20, "rounds": 20} if swap == "kernel" else {"levels": 8, "rounds": 40}
    x, _, target = finished(known, replica(swap=swap, nodes=3, moves=3, **options), n=n)
    tau = target.problem.prior.sigma_range[0]
    matrix = known.problem.likelihood.operator.matrix
    precision = torch.eye(4).double() / (0.5 + tau**2) + matrix.T @ matrix / 0.3**2
    std = torch.linalg.inv(precision).diagonal().sqrt()
    assert ((x.mean(0) - known.means[0]) / std).abs().max() < 5 / n**0.5
    assert (x.std(0) / std).mean() == pytest.approx(1, abs=0.06)


def weight_error(known, x):
    """Total variation between the shares of the modes and their exact weights."""
    nearest = torch.cdist(x, known.means).argmin(1)
    shares = torch.bincount(nearest, minlength=len(known.weights)) / len(x)
    return float((shares - known.weights).abs().sum() / 2)


@pytest.mark.parametrize(
    "annealing",
    [
        Pula(PulaOptions(levels=60)),
        Almc(AlmcOptions(T=2.0, tau=0.02, reports=10)),
    ],
    ids=["pula", "almc"],
)
def test_annealing_without_weights_leaves_modes_with_wrong_weights(annealing):
    known = three_modes()
    assert weight_error(known, finished(known, annealing)[0]) > 0.1


@pytest.mark.parametrize(
    "options",
    [{"levels": 14}, {"levels": 10, "swap": "line", "nodes": 21}],
    ids=["kernel", "line"],
)
def test_exchange_gives_the_modes_that_annealing_got_wrong_their_exact_weights(options):
    known = three_modes()
    x, _, _ = finished(known, replica(rounds=80, **options))
    assert weight_error(known, x) < 0.06


def test_line_integrals_give_the_exact_density_ratio_of_gaussians():
    """Simpson's rule is exact for Gaussians, so that accepted swaps follow the closed form."""
    known, n = gaussian(), 4000
    target = Target(known.problem, n, n, dtype=torch.float64)
    rng, rows = ParticleRng([0], n, target.device), slice(0, n)
    a, b, x_hot, x_cold = 0.9, 0.5, torch.full((1, 4), 0.8), torch.full((1, 4), 0.2)

    def chain(x, level):
        c = target.conditioning.coordinates(x.double().expand(n, 4))
        score = target.conditioning.coordinates(
            target.problem.prior.score(x.double(), level)
        ).expand(n, 4)
        return Chain(c, score, level, level / 2)

    _, accepted = swap_by_line(target, chain(x_hot, a), chain(x_cold, b), 3, rng, rows)
    matrix, mean = known.problem.likelihood.operator.matrix, known.problem.prior.means[0]

    def log_density(x, level):
        prior = -0.5 * (x.double() - mean).square().sum() / (0.5 + level**2)
        spread = 0.09 * torch.eye(2).double() + (level / 2) ** 2 * matrix @ matrix.T
        residual = (known.problem.likelihood.y - x.double() @ matrix.T)[0]
        return prior - 0.5 * residual @ torch.linalg.solve(spread, residual)

    log_ratio = (
        log_density(x_cold, a) + log_density(x_hot, b)
        - log_density(x_hot, a) - log_density(x_cold, b)
    )  # fmt: skip
    assert float(accepted.double().mean()) == pytest.approx(min(1, math.exp(log_ratio)), abs=0.04)
    assert log_ratio < -0.1  # not all of them swap


@BOTH
def test_the_same_seed_gives_the_same_samples_for_any_chunk_size(swap):
    known, options = gaussian(), {"levels": 5, "rounds": 4, "swap": swap, "nodes": 3}
    whole, infos, _ = finished(known, replica(**options), n=12)
    for chunk in (1, 5):
        x, pieces, _ = finished(known, replica(**options), n=12, chunk=chunk)
        assert torch.allclose(x, whole, rtol=1e-9)
        assert pieces[-1].swaps[1::2] == pytest.approx(infos[-1].swaps[1::2], nan_ok=True)


def test_another_seed_gives_other_samples_and_the_global_generator_is_left_alone():
    known, before = gaussian(), torch.random.get_rng_state()
    first, second = (finished(known, replica(levels=4, rounds=2), n=5, seed=s)[0] for s in (1, 2))
    assert not torch.allclose(first, second)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_even_and_odd_pairs_are_tried_in_turn_and_the_report_has_all_rates():
    _, infos, target = finished(gaussian(), replica(levels=6, rounds=5, collect=2), n=40)
    tried = [[rate == rate for rate in info.swaps] for info in infos[1:]]
    assert tried[0] != tried[1] == tried[3]
    assert [sum(pair) for pair in zip(tried[0], tried[1], strict=True)] == [1] * 5
    report = ladder_report(infos, target.n, weighted=False)
    assert len(report["swap_rate"]) == 5
    assert 0 < report["swap_rate_min"] == min(report["swap_rate"]) <= 1


@pytest.mark.parametrize(("swap", "each"), [("kernel", 2), ("line", 2 * 5 - 2)])
def test_a_round_costs_its_moves_and_its_swaps(swap, each):
    known, options = gaussian(), {"levels": 6, "moves": 2, "swap": swap, "nodes": 5}
    calls = [finished(known, replica(rounds=r, **options), n=4)[2].network_calls for r in (1, 3)]
    assert (calls[1] - calls[0]) / 2 == pytest.approx(6 * 2 + each * 2.5)


def test_rounds_are_split_into_early_and_late_ones():
    where = Target(gaussian().problem, 2, 2, dtype=torch.float64)
    group = Group(where, replica(levels=3, rounds=4, collect=6), (0,), None)
    for _ in group.levels():
        pass
    assert [half.count for half in group.progress.halves] == [6, 6]


def test_only_rounds_after_the_first_ones_count_as_samples():
    _, infos, _ = finished(gaussian(), replica(levels=3, rounds=4, collect=2), n=2)
    assert [info.final for info in infos] == [False] * 5 + [True] * 2
