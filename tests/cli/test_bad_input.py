"""Wrong input and wrong use: a short error with a remedy, and no output."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from .conftest import FAST, write_scan

Tilt = Callable[..., Any]


def nan_kspace() -> np.ndarray:
    kspace = np.ones((1, 3, 40, 36), np.complex64)
    kspace[0, 1, 2, 3] = np.nan
    return kspace


# Every third column of k-space, the one in the middle left out.
THIRD = np.arange(36) % 3 == 1
NOISE = np.random.default_rng(2).normal(size=(1, 3, 40, 36, 2)) @ np.array([1, 1j], np.complex64)
BAD = {
    "not HDF5": (None, b"no hdf5 at all", 4, "not an HDF5 file"),
    "empty": (None, b"", 4, "empty"),
    "without k-space": ({"kspace": None}, None, 4, "mask"),
    "NaN in k-space": ({"kspace": nan_kspace()}, None, 4, "NaN"),
    "wrong dtype": ({"kspace": np.ones((1, 3, 40, 36), np.float32)}, None, 4, "float32"),
    "one dimension": ({"kspace": np.ones(40, np.complex64)}, None, 4, "1 dimension"),
    "axes of one sample": ({"kspace": np.ones((1,) * 5, np.complex64)}, None, 4, "at least 6"),
    "empty mask": ({"mask": np.zeros(36, bool)}, None, 4, "no column"),
    "mask of wrong length": ({"mask": np.ones(35, bool)}, None, 4, "36 columns"),
    "no calibration lines": (
        {"mask": THIRD, "kspace": np.where(THIRD, NOISE, 0)},
        None,
        4,
        "calibration lines",
    ),
    "zero slices": ({"kspace": np.ones((0, 3, 40, 36), np.complex64)}, None, 4, "no slices"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_with_a_hint_and_leaves_no_output(
    name: str, tilt: Tilt, tmp_path: Path
) -> None:
    changes, content, code, complaint = BAD[name]
    scan = tmp_path / "scan.h5"
    if content is not None:
        scan.write_bytes(content)
    else:
        write_scan(scan, **(changes or {}))
    before = scan.read_bytes()
    done = tilt("run", "mri-recon", scan, "-o", tmp_path / "out.h5", *FAST)
    assert_refused(done, code, complaint)
    assert scan.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["scan.h5"]


def test_a_truncated_file_is_refused(tilt: Tilt, scan: Path, tmp_path: Path) -> None:
    scan.write_bytes(scan.read_bytes()[:-5000])
    done = tilt("run", "mri-recon", scan, "-o", tmp_path / "out.h5", *FAST)
    assert_refused(done, 4, "truncated")
    assert [p.name for p in tmp_path.iterdir()] == ["scan.h5"]


def test_a_scan_that_changes_while_it_is_read_gives_no_result(
    tilt: Tilt, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tiltkit_mri.task import MriRecon

    from tiltkit.io.result import ResultWriter

    def changing(method: Any, added: bytes) -> Any:
        def changed(*arguments: Any) -> Any:
            done = method(*arguments)
            scan.write_bytes(scan.read_bytes() + added)
            return done

        return changed

    run = ("run", "mri-recon", scan, "-o", tmp_path / "out.h5", *FAST)
    for owner, name in ((MriRecon, "open"), (ResultWriter, "write")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, changing(getattr(owner, name), b"\0"))
            done = tilt(*run)
        assert done.code == 5
        assert f"{scan} changed while it was read" in done.err
        assert [p.name for p in tmp_path.iterdir()] == ["scan.h5"]
    monkeypatch.setattr(ResultWriter, "write", changing(ResultWriter.write, b""))
    assert tilt(*run).code == 0, "the content is the same"


def assert_refused(done: Any, code: int, complaint: str) -> None:
    assert done.code == code, done.err
    assert complaint in done.err
    assert done.err.startswith("Error: ")
    lines = done.err.strip().split("\n")
    assert len(lines) == 2, done.err
    assert lines[1].startswith("Try: ")
    assert done.out == ""


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--prior", "gausian"], "did you mean 'gaussian'"),
        (["--sampler", "walms"], "did you mean 'walmc'"),
        (["-s", "sampler.levls=3"], "did you mean 'levels'"),
        (["-s", "sampler.levels=1"], "must be greater"),
        (["-s", "task.nois=1"], "There is no option 'task.nois'"),
        (["-s", "levels"], "key=value"),
        (["--samples", "0"], "samples is 0"),
        (["--samples", "few"], "'few' is not a valid integer"),
        (["--device", "tpu"], "no device 'tpu'"),
        (["--slices", "a"], "not a list"),
        (["--slices", "0,-1:1"], "not all in the file, which has 1"),
        (["--slices", f"0:{10**20}"], "not all in the file, which has 1"),
        (["--smaples", "3"], "--samples"),
        (["-c", "no.toml"], "No such file"),
        (["-s", "task.calibration_lines=900"], "900"),
    ],
)
def test_wrong_settings_are_refused_before_any_output(
    arguments: list[str], complaint: str, tilt: Tilt, scan: Path, tmp_path: Path
) -> None:
    done = tilt("run", "mri-recon", scan, "-o", tmp_path / "out.h5", *FAST, *arguments)
    assert_refused(done, 2, complaint)
    assert [p.name for p in tmp_path.iterdir()] == ["scan.h5"]


def test_an_unknown_task_or_command_gets_the_nearest_name(tilt: Tilt, scan: Path) -> None:
    assert_refused(tilt("run", "mri-recom", scan), 2, "did you mean 'mri-recon'")
    assert_refused(tilt("rum"), 2, "did you mean 'run'")
    assert_refused(tilt("list", "priorr"), 2, "did you mean 'prior'")


def test_a_missing_input_is_refused(tilt: Tilt, tmp_path: Path) -> None:
    assert_refused(tilt("run", "mri-recon", tmp_path / "no.h5"), 4, "no.h5")
    assert_refused(tilt("run", "mri-recon"), 2, "No input file")
    assert_refused(tilt("show", tmp_path / "no.h5"), 4, "no.h5")
    assert_refused(tilt("evaluate", tmp_path / "no.h5", "--truth", tmp_path / "t.h5"), 4, "no.h5")
    assert_refused(tilt("report", tmp_path / "no.h5"), 4, "no.h5")


def test_a_pipe_is_refused_and_not_waited_for(tilt: Tilt, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.h5"
    os.mkfifo(pipe)
    for command in (("run", "mri-recon", pipe), ("check", "mri-recon", pipe), ("show", pipe)):
        assert_refused(tilt(*command), 4, f"{pipe} is no regular file")


def test_a_folder_that_may_not_be_entered_is_named(
    tilt: Tilt, scan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(self: Path, **_how: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "exists", locked)  # permissions do not bind root
    for command in (("run", "mri-recon", scan, "-o", "out.h5"), ("show", scan)):
        assert_refused(tilt(*command), 4, f"{scan} may not be read: permission denied")


def test_an_existing_output_is_replaced_with_overwrite_only(
    tilt: Tilt, scan: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.h5"
    out.write_bytes(b"precious")
    assert_refused(tilt("run", "mri-recon", scan, "-o", out, *FAST), 2, "exists")
    assert out.read_bytes() == b"precious"
    assert tilt("run", "mri-recon", scan, "-o", out, "--overwrite", *FAST).code == 0
    assert h5py.is_hdf5(out)


def test_the_input_can_never_be_the_output(tilt: Tilt, scan: Path) -> None:
    before = scan.read_bytes()
    done = tilt("run", "mri-recon", scan, "-o", scan, "--overwrite", *FAST)
    assert_refused(done, 2, "is the input itself")
    assert scan.read_bytes() == before


def test_a_missing_output_folder_is_refused(tilt: Tilt, scan: Path, tmp_path: Path) -> None:
    done = tilt("run", "mri-recon", scan, "-o", tmp_path / "no" / "out.h5", *FAST)
    assert_refused(done, 2, "does not exist")


def test_a_read_only_output_folder_is_refused(
    tilt: Tilt, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() == 0:  # permissions do not bind root
        monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    done = tilt("run", "mri-recon", scan, "-o", folder / "out.h5", *FAST)
    assert_refused(done, 2, "read-only")


def test_a_full_disk_is_refused_before_any_sampling(
    tilt: Tilt, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tiltkit.io import result

    def full(path: Path, size: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(result, "need_room", full)
    done = tilt("run", "mri-recon", scan, "-o", tmp_path / "out.h5", *FAST)
    assert_refused(done, 9, "not enough disk space")
    assert [p.name for p in tmp_path.iterdir()] == ["scan.h5"]


def test_debug_shows_the_traceback(tilt: Tilt, tmp_path: Path) -> None:
    done = tilt("--debug", "show", tmp_path / "no.h5")
    assert "Traceback" in done.err
    assert done.code == 4
