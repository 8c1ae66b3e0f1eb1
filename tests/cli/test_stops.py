"""Runs that are stopped at any moment, also while their file is created, and resumed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tiltkit.errors import Kind, MachineError, TiltkitError
from tiltkit.io.result import ResultWriter

from .conftest import FAST, samples_of

Tilt = Callable[..., Any]
ROOT = Path(__file__).parents[2]

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")


@needs_fork
def test_stops_at_any_moment_are_obeyed_and_change_no_bit_after_resume() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "stops.py"), "--seed", "5"]
    command += ["--creation", "3", "--stops", "3", "--signals", "3"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=600, check=False, cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "differ 0, stuck 0, litter 0, swallowed 0, other code 0, noisy 0" in done.stdout


@pytest.mark.parametrize("step", ["build", "need_room"])
def test_a_stop_while_the_file_is_created_leaves_nothing(
    tilt: Tilt, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    run = ("run", "mri-recon", scan, "-o", tmp_path / "out.h5", *FAST)
    names: list[str] = []

    def stop(*_arguments: object) -> None:
        names.extend(path.name for path in tmp_path.iterdir())
        signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(f"tiltkit.io.result.{step}", stop)
        stopped = tilt(*run)
    assert (stopped.code, stopped.err.strip()) == (130, "Stopped.")
    assert "out.h5.part.new" in names
    assert "out.h5.part" not in names
    assert [path.name for path in tmp_path.iterdir()] == ["scan.h5"]
    assert tilt(*run).code == 0


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (MachineError("The disk is full."), True),
        (MachineError("No memory.", kind=Kind.MEMORY), True),
        (MemoryError(), True),
        (OSError(5, "Input/output error"), True),
        (TiltkitError("The samples became NaN."), False),
        (ZeroDivisionError("in a plugin"), False),
    ],
    ids=["disk", "device memory", "memory", "broken disk", "NaN", "plugin"],
)
def test_a_fault_that_passes_keeps_the_checkpoint_and_one_that_stays_does_not(
    tilt: Tilt,
    scan: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    kept: bool,
) -> None:
    out, whole = tmp_path / "out.h5", tmp_path / "whole.h5"
    run = ("run", "mri-recon", scan, "-o", out, *FAST)

    def fail(*_arguments: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(ResultWriter, "write", fail)
        assert tilt(*run).code not in (0, 130)
    left = {path.name for path in tmp_path.iterdir()} - {"scan.h5"}
    assert left == ({"out.h5.part", "out.h5.part.checkpoint"} if kept else set())
    if kept:
        assert tilt(*run, "--resume").code == 0
        assert tilt("run", "mri-recon", scan, "-o", whole, *FAST).code == 0
        assert (samples_of(out) == samples_of(whole)).all()
