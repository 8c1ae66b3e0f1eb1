"""Maps of noise against closed forms of SENSE, and complex images of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from tiltkit_mri.noise_maps import describe_g_factor, noise_maps
from tiltkit_mri.non_cartesian import NonCartesianSense
from tiltkit_mri.operators import CartesianSense, MaskedFourier
from tiltkit_mri.sense import MaskedSense
from tiltkit_mri.task import MriOptions, MriRecon

from tiltkit.errors import UsageError
from tiltkit.posterior.outcome import Outcome
from tiltkit.priors.closed_form import SmoothGaussian
from tiltkit.recon.solve import solve
from tiltkit.sampling.samplers.moments import Moments, MomentsOptions

CPU = torch.device("cpu")
NY, NX, SIGMA = 6, 16, 0.3
ALL = ("snr", "g_factor", "posterior_g_factor")


def coils(n: int, seed: int = 0) -> torch.Tensor:
    """Random complex maps whose squares sum to 1."""
    rng = np.random.default_rng(seed)
    maps = rng.normal(size=(n, NY, NX, 2)) @ np.array([1, 1j])
    maps /= np.sqrt((np.abs(maps) ** 2).sum(0))
    return torch.from_numpy(maps.astype(np.complex64))


def uniform(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def every(n: int) -> torch.Tensor:
    return torch.arange(NX) % n == 0


def made(operator: Any, **images: torch.Tensor) -> dict[str, np.ndarray]:
    blank = torch.ones(NY, NX)
    maps = noise_maps(ALL, operator, SIGMA, lambda x: x, 1.0)
    mean, std = images.get("mean", blank), images.get("std", blank)
    return {name: one.compute(mean, std).numpy() for name, one in maps.items()}


def unfolding(maps: np.ndarray, fold: int) -> np.ndarray:
    """Pruessmann's g-factor, from the few pixels that appear on top of one another."""
    g = np.empty((NY, NX))
    for y in range(NY):
        for x in range(NX // fold):
            at = x + NX // fold * np.arange(fold)
            # The phase between folded pixels depends on the first line, and cancels in g.
            s = maps[:, y, at]
            gram = s.conj().T @ s
            g[y, at] = np.sqrt((np.linalg.inv(gram).diagonal() * gram.diagonal()).real)
    return g


@pytest.mark.parametrize("fold", [2, 4])
def test_the_g_factor_is_that_of_unfolding_pixel_by_pixel(fold: int) -> None:
    maps = coils(6)
    found = made(CartesianSense(maps, every(fold)))["g_factor"]
    assert found.max() > 1.2
    np.testing.assert_allclose(found, unfolding(maps.numpy().astype(complex), fold), rtol=1e-3)


def test_the_g_factor_of_any_sampling_is_the_noise_of_pseudo_replicas() -> None:
    columns = every(2) | (torch.arange(NX) == 7) | (torch.arange(NX) == 9)
    operator = CartesianSense(coils(6), columns)
    generator = torch.Generator().manual_seed(0)
    shape = operator.forward(torch.zeros(3000, 2, NY, NX)).shape
    noise = SIGMA * torch.randn(shape, dtype=torch.complex64, generator=generator) * 2**0.5
    images = operator.solve(1e-6, 1.0, operator.adjoint(noise))
    spread = images.square().mean(dim=(0, 1)).sqrt().numpy()
    acceleration = NX / int(columns.sum())
    found = made(operator)["g_factor"]
    np.testing.assert_allclose(spread / (SIGMA * acceleration**0.5), found, rtol=0.05)


def test_without_a_prior_the_g_factor_of_the_posterior_is_that_of_sense() -> None:
    operator = CartesianSense(coils(6), every(2))
    covariance = torch.linalg.inv(_normal_matrix(operator)) * SIGMA**2
    std = covariance.diagonal().reshape(2, NY, NX)[0].sqrt()
    found = made(operator, std=std)
    np.testing.assert_allclose(found["posterior_g_factor"], found["g_factor"], rtol=1e-3)


def test_a_strong_prior_has_a_g_factor_below_1() -> None:
    operator = CartesianSense(coils(6), every(2))
    inverse = _normal_matrix(operator) / SIGMA**2 + torch.eye(2 * NY * NX) / 0.1**2
    std = torch.linalg.inv(inverse).diagonal().reshape(2, NY, NX)[0].sqrt()
    assert made(operator, std=std)["posterior_g_factor"].max() < 0.5


def _normal_matrix(operator: Any) -> torch.Tensor:
    basis = torch.eye(2 * NY * NX).reshape(-1, 2, NY, NX)
    return operator.normal(basis).reshape(len(basis), -1)


def test_the_signal_to_noise_ratio_is_mean_over_spread() -> None:
    operator = CartesianSense(coils(2), every(1))
    mean, std = uniform(NY, NX) + 1, uniform(NY, NX) + 0.1
    np.testing.assert_allclose(made(operator, mean=mean, std=std)["snr"], (mean / std).numpy())


@pytest.mark.parametrize("operator", [
    CartesianSense(coils(4), every(1)), MaskedFourier(torch.ones(NY, NX, dtype=torch.bool)),
], ids=["coils", "one coil"])  # fmt: skip
def test_a_full_scan_has_a_g_factor_of_1(operator: Any) -> None:
    np.testing.assert_allclose(made(operator)["g_factor"], 1, rtol=1e-4)


@pytest.mark.parametrize("operator", [
    CartesianSense(coils(2), every(4)), MaskedFourier(every(2).expand(NY, -1)),
], ids=["fewer coils than pixels", "one coil"])  # fmt: skip
def test_the_g_factor_is_infinite_where_data_do_not_determine_a_pixel(operator: Any) -> None:
    assert np.isposinf(made(operator)["g_factor"]).all()
    (note,) = describe_g_factor(["g_factor"], operator)
    assert "infinite in 100 % of the pixels" in note.text


def test_a_finite_g_factor_has_no_note() -> None:
    maps = coils(4)
    maps[:, :, :3] = 0
    assert describe_g_factor(ALL, CartesianSense(maps, every(2))) == ()


def test_there_is_no_g_factor_where_there_is_no_map() -> None:
    maps = coils(4)
    maps[:, :, :3] = 0
    found = made(CartesianSense(maps, every(2)))["g_factor"]
    assert np.isnan(found[:, :3]).all()
    # The pixels that they would fold onto have nothing on top.
    np.testing.assert_allclose(found[:, 8:11], 1, rtol=1e-4)
    assert np.isfinite(found[:, 3:]).all()


def test_operators_without_whole_columns_have_the_g_factor_of_the_posterior_alone() -> None:
    operator = MaskedSense(coils(3), uniform(NY, NX) > 0.5)
    with pytest.raises(UsageError, match="g_factor needs a Cartesian scan"):
        noise_maps(ALL, operator, SIGMA, lambda x: x, 1.0)
    two = ["snr", "posterior_g_factor"]
    assert list(noise_maps(two, operator, SIGMA, lambda x: x, 1.0)) == two


@pytest.mark.parametrize("kind", ["columns", "one coil", "points", "radial"])
def test_the_diagonal_of_the_normal_matrix_is_that_of_the_operator(kind: str) -> None:
    maps, points = (
        1.5 * coils(3),
        torch.rand(NY, NX, generator=torch.Generator().manual_seed(0)) > 0.5,
    )
    if kind == "columns":
        operator: Any = CartesianSense(maps, every(3))
    elif kind == "one coil":
        operator = MaskedFourier(points)
    elif kind == "points":
        operator = MaskedSense(maps, points)
    else:
        pytest.importorskip("finufft")
        operator = NonCartesianSense(maps, uniform(2, 50) - 0.5)
    exact = _normal_matrix(operator).diagonal().reshape(2, NY, NX)[1]
    np.testing.assert_allclose(operator.normal_diagonal().numpy(), exact.numpy(), rtol=2e-3)


def test_outputs_are_names_with_commas_or_a_list() -> None:
    assert MriOptions(output="complex, snr").output == ("complex", "snr")
    assert MriOptions(output=["g_factor"]).output == ("g_factor",)
    with pytest.raises(ValidationError, match="snrr"):
        MriOptions(output="snrr")


@pytest.fixture(scope="module")
def run(tmp_path_factory: Any, scan: Any, sampling: Any) -> Outcome:
    """The slice of a file of 2x, with all further images."""
    import h5py

    path: Path = tmp_path_factory.mktemp("scan") / "scan.h5"
    mask = sampling(56, 2, 12)
    with h5py.File(path, "w") as file:
        file["kspace"] = (scan.noisy(0.02) * mask).astype(np.complex64)[None]
        file["mask"] = mask
    options = MriOptions(noise_level=0.02, output=("complex", *ALL))
    with MriRecon(options).open(path) as opened:
        problem = opened.problem(0, SmoothGaussian(0.4, 5.0, 5.0, channels=2), CPU)
    *_, outcome = solve(
        [problem], Moments(MomentsOptions(levels=12, collect=1)), seed=(0, 0), n=12, devices=[CPU]
    )
    assert isinstance(outcome, Outcome)
    return outcome


def test_complex_samples_have_the_magnitudes_and_phases_of_the_result(
    run: Outcome, scan: Any
) -> None:
    samples, mean = (run.further[f"complex_{name}"].values for name in ("samples", "mean"))
    np.testing.assert_allclose(np.abs(samples), run.samples, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(np.angle(mean), run.phase, atol=1e-3)
    assert np.abs(np.abs(mean) - np.abs(scan.image))[scan.inside].mean() < 0.1


def test_the_spread_of_the_phase_is_that_of_the_part_across_the_signal(
    run: Outcome, scan: Any
) -> None:
    phase = run.further["phase_std"]
    inside = scan.inside
    # For a high signal: spread of one component over the magnitude.
    ratio = phase.values[inside] * run.mean[inside] / run.std[inside]
    assert np.nanmedian(ratio) == pytest.approx(1, abs=0.15)
    assert phase.units == "rad"
    assert np.isnan(phase.values[:4]).mean() > 0.5  # air


def test_a_run_has_the_maps_that_it_was_asked_for(run: Outcome) -> None:
    maps = {name: run.further[name].values for name in ALL}
    np.testing.assert_allclose(maps["snr"], run.mean / run.std, rtol=1e-4)
    ratio = maps["posterior_g_factor"] / run.std
    assert np.nanstd(ratio) < 1e-3 * np.nanmean(ratio)  # one factor where there are coil maps
    assert np.nanmin(maps["g_factor"]) > 0.99


def test_maps_of_a_run_are_those_of_the_exact_posterior(
    simulate: Any, sampling: Any, write: Any
) -> None:
    small, level, prior = simulate((32, 28), 4), 0.05, SmoothGaussian(0.4, 5.0, 5.0, channels=2)
    mask = sampling(28, 2, 10)
    path = write(kspace=(small.noisy(level) * mask).astype(np.complex64)[None], mask=mask)
    options = MriOptions(noise_level=level, scale=1.0, output=("snr", "posterior_g_factor"))
    with MriRecon(options).open(path) as opened:
        problem = opened.problem(0, prior, CPU)
    sampler = Moments(MomentsOptions(levels=24, collect=1))
    *_, outcome = solve([problem], sampler, seed=(0, 0), n=32, devices=[CPU])
    assert isinstance(outcome, Outcome)
    operator = problem.likelihood.operator
    n = 2 * 32 * 28
    basis = torch.eye(n).reshape(n, 2, 32, 28)
    # The score of the noised prior is -(C + sigma^2 I)^-1 x.
    noised = torch.linalg.inv(-prior.score(basis, 0.5).reshape(n, n).double())
    inverse = torch.linalg.inv(noised - 0.25 * torch.eye(n))
    normal = operator.normal(basis).reshape(n, n).double() / level**2
    covariance = torch.linalg.inv(inverse + normal)
    mean = covariance @ operator.adjoint(problem.likelihood.y).flatten().double() / level**2
    re, im = mean.reshape(2, -1)
    magnitude = re.hypot(im)
    # The magnitude varies with the part along the mean.
    c = covariance.reshape(2, n // 2, 2, n // 2).diagonal(dim1=1, dim2=3)
    along = (re**2 * c[0, 0] + 2 * re * im * c[0, 1] + im**2 * c[1, 1]) / magnitude**2
    std, bright = along.sqrt(), (magnitude > 0.4).numpy()
    snr, g = (outcome.further[name].values.flatten()[bright] for name in options.output)
    exact = (magnitude / std).numpy()[bright]
    assert np.median(snr / exact) == pytest.approx(1, abs=0.06)
    full = operator.normal_diagonal().sqrt().flatten().numpy()[bright]
    assert np.median(g / (std.numpy()[bright] * full / level)) == pytest.approx(1, abs=0.06)
