"""Verdicts of whole runs where the exact posterior is known."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import tiltkit
from tiltkit.likelihoods import GaussianLikelihood, gaussian
from tiltkit.operators.compose import Pointwise
from tiltkit.posterior.stein import stein_report
from tiltkit.posterior.verdict import find_verdict
from tiltkit.posterior.warnings import find_warnings
from tiltkit.priors.closed_form import Mixture, SmoothGaussian
from tiltkit.problem import Problem
from tiltkit.recon.result import Result

SIDE = 32
PRIOR = SmoothGaussian(0.3, 2.0, 3.0, channels=2)


def codes(result: Result) -> set[str]:
    return {one.code for one in result.warnings}


def white(noise: float, seed: int, scale: float = 1.0) -> Problem:
    """White Gaussian images of unit variance, all pixels measured."""
    shape = (1, SIDE, SIDE)
    g = torch.Generator().manual_seed(seed)
    y = scale * torch.randn(1, *shape, generator=g) + noise * torch.randn(1, *shape, generator=g)
    prior = Mixture(torch.zeros(1, *shape), 1.0, torch.ones(1), (0.05, 20.0))
    return Problem(prior, GaussianLikelihood(Pointwise(torch.ones(shape)), y, noise**2), shape)


def four_coils(noise: float) -> Problem:
    """MRI of 14 of 32 columns with four coils."""
    operators = pytest.importorskip("tiltkit_mri.operators")
    columns = torch.zeros(SIDE, dtype=torch.bool)
    columns[::4] = columns[SIDE // 2 - 3 : SIDE // 2 + 3] = True
    t = torch.linspace(-1, 1, SIDE)
    y, x = torch.meshgrid(t, t, indexing="ij")
    corners = [(a, b) for a in (-1, 1) for b in (-1, 1)]
    maps = torch.stack([
        torch.polar(torch.exp(-((y - a) ** 2 + (x - b) ** 2) / 1.2), a * x + b * y)
        for a, b in corners
    ])  # fmt: skip
    operator = operators.CartesianSense(maps / maps.abs().square().sum(0).sqrt(), columns)
    g = torch.Generator().manual_seed(0)
    spectrum = PRIOR.spectrum((SIDE, SIDE), torch.device("cpu")).float()
    noise_free = torch.fft.fft2(torch.randn(1, 2, SIDE, SIDE, generator=g)) * spectrum.sqrt()
    data = operator.forward(torch.fft.ifft2(noise_free).real)
    data = data + noise * torch.view_as_complex(torch.randn(*data.shape, 2, generator=g))
    return Problem(PRIOR, GaussianLikelihood(operator, data, noise**2), (2, SIDE, SIDE))


def test_a_run_with_too_little_coarse_variation_warns() -> None:
    result = tiltkit.sample(four_coils(0.3), sampler="twisted", options={"most_shared_ancestry": 0})
    assert "spread_narrow" in codes(result)
    assert result.verdict.local.status == "failed"
    assert result.diagnostics[0]["bands"][0].spread < 0.8
    assert result.diagnostics[0]["fisher_at_least"] > 0


@pytest.mark.parametrize("most", [0.0, 0.2, 0.3])
def test_samples_that_vary_too_little_because_of_common_ancestors_are_not_ok(most: float) -> None:
    g = torch.Generator().manual_seed(0)
    shape = (1, 48, 48)
    mask = torch.zeros(shape)
    mask[:, :, ::2] = 1
    truth = 1 + 0.3 * torch.randn(1, *shape, generator=g)
    y = mask * (truth + 0.5 * torch.randn(1, *shape, generator=g))
    variance = torch.where(mask.bool(), 0.25, float("inf"))[None]
    prior = Mixture(torch.ones(1, *shape), 0.09, torch.ones(1), (0.01, 5.0))
    problem = Problem(prior, gaussian(Pointwise(torch.ones(shape)), y, variance), shape)
    options = {"most_shared_ancestry": most}
    result = tiltkit.sample(problem, sampler="twisted", n=16, options=options)
    exact = 1 / (1 / 0.0901 + mask[0].numpy() / 0.25)
    ratio = float((result.std[0] ** 2 / exact).mean())
    status = result.verdict.local.status
    assert ratio > 0.8 or status != "ok"
    assert ratio > 0.75 or status == "failed"
    assert ratio < 0.97 or (status == "ok" and not codes(result))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_run_that_is_right_is_ok_locally_and_says_that_shares_were_not_tested(seed: int) -> None:
    result = tiltkit.sample(
        white(0.5, seed),
        sampler="walmc",
        options={"most_shared_ancestry": 0, "levels": 100},
        seed=seed,
    )
    assert not codes(result)
    assert result.verdict.local.status == "ok"
    assert result.verdict.shares.status == "not tested"
    assert not result.verdict.ok


def test_published_langevin_with_a_coarse_step_warns_of_its_spread() -> None:
    options = {"tau": 0.01, "reports": 10, "collect": 2, "warm_steps": 50, "delta": 0.3}
    wrong = tiltkit.sample(white(1.0, seed=0), sampler="almc", options=options)
    assert "spread_wide" in codes(wrong)
    right = tiltkit.sample(
        white(1.0, seed=0), sampler="almc", options=options | {"delta": 0.03, "kappa": 3.0}
    )
    assert right.verdict.local.status == "ok"


def test_a_run_ends_at_the_smallest_level_of_the_prior_also_for_data_unlike_it() -> None:
    result = tiltkit.sample(white(0.5, seed=0, scale=3.0), sampler="twisted", n=8)
    report = result.diagnostics[0]
    assert "residual_ratio_high" in codes(result)
    assert report["noise_level"][-1] == pytest.approx(report["prior_noise_min"])


def test_a_last_level_above_that_of_the_prior_is_stated() -> None:
    from tiltkit.report import words

    options = {"levels": 6, "tau": 0.1}
    result = tiltkit.sample(white(0.5, seed=0), sampler="twisted", n=8, options=options)
    texts = " ".join(one.text for one in words.guaranteed(result.diagnostics[0], 8))
    assert "2 times the smallest level of the prior" in texts


def modes(shares: Mapping[int, int], seed: int) -> tuple[Problem, Tensor]:
    """Exact samples of two separate modes of equal weight, in other shares."""
    g = torch.Generator().manual_seed(seed)
    shape = (1, SIDE, SIDE)
    means = torch.stack([torch.full(shape, value) for value in (-1.0, 1.0)])
    prior = Mixture(means, 0.01, torch.ones(2), (0.001, 5.0))
    operator = Pointwise(torch.zeros(shape))
    problem = Problem(prior, GaussianLikelihood(operator, torch.zeros(1, *shape), 1.0), shape)
    labels = torch.tensor([mode for mode, count in shares.items() for _ in range(count)])
    return problem, means[labels] + 0.1 * torch.randn(len(labels), *shape, generator=g)


def test_wrong_shares_of_modes_are_not_called_ok() -> None:
    problem, x = modes({0: 14, 1: 2}, seed=0)
    report = stein_report(problem, x, problem.prior.score(x, 1e-3), len(x), len(x))
    verdict = find_verdict(report)
    assert not find_warnings(report), "the Stein check is blind to shares"
    assert verdict.shares.status == "not tested"
    assert not verdict.ok


def test_independent_samples_are_never_more_than_the_samples() -> None:
    rng = np.random.default_rng(0)
    for seed in range(6):
        result = tiltkit.sample(
            white(0.5, seed), sampler="walmc", n=8, runs=2, seed=int(rng.integers(1000)),
            options={"levels": 6, "collect": 2},
        )  # fmt: skip
        assert result.diagnostics[0]["independent_samples"] <= 8


def test_the_verdict_is_the_same_in_memory_and_in_a_file(tmp_path: Any) -> None:
    result = tiltkit.sample(white(0.5, 0), sampler="walmc", options={"levels": 12})
    result.save(tmp_path / "out.h5")
    read = tiltkit.load_result(tmp_path / "out.h5")
    assert read.verdict == result.verdict
    assert read.diagnostics[0]["bands"] == result.diagnostics[0]["bands"]
    assert read.verdict.sentence() in read._repr_html_()


def test_bands_cover_all_frequencies_once() -> None:
    result = tiltkit.sample(white(0.5, 0), sampler="walmc", options={"levels": 6})
    bands = result.diagnostics[0]["bands"]
    assert sum(band.coordinates for band in bands) == SIDE**2
    assert all(a.high == b.low for a, b in pairwise(bands))
    assert bands[0].low == 0
