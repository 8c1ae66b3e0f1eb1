"""Outputs replace no other file, and batches continue after a failure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.cli.conftest import FAST, samples_of

Tilt = Callable[..., Any]


@pytest.fixture
def result(tilt: Tilt, scan: Path, tmp_path: Path) -> Path:
    """A complete result beside its scan."""
    out = tmp_path / "out.h5"
    assert tilt("run", "mri-recon", scan, "-o", out, *FAST).code == 0
    return out


@pytest.mark.parametrize("kept", ["out.html", "out.tif", "out.std.tif"])
def test_pages_and_exports_are_replaced_with_overwrite_only(
    tilt: Tilt, scan: Path, tmp_path: Path, kept: str
) -> None:
    (tmp_path / kept).write_text("precious")
    command = ("run", "mri-recon", scan, "-o", tmp_path / "out.h5", "--report", "--write", "tiff")
    done = tilt(*command, *FAST)
    assert done.code == 2
    assert f"{kept} exists" in done.err
    assert (tmp_path / kept).read_text() == "precious"
    assert not (tmp_path / "out.h5").exists()
    assert tilt(*command, *FAST, "--overwrite").code == 0
    assert (tmp_path / kept).read_bytes() != b"precious"


def test_the_page_of_a_result_is_not_the_result(tilt: Tilt, scan: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.html"
    done = tilt("run", "mri-recon", scan, "-o", out, "--report", *FAST)
    assert done.code == 2
    assert "Two outputs" in done.err
    assert not out.exists()


def test_an_input_or_recipe_is_never_replaced(
    tilt: Tilt, scan: Path, result: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('task = "mri-recon"\n')
    twin = tmp_path / "out.tif"
    twin.hardlink_to(result)
    for command in (
        ("run", "-c", recipe, scan, "-o", recipe, "--overwrite", *FAST),
        ("report", result, "-o", result, "--overwrite"),
        ("export", result, "--overwrite"),
    ):
        before = recipe.read_bytes(), result.read_bytes()
        done = tilt(*command)
        assert done.code == 2
        assert "is the input itself" in done.err
        assert (recipe.read_bytes(), result.read_bytes()) == before


def test_an_output_must_be_a_file_with_a_valid_name(tilt: Tilt, scan: Path, tmp_path: Path) -> None:
    for name, complaint in (
        ("/dev/null", "no regular file"),
        (tmp_path / ("x" * 250), "no name for a file"),
        (f"{tmp_path}/new/", "There is no folder"),
    ):
        done = tilt("run", "mri-recon", scan, "-o", name, "--overwrite", *FAST)
        assert done.code == 2
        assert complaint in done.err
    assert Path("/dev/null").is_char_device()


def test_a_batch_continues_after_a_bad_file(tilt: Tilt, scan_of: Any, tmp_path: Path) -> None:
    bad, good = tmp_path / "bad.h5", scan_of(tmp_path / "good.h5")
    bad.write_bytes(b"no scan")
    done = tilt("run", "mri-recon", bad, good, "-o", tmp_path, *FAST)
    assert done.code == 4
    assert f"{bad}: " in done.err
    assert (tmp_path / "good.posterior.h5").exists()


def test_a_batch_continues_after_a_plugin_fails(
    tilt: Tilt, scan_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tiltkit_mri.task import MriRecon

    scans = [scan_of(tmp_path / f"{name}.h5") for name in "ab"]
    work = MriRecon.open

    def fail(self: MriRecon, path: Path) -> Any:
        return work(self, path) if path == scans[1] else {}["nothing"]

    monkeypatch.setattr(MriRecon, "open", fail)
    done = tilt("run", "mri-recon", *scans, "-o", tmp_path, *FAST)
    assert done.code == 1
    assert f"{scans[0]}: Unexpected error" in done.err
    assert (tmp_path / "b.posterior.h5").exists()


def test_a_batch_with_a_closed_pipe_as_output_stops_silently(scan_of: Any, tmp_path: Path) -> None:
    scans = [str(scan_of(tmp_path / f"{name}.h5")) for name in "ab"]
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "tiltkit", "run", "mri-recon", *scans, "--json", *FAST]
    done = subprocess.run(
        command, stdout=writer, stderr=subprocess.PIPE, text=True, cwd=tmp_path, check=False
    )
    os.close(writer)
    assert done.returncode != 0
    assert "Error" not in done.stderr
    assert not (tmp_path / "b.posterior.h5").exists()


def test_files_in_a_folder_that_is_read_are_not_replaced(tilt: Tilt, tmp_path: Path) -> None:
    folder = tmp_path / "scan.zarr"
    folder.mkdir()
    (folder / "zarr.json").write_text("{}")
    for out in (folder, folder / "zarr.json"):
        done = tilt("run", "mri-recon", folder, "-o", out, "--overwrite", *FAST)
        assert done.code == 2
        assert "would replace a part of it" in done.err
    part = tmp_path / "scan.h5.part"
    part.write_text("precious")
    done = tilt("run", "mri-recon", part, "-o", tmp_path / "scan.h5", "--overwrite", *FAST)
    assert done.code == 2
    assert part.read_text() == "precious"


def test_a_stopped_batch_resumes_with_the_missing_results(
    tilt: Tilt, scan_of: Any, tmp_path: Path
) -> None:
    scans = [scan_of(tmp_path / f"{name}.h5") for name in "ab"]
    assert tilt("run", "mri-recon", scans[0], "-o", tmp_path, *FAST).code == 0
    first = (tmp_path / "a.posterior.h5").read_bytes()
    command = ("run", "mri-recon", *scans, "-o", tmp_path, "--resume", "--report", *FAST)
    done = tilt(*command, "--json", "--fail-if", "chi2>1e-9")
    assert done.code == 3, done.err
    *lines, totals = map(json.loads, done.out.splitlines())
    assert [line["input"] for line in lines] == list(map(str, scans))
    assert totals["gates"] == 2
    assert (tmp_path / "a.posterior.h5").read_bytes() == first
    assert {path.name for path in tmp_path.glob("*.html")} == {
        "a.posterior.html", "b.posterior.html"
    }  # fmt: skip
    other = tilt(*command, "--seed", "1")
    assert other.code == 2
    assert "made with other settings: seed" in other.err
    # An --overwrite that was stopped goes on: what it did stays, what it did not is replaced.
    again = tilt(*command, "--overwrite")
    assert again.code == 0, again.err
    assert (tmp_path / "a.posterior.h5").read_bytes() == first
    assert tilt(*command, "--overwrite", "--seed", "1").code == 0
    assert (tmp_path / "a.posterior.h5").read_bytes() != first


def test_resuming_replaces_no_existing_file_of_a_writer(
    tilt: Tilt, scan: Path, result: Path, tmp_path: Path
) -> None:
    (tmp_path / "out.tif").write_text("precious")
    command = ("run", "mri-recon", scan, "-o", result, "--resume", "--write", "tiff", *FAST)
    done = tilt(*command)
    assert done.code == 2
    assert (tmp_path / "out.tif").read_text() == "precious"
    (tmp_path / "out.tif").unlink()
    assert tilt(*command).code == 0
    assert (tmp_path / "out.std.tif").exists()


def test_resuming_replaces_pages_and_stacks_of_an_earlier_result_with_overwrite_only(
    tilt: Tilt, scan: Path, tmp_path: Path
) -> None:
    out, beside = tmp_path / "out.h5", ("out.html", "out.tif", "out.std.tif")
    run, more = ("run", "mri-recon", scan, "-o", out, *FAST), ("--report", "--write", "tiff")
    assert tilt(*run, *more).code == 0
    old = [(tmp_path / name).read_bytes() for name in beside]
    assert tilt(*run, "--seed", 1, "--overwrite").code == 0
    done = tilt(*run, *more, "--seed", 1, "--resume")
    assert done.code == 2
    assert "out.html exists" in done.err
    assert [(tmp_path / name).read_bytes() for name in beside] == old
    assert tilt(*run, *more, "--seed", 1, "--resume", "--overwrite").code == 0
    fresh = [(tmp_path / name).read_bytes() for name in beside]
    assert all(a != b for a, b in zip(old, fresh, strict=True))
    assert tilt(*run, *more, "--seed", 1, "--resume").code == 0
    assert [(tmp_path / name).read_bytes() for name in beside] == fresh


def test_resuming_refuses_a_complete_result_beside_a_newer_unfinished_one(
    tilt: Tilt, scan: Path, result: Path, tmp_path: Path
) -> None:
    (tmp_path / "out.h5.part").write_bytes(result.read_bytes())
    done = tilt("run", "mri-recon", scan, "-o", result, "--resume", *FAST)
    assert done.code == 2
    assert "out.h5 exists" in done.err


@pytest.mark.parametrize(("gate", "reason"), [
    ("chi2", "wrong form"), ("chi2>much", "wrong form"), ("chi>2", "did you mean 'chi2'"),
    ("verdict>1", "There is no figure or warning 'verdict'"),
    ("fisher>1", "'fisher' any more: it was 0 by construction"), ("kl_bound>1", "it was no bound"),
    ("data_fit_narow", "did you mean 'data_fit_narrow'"),
])  # fmt: skip
def test_an_invalid_gate_is_refused_before_the_run(
    tilt: Tilt, scan: Path, tmp_path: Path, gate: str, reason: str
) -> None:
    done = tilt("run", "mri-recon", scan, "-o", tmp_path / "out.h5", "--fail-if", gate, *FAST)
    assert done.code == 2
    assert reason in done.err
    assert not (tmp_path / "out.h5").exists()


def test_a_gate_holds_for_a_missing_figure_and_for_any_warning(
    tilt: Tilt, scan: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.h5"
    run = ("run", "mri-recon", scan, "-o", out, "--resume", "--json", *FAST)
    done = tilt(*run, "--fail-if", "rhat>1.1", "--fail-if", "residual_ratio_max>1e3")
    assert done.code == 3
    assert "rhat>1.1 (rhat is not known)" in done.err
    assert "1e3" not in done.err
    figures = json.loads(done.out.splitlines()[0])
    assert figures["warned"] == bool(figures["warnings"])
    assert tilt(*run, "--fail-if", "warned>0").code == 3 * figures["warned"]


def test_a_gate_on_a_warning_holds_where_a_slice_has_it(
    tilt: Tilt, scan: Path, tmp_path: Path
) -> None:
    run = ("run", "mri-recon", scan, "-o", tmp_path / "out.h5", "--json", *FAST)
    few = ("--samples", "1", "--fail-if", "runs_disagree", "--fail-if", "few_independent_samples")
    done = tilt(*run, *few)
    assert done.code == 3
    assert "--fail-if holds: few_independent_samples in" in done.err
    assert "runs_disagree" not in done.err
    found = {one["code"]: one for one in json.loads(done.out.splitlines()[0])["warnings"]}
    assert found["few_independent_samples"] == {
        "code": "few_independent_samples", "slices": [0], "value": 1.0, "limit": 1.5,
        "text": "The samples are worth 1.0 independent samples, too few for a spread.",
        "hint": "Take more samples.",
    }  # fmt: skip


def test_an_unfinished_result_is_not_exported(
    tilt: Tilt, scan_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tiltkit.io.result import ResultWriter

    scan, out = scan_of(tmp_path / "scan.h5", n_slices=2), tmp_path / "out.h5"
    write = ResultWriter.write

    def once(self: ResultWriter, index: int, outcome: Any) -> None:
        if index:
            raise KeyboardInterrupt
        write(self, index, outcome)

    monkeypatch.setattr(ResultWriter, "write", once)
    assert tilt("run", "mri-recon", scan, "-o", out, *FAST).code == 130
    done = tilt("export", tmp_path / "out.h5.part", "-o", tmp_path / "out.tif")
    assert done.code == 4
    assert "1 of 2 slices" in done.err
    assert not (tmp_path / "out.tif").exists()


def test_a_repeated_run_notes_that_the_scan_has_changed(
    tilt: Tilt, scan: Path, result: Path, tmp_path: Path
) -> None:
    again = ("run", "-c", result, "-o", tmp_path / "again.h5", "--overwrite")
    assert "has changed" not in tilt(*again).err
    with scan.open("ab") as file:
        file.write(b"\0")
    done = tilt(*again)
    assert done.code == 0
    assert "has changed" in done.err
    scan.unlink()
    assert "does not exist" in tilt(*again).err


def test_quality_changes_the_budget_of_an_earlier_result(
    tilt: Tilt, scan: Path, result: Path, tmp_path: Path
) -> None:
    def levels(*more: object) -> str:
        lines = tilt("check", "-c", result, *more).out.splitlines()
        return next(line for line in lines if line.startswith("sampler"))

    assert "6 levels" in levels()
    assert "16 levels" in levels("--quality", "draft")
    assert "12 levels" in levels("--quality", "draft", "-s", "sampler.levels=8")


def test_a_run_is_resumed_and_repeated_with_the_same_prior_file_only(
    tilt: Tilt, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixture, out, again = tmp_path / "known.npz", tmp_path / "out.h5", tmp_path / "again.h5"
    means = np.random.default_rng(0).normal(size=(2, 2, 40, 36)).astype(np.float32)
    np.savez(mixture, means=means, variance=0.1)
    monkeypatch.chdir(tmp_path)
    run = ("run", "mri-recon", scan, "-o", out, *FAST, "--prior", "mixture",
           "-s", "prior.file=known.npz")  # fmt: skip
    assert tilt(*run).code == 0
    monkeypatch.chdir(scan.parent)
    done = tilt("run", "-c", out, "-o", again)
    assert done.code == 0, done.err
    assert (samples_of(again) == samples_of(out)).all()

    np.savez(mixture, means=means[::-1], variance=0.2)
    monkeypatch.chdir(tmp_path)
    for command in ((*run, "--resume"), ("run", "-c", out, "-o", again, "--overwrite")):
        done = tilt(*command)
        assert done.code == 2
        assert "known.npz has changed" in done.err or "another file for prior.file" in done.err
    done = tilt("run", "-c", out, "-o", again, "--overwrite", "-s", "prior.file=known.npz")
    assert done.code == 0, done.err
    assert (samples_of(again) != samples_of(out)).any()
    assert tilt("run", "-c", out, "-o", again, "--overwrite", "-s", "prior=gaussian").code == 0


def test_a_run_can_be_resumed_after_its_folder_was_moved(
    tilt: Tilt, scan_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    scan_of(old / "scan.h5")
    means = np.random.default_rng(0).normal(size=(2, 2, 40, 36)).astype(np.float32)
    np.savez(old / "known.npz", means=means, variance=0.1)
    run = ("run", "mri-recon", "scan.h5", "-o", "out.h5", *FAST, "--prior", "mixture",
           "-s", "prior.file=known.npz")  # fmt: skip
    monkeypatch.chdir(old)
    assert tilt(*run).code == 0
    old.rename(new)
    monkeypatch.chdir(new)
    assert tilt(*run, "--resume").code == 0
    # Results of earlier versions do not tell which files they were made with.
    with h5py.File("out.h5", "r+") as file:
        del file["entry/reconstruction/parameters/files_sha256"]
    assert tilt(*run, "--resume").code == 0


def test_an_output_never_replaces_a_file_that_an_option_names(
    tilt: Tilt, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("known.npz", means=np.zeros((1, 2, 40, 36), np.float32), variance=0.1)
    before = Path("known.npz").read_bytes()
    done = tilt("run", "mri-recon", scan, "-o", "known.npz", "--overwrite", *FAST, "--prior",
                "mixture", "-s", "prior.file=known.npz")  # fmt: skip
    assert (done.code, "is the input itself" in done.err) == (2, True)
    assert Path("known.npz").read_bytes() == before
