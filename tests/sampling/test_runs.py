"""Independent runs: the same samples on any devices, and the split R-hat."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from tiltkit.errors import UsageError
from tiltkit.likelihoods import GaussianLikelihood
from tiltkit.operators.spectral import Dense
from tiltkit.posterior.level import Info
from tiltkit.posterior.moments import Moments, Quantiles
from tiltkit.posterior.outcome import Outcome
from tiltkit.posterior.rhat import merge_levels, split_rhat
from tiltkit.recon.solve import solve
from tiltkit.sampling.run import pick_devices, side_by_side
from tiltkit.sampling.samplers.walmc import Walmc, WalmcOptions
from tiltkit.testing.known import make_known

CPU = torch.device("cpu")


def start(runs, devices=1, n=24, checkpoint=None):
    known = make_known(torch.zeros(1, 6), 1.0, data=3, noise=0.5, seed=0, sigma_range=(0.02, 20.0))
    sampler = Walmc(WalmcOptions(levels=10, collect=4))
    return solve([known.problem] * devices, sampler, seed=(3, 1), n=n, devices=[CPU] * devices,
                 runs=runs, checkpoint=checkpoint)  # fmt: skip


def last(steps):
    *_, outcome = steps
    assert isinstance(outcome, Outcome)
    return outcome


def test_several_devices_give_the_samples_of_one():
    alone, shared = last(start(3)), last(start(3, devices=2))
    assert (alone.samples == shared.samples).all()
    assert (alone.mean == shared.mean).all()
    for name in ("ess", "rhat", "independent_samples", "network_calls", "spread_ratio_min"):
        assert alone.diagnostics[name] == shared.diagnostics[name]


def test_runs_share_all_samples_out_and_differ_from_each_other():
    outcome = last(start(3, n=25))
    assert outcome.samples.shape == (25, 6)
    assert len({sample.tobytes() for sample in outcome.samples}) == 25
    assert outcome.diagnostics["levels"] == 10


@pytest.mark.parametrize("devices", [1, 2])
def test_a_stopped_slice_goes_on_in_the_run_where_it_was(tmp_path, devices):
    whole = last(start(2))
    stopped = start(2, devices, checkpoint=tmp_path / "kept")
    for _ in range(17):
        next(stopped)
    stopped.close()
    steps = list(start(2, devices, checkpoint=tmp_path / "kept"))
    assert len(steps) < 2 * 14
    resumed = last(steps)
    assert (resumed.samples == whole.samples).all()
    assert (resumed.std == whole.std).all()
    assert (resumed.mean == whole.mean).all()
    assert resumed.diagnostics["rhat"] == whole.diagnostics["rhat"]


def test_a_checkpoint_of_another_version_is_not_used(tmp_path, monkeypatch):
    stopped = start(1, checkpoint=tmp_path / "kept")
    for _ in range(7):
        next(stopped)
    stopped.close()
    assert len(list(start(1, checkpoint=tmp_path / "kept"))) == 14 - 7 + 1
    monkeypatch.setattr("tiltkit.sampling.checkpoint.FORMAT", 1)
    assert len(list(start(1, checkpoint=tmp_path / "kept"))) == 14 + 1


@pytest.mark.parametrize("error", [SafetensorError, OSError])
def test_a_checkpoint_that_cannot_be_written_stops_nothing(tmp_path, monkeypatch, error):
    def full(_tensors, path, **_more):
        path.write_bytes(b"half")
        raise error("No space left on device")

    monkeypatch.setattr("tiltkit.sampling.checkpoint.save_file", full)
    assert (last(start(2, checkpoint=tmp_path / "kept")).samples == last(start(2)).samples).all()
    assert list(tmp_path.iterdir()) == []


def test_one_run_has_no_r_hat():
    assert "rhat" not in last(start(1)).diagnostics


def groups(shift, n=400, pixels=50):
    """Four runs of independent normal samples; the last one moved by ``shift``."""
    g = torch.Generator().manual_seed(0)
    found = []
    for run in range(4):
        halves = Moments(), Moments()
        for half in halves:
            x = torch.randn(n // 2, pixels, generator=g, dtype=torch.float64)
            half.add(x + shift * (run == 3))
        found.append(halves)
    return found


def test_runs_of_one_distribution_have_an_r_hat_of_one_and_are_worth_their_samples():
    report = split_rhat(groups(0.0), [400] * 4)
    assert report["rhat"] == pytest.approx(1, abs=0.003)
    assert report["independent_samples"] == pytest.approx(1600, rel=0.4)


def test_r_hat_of_a_shifted_run_is_that_of_the_textbook_formula():
    report = split_rhat(groups(2.0), [400] * 4)
    # Of eight halves two are moved: their means have the variance 2^2 * 12/64 * 8/7.
    expected = math.sqrt(1 + 4 * 12 / 64 * 8 / 7)
    assert report["rhat"] == pytest.approx(expected, rel=0.02)
    assert report["independent_samples"] < 10


@pytest.mark.parametrize(("runs", "particles"), [(2, 2), (4, 4), (2, 8), (8, 2)])
def test_r_hat_of_runs_of_few_autocorrelated_particles_gives_no_warning(runs, particles):
    alarms = 0
    for seed in range(40):
        g = torch.Generator().manual_seed(seed)
        found = []
        for _ in range(runs):
            halves = Moments(), Moments()
            x = torch.randn(particles, 3, generator=g, dtype=torch.float64)
            for half in halves:
                half.add(x + 0.01 * torch.randn(x.shape, generator=g, dtype=torch.float64))
            found.append(halves)
        report = split_rhat(found, [particles] * runs)
        alarms += report["rhat"] > report["rhat_limit"]
    assert alarms <= 4


def test_particles_of_one_ancestor_are_worth_one_sample():
    one = [tuple(groups(0.0)[0])]
    assert split_rhat(one, [16], 1.0)["independent_samples"] == pytest.approx(1)
    assert split_rhat(one, [16], 0.0)["independent_samples"] == pytest.approx(16)
    assert split_rhat(one, [16], 0.2)["independent_samples"] == pytest.approx(4)


def test_one_sample_has_no_spread_and_gives_a_warning():
    outcome = last(start(1, n=1))
    assert np.isnan(outcome.std).all()
    assert all(np.isnan(image).all() for image in outcome.quantiles.values())
    assert np.isfinite(outcome.mean).all()
    codes = [warning.code for warning in outcome.diagnostics["warnings"]]
    assert codes == ["few_independent_samples"]


def test_merged_levels_of_several_runs_sum_their_effective_samples():
    one = Info(noise_level=2.0, ess=3.0, weight_power=1.0)
    two = Info(noise_level=2.0, ess=5.0, weight_power=0.5, resampled=True)
    both, = merge_levels([[one], [two]])  # fmt: skip
    assert (both.ess, both.weight_power, both.resampled) == (8.0, 0.5, True)


def test_a_run_that_ends_early_keeps_its_last_level_in_the_merged_report():
    def path(*levels):
        return [Info(noise_level=level, ess=3.0) for level in levels] + [
            Info(noise_level=levels[-1], ess=3.0, final=True)
        ]

    levels = merge_levels([path(2.0, 1.0, 0.5, 0.1), path(2.0, 1.0, 0.4)])
    assert [info.noise_level for info in levels] == [2.0, 1.0, 0.4, 0.1, 0.1]
    assert [info.final for info in levels] == [False] * 4 + [True]
    assert {info.ess for info in levels} == {6.0}


def test_merged_moments_are_those_of_all_samples():
    g = torch.Generator().manual_seed(1)
    x = torch.randn(9, 4, generator=g)
    parts = [Moments(), Moments(), Moments()]
    parts[1].add(x[:2])
    parts[2].add(x[2:])
    both = parts[0].merged(parts[1]).merged(parts[2])
    assert both.count == 9
    torch.testing.assert_close(both.mean, x.double().mean(0))
    torch.testing.assert_close(both.std(), x.double().std(0))


@pytest.mark.parametrize("sizes", [(20, 30), (300, 300), (700, 100)])
def test_merged_quantiles_are_those_of_all_samples(sizes):
    g = torch.Generator().manual_seed(2)
    x = torch.randn(sum(sizes), 3, generator=g)
    parts = [Quantiles(), Quantiles()]
    for part, rows in zip(parts, x.split(list(sizes)), strict=True):
        part.add(rows)
    median = parts[0].merged(parts[1]).at([0.5])[0.5]
    share = (x < median).double().mean(0)
    assert share.sub(0.5).abs().max() < 0.06


def test_a_device_without_double_precision_is_an_error(monkeypatch):
    def zeros(*_size, dtype, **_where):
        raise TypeError(f"no {dtype} on this device")

    monkeypatch.setattr(torch, "zeros", zeros)
    with pytest.raises(UsageError, match="no double precision"):
        pick_devices("mps")


def test_lanes_end_with_the_error_of_one_of_them():
    closed = []

    def good():
        try:
            yield from range(1000)
        finally:
            closed.append(True)

    def bad():
        yield 1
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        list(side_by_side([good(), bad()]))
    assert closed == [True]


@pytest.mark.gpu
def test_runs_on_a_gpu_agree_with_those_on_the_cpu():
    known = make_known(torch.zeros(1, 6), 1.0, data=3, noise=0.5, seed=0, sigma_range=(0.02, 20.0))
    device, problem = torch.device("cuda"), known.problem
    likelihood = problem.likelihood
    operator = Dense(likelihood.operator.matrix.to(device), (6,))
    moved = replace(
        problem,
        prior=problem.prior.to(device),
        likelihood=GaussianLikelihood(operator, likelihood.y.to(device), likelihood.noise_var),
        baseline=problem.baseline.to(device),
    )
    sampler = Walmc(WalmcOptions(levels=40, collect=4))
    found = last(solve([moved], sampler, seed=(0,), n=400, devices=[device], runs=2))
    assert found.mean == pytest.approx(known.mean.numpy(), abs=0.15)
    assert found.diagnostics["rhat"] < 1.1


def test_pixels_beyond_the_field_of_view_are_nan_and_the_others_as_without():
    known = make_known(torch.zeros(1, 6), 1.0, data=3, noise=0.5, seed=0, sigma_range=(0.02, 20.0))
    sampler = Walmc(WalmcOptions(levels=10, collect=4))
    view = torch.tensor([False, True, True, True, True, False])

    def outcome(problem):
        return last(solve([problem], sampler, seed=(3,), n=8, devices=[CPU]))

    whole = outcome(known.problem)
    part = outcome(replace(known.problem, field_of_view=view))
    for name in ("mean", "std", "samples", "baseline"):
        values = getattr(part, name)
        assert np.isnan(values[..., ~view.numpy()]).all()
        np.testing.assert_array_equal(values[..., view], getattr(whole, name)[..., view])
    assert part.diagnostics["chi2"] == whole.diagnostics["chi2"]
    np.testing.assert_array_equal(part.particles, whole.particles)
