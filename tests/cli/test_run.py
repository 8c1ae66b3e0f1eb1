"""``tiltkit run`` from scan to result, on small scans."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from safetensors import safe_open

from tiltkit.errors import TiltkitError
from tiltkit.io.reading import (
    read_estimate,
    read_finished,
    read_provenance,
    read_recipe,
)
from tiltkit.io.result import ResultWriter

from .conftest import FAST, samples_of

Tilt = Callable[..., Any]


def test_a_scan_becomes_a_result_and_a_page(tilt: Tilt, scan: Path, tmp_path: Path) -> None:
    before = hashlib.sha256(scan.read_bytes()).digest()
    levels = ("-s", "sampler.levels=26")  # with fewer the samples miss the data, which is said
    done = tilt("run", "mri-recon", scan, "-o", tmp_path / "out.h5", "--report", *FAST, *levels)
    assert done.code == 0, done.err
    assert "1 slice, 3 samples" in done.out
    assert "Samples follow the data (chi2" in done.out
    assert read_estimate(tmp_path / "out.h5", 0).mean.shape == (40, 36)
    assert "<html" in (tmp_path / "out.html").read_text()
    assert hashlib.sha256(scan.read_bytes()).digest() == before
    assert {p.name for p in tmp_path.iterdir()} == {"scan.h5", "out.h5", "out.html"}


def test_the_default_output_is_in_the_current_folder_with_the_name_of_the_scan(
    tilt: Tilt, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert tilt("run", "mri-recon", scan, *FAST).code == 0
    assert Path("scan.posterior.h5").exists()


def test_the_json_line_has_all_facts_of_the_text_line(
    tilt: Tilt, scan: Path, tmp_path: Path
) -> None:
    done = tilt("run", "mri-recon", scan, "-o", tmp_path / "out.h5", "--json", *FAST)
    figures = json.loads(done.out.splitlines()[0])
    assert figures["output"] == str(tmp_path / "out.h5")
    assert {"slices", "samples", "seconds", "chi2", "chi2_expected", "verdict"} <= set(figures)


def test_independent_runs_share_the_samples_and_give_r_hat(
    tilt: Tilt, scan: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.h5"
    command = ("run", "mri-recon", scan, "-o", out, *FAST, "--samples", 6, "--runs", 2, "--report")
    done = tilt(*command)
    assert done.code == 0, done.err
    assert "R-hat" in done.out
    assert samples_of(out).shape[0] == 6
    assert "2 independent runs" in (tmp_path / "out.html").read_text()
    assert json.loads(tilt("show", out, "--json").out)["recipe"]["runs"] == 2
    done = tilt("run", "mri-recon", scan, *FAST, "--samples", 6, "--runs", 7)
    assert done.code == 2
    assert "7 runs cannot share 6 samples" in done.err
    done = tilt("run", "mri-recon", scan, *FAST, "--device", "cpu,cpu")
    assert (done.code, "--runs 2" in done.err) == (2, True)


def test_several_scans_go_into_a_folder(tilt: Tilt, scan_of: Any, tmp_path: Path) -> None:
    a, b = scan_of(tmp_path / "a.h5"), scan_of(tmp_path / "b.h5")
    (tmp_path / "out").mkdir()
    assert tilt("run", "mri-recon", a, b, "-o", tmp_path / "out", *FAST).code == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"a.posterior.h5", "b.posterior.h5"}
    done = tilt("run", "mri-recon", a, b, "-o", tmp_path / "one.h5", *FAST)
    assert (done.code, "is not a folder" in done.err) == (2, True)


def test_a_run_that_fails_after_a_checkpoint_leaves_no_files(
    tilt: Tilt, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ("run", "mri-recon", scan, "-o", tmp_path / "out.h5", *FAST)
    seen: list[str] = []

    def fail(*_arguments: Any) -> None:
        seen.extend(path.name for path in tmp_path.iterdir())
        raise TiltkitError("The disk is gone.")

    with monkeypatch.context() as patch:
        patch.setattr(ResultWriter, "write", fail)
        assert "The disk is gone" in tilt(*run).err
    assert "out.h5.part.checkpoint" in seen
    assert [p.name for p in tmp_path.iterdir()] == ["scan.h5"]
    assert tilt(*run).code == 0


def test_a_result_repeats_itself(tilt: Tilt, scan: Path, tmp_path: Path) -> None:
    first, second, third = (tmp_path / f"{k}.h5" for k in "123")
    assert tilt("run", "mri-recon", scan, "-o", first, "--seed", 7, *FAST).code == 0
    assert tilt("run", "-c", first, "-o", second).code == 0, "the result knows its input"
    np.testing.assert_array_equal(samples_of(first), samples_of(second))
    assert read_recipe(first) == read_recipe(second)
    assert tilt("run", "-c", first, "-o", third, "--seed", 8).code == 0
    assert not np.allclose(samples_of(first), samples_of(third))


def test_settings_of_a_recipe_file_and_of_options_are_combined(
    tilt: Tilt, scan: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        'task = "mri-recon"\nprior = "gaussian"\nsamples = 5\n[sampler]\nlevels = 4\n'
    )
    done = tilt("run", scan, "-c", recipe, "-o", tmp_path / "out.h5", "-s", "sampler.collect=2")
    assert done.code == 0, done.err
    resolved = read_recipe(tmp_path / "out.h5")
    assert (resolved["samples"], resolved["sampler"]["levels"]) == (5, 4)
    assert resolved["sampler"]["collect"] == 2


def test_chosen_slices_only_are_done(tilt: Tilt, scan_of: Any, tmp_path: Path) -> None:
    scan, out = scan_of(tmp_path / "scan.h5", n_slices=4), tmp_path / "out.h5"
    assert tilt("run", "mri-recon", scan, "-o", out, "--slices", "1,3", *FAST).code == 0
    with h5py.File(out) as file:
        assert file["entry/data/z"][()].tolist() == [1.0, 3.0]
    done = tilt("run", "mri-recon", scan, "-o", tmp_path / "no.h5", "--slices", "7", *FAST)
    assert (done.code, "has 4" in done.err) == (2, True)


def test_an_unusable_slice_is_reported_before_the_first_is_sampled(
    tilt: Tilt, scan_of: Any, tmp_path: Path
) -> None:
    scan, out = scan_of(tmp_path / "scan.h5", n_slices=4), tmp_path / "out.h5"
    with h5py.File(scan, "r+") as file:
        file["kspace"][2] = 0
    for command in (("check",), ("run", "-o", out)):
        done = tilt(*command, "mri-recon", scan, *FAST)
        assert done.code == 4
        assert f"Slice 2 of {scan} cannot be used" in done.err
        assert "--slices 0:2,3." in done.err
    assert not list(tmp_path.glob("out.h5*"))
    done = tilt("run", "mri-recon", scan, "-o", out, "--slices", "0:2,3", *FAST)
    assert done.code == 0, done.err
    assert read_provenance(out)["slices"] == [0, 1, 3]
    assert "choose other slices" in tilt("check", "mri-recon", scan, "--slices", "2", *FAST).err


def test_slices_do_not_depend_on_each_other(tilt: Tilt, scan_of: Any, tmp_path: Path) -> None:
    scan, some, all_ = (
        scan_of(tmp_path / "scan.h5", n_slices=3),
        tmp_path / "s.h5",
        tmp_path / "a.h5",
    )
    tilt("run", "mri-recon", scan, "-o", some, "--slices", "2", *FAST)
    tilt("run", "mri-recon", scan, "-o", all_, *FAST)
    np.testing.assert_array_equal(samples_of(some)[:, 0], samples_of(all_)[:, 2])


def test_the_published_algorithm_runs_on_a_scan(tilt: Tilt, scan: Path, tmp_path: Path) -> None:
    done = tilt(
        "run", "mri-recon", scan, "-o", tmp_path / "out.h5", "--sampler", "almc", "--prior",
        "gaussian", "--samples", 2, "-s", "sampler.warm_steps=5", "-s", "sampler.kappa=0.001",
        "-s", "sampler.T=1.5",
    )  # fmt: skip
    assert done.code == 0, done.err


def test_a_met_gate_gives_exit_code_three_and_keeps_the_result(
    tilt: Tilt, scan: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.h5"
    done = tilt("run", "mri-recon", scan, "-o", out, "--fail-if", "chi2>1e-9", *FAST)
    assert (done.code, out.exists()) == (3, True)
    assert "chi2>1e-9" in done.err
    assert tilt("evaluate", out, "--truth", out, "--fail-if", "nrmse>0.5").code == 0
    wrong = tilt("evaluate", out, "--truth", out, "--fail-if", "psnrr<3")
    assert (wrong.code, "did you mean 'psnr'" in wrong.err) == (2, True)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_resumed_run_gives_the_same_samples(
    tilt: Tilt, scan_of: Any, tmp_path: Path, how: signal.Signals
) -> None:
    scan, out, whole = scan_of(tmp_path / "s.h5", n_slices=4), tmp_path / "o.h5", tmp_path / "w.h5"
    slow = (*FAST[:5], "sampler.levels=200", *FAST[6:])
    arguments = [sys.executable, "-m", "tiltkit", "run", "mri-recon", str(scan), *slow, "-o"]
    with subprocess.Popen(
        [*arguments, str(out)], stderr=subprocess.PIPE, text=True, env={**os.environ}
    ) as run:
        assert run.stderr is not None
        while "done in" not in run.stderr.readline():
            assert run.poll() is None
        run.send_signal(how)
        rest = run.stderr.read()
    assert run.returncode == 130
    assert "--resume" in rest
    assert not out.exists()
    part = tmp_path / "o.h5.part"
    done = len(read_finished(part))
    assert 1 <= done < 4
    assert tilt("run", "mri-recon", scan, "-o", out, *slow).code == 2, "needs --resume"
    resumed = tilt("run", "mri-recon", scan, "-o", out, "--resume", *slow)
    assert resumed.code == 0
    assert resumed.err.count("done in") == 4 - done
    assert not part.exists()
    assert tilt("run", "mri-recon", scan, "-o", whole, *slow).code == 0
    np.testing.assert_array_equal(samples_of(out), samples_of(whole))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_slice_is_resumed_at_its_last_level(
    tilt: Tilt, scan: Path, tmp_path: Path, how: signal.Signals
) -> None:
    slow = (*FAST[:5], "sampler.levels=300", "-s", "sampler.collect=40")
    out, whole = tmp_path / "out.h5", tmp_path / "whole.h5"
    checkpoint = tmp_path / "out.h5.part.checkpoint"
    arguments = [sys.executable, "-m", "tiltkit", "run", "mri-recon", str(scan), *slow]
    with subprocess.Popen([*arguments, "-o", str(out)], stderr=subprocess.PIPE, text=True) as run:
        limit = time.monotonic() + 60
        while not checkpoint.exists() and time.monotonic() < limit:
            time.sleep(0.02)
        time.sleep(0.3)
        run.send_signal(how)
        run.wait(60)
    assert checkpoint.exists()
    with safe_open(checkpoint, "numpy") as file:
        levels = len(json.loads(file.metadata()["notes"])["infos"])
    assert 0 < levels < 340, "the run was stopped on its way"
    assert tilt("run", "mri-recon", scan, "-o", out, "--resume", *slow).code == 0
    assert tilt("run", "mri-recon", scan, "-o", whole, *slow).code == 0
    for name in ("samples/samples", "data/data", "data/data_errors", "quantiles/quantiles"):
        with h5py.File(out) as a, h5py.File(whole) as b:
            np.testing.assert_array_equal(a[f"entry/{name}"][()], b[f"entry/{name}"][()])
    assert {p.name for p in tmp_path.iterdir()} == {"scan.h5", "out.h5", "whole.h5"}


def test_a_reconstruction_without_a_prior_is_the_baseline_of_the_posterior(
    tilt: Tilt, scan: Path, tmp_path: Path
) -> None:
    sampled, alone = tmp_path / "sampled.h5", tmp_path / "alone.h5"
    assert tilt("run", "mri-recon", scan, "-o", sampled, *FAST).code == 0
    done = tilt("run", "mri-recon", scan, "-o", alone, "--baseline-only", "--write", "tiff")
    assert done.code == 0, done.err
    assert "1 slice, reconstructed without a prior" in done.out
    assert "Warning" not in done.out
    found, expected = read_estimate(alone, 0), read_estimate(sampled, 0)
    for image in (found.mean, found.baseline, found.samples[0]):
        np.testing.assert_array_equal(image, expected.baseline)
    assert np.isnan(found.std).all()
    assert read_recipe(alone)["baseline_only"] is True
    assert (tmp_path / "alone.tif").exists()


def test_a_reconstruction_without_a_prior_is_not_judged_as_a_posterior(
    tilt: Tilt, scan: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.h5"
    done = tilt("run", "mri-recon", scan, "-o", out, "--baseline-only", "--json", "--report")
    figures = json.loads(done.out.splitlines()[0])
    assert figures["samples"] == 0
    assert figures["warnings"] == []
    assert figures["local"]["status"] == figures["shares"]["status"] == "not tested"
    with h5py.File(out) as file:
        assert "without a prior" in file["entry/title"].asstr()[()]
    page = (tmp_path / "out.html").read_text()
    assert "reconstructed without a prior" in page
    assert "posterior mean" not in page.lower()


def test_check_of_a_reconstruction_without_a_prior_estimates_no_sampling(
    tilt: Tilt, scan: Path
) -> None:
    done = tilt("check", "mri-recon", scan, "--baseline-only")
    assert done.code == 0, done.err
    assert "without samples" in done.out
    assert "sampler" not in done.out
