"""CPU threads: their default number, and results that do not depend on it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tiltkit.cli.shared import set_threads
from tiltkit.io.reading import read_provenance, read_recipe
from tiltkit.io.result import ResultWriter
from tiltkit.plugins import load_plugins
from tiltkit.recon.check import check_scan
from tiltkit.recon.recipe import resolve

from .conftest import FAST, samples_of

Tilt = Callable[..., Any]


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "SLURM_CPUS_PER_TASK"):
        monkeypatch.delenv(name, raising=False)


def test_the_default_is_the_processors_of_the_batch_job_or_of_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_threads(None)
    assert torch.get_num_threads() == len(os.sched_getaffinity(0))
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "3")
    set_threads(None)
    assert torch.get_num_threads() == 3
    set_threads(2)
    assert torch.get_num_threads() == 2


def test_a_number_set_for_openmp_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "3")
    set_threads(None)
    assert torch.get_num_threads() == 1


def test_check_shows_the_threads_and_a_result_keeps_them(
    tilt: Tilt, scan: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.h5"
    checked = tilt("check", "mri-recon", scan, "--prior", "gaussian", "--threads", 2, "--json")
    assert json.loads(checked.out)["CPU threads"] == 2
    assert tilt("run", "mri-recon", scan, "-o", out, *FAST, "--threads", 3).code == 0
    assert (read_provenance(out)["threads"], read_recipe(out)["threads"]) == (3, 3)


def test_threads_change_samples_by_no_more_than_rounding_and_do_not_hinder_resuming(
    tilt: Tilt, scan_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan, one, two = scan_of(tmp_path / "s.h5", n_slices=2), tmp_path / "1.h5", tmp_path / "2.h5"
    # `moments` ends its solves before they converge, which amplifies rounding.
    run = ("run", "mri-recon", scan, *FAST, "--sampler", "twisted")
    assert tilt(*run, "-o", one, "--threads", 1).code == 0
    write = ResultWriter.write

    def stop_at_the_second(self: ResultWriter, index: int, *rest: Any) -> None:
        if index == 1:
            raise KeyboardInterrupt
        write(self, index, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(ResultWriter, "write", stop_at_the_second)
        assert tilt(*run, "-o", two, "--threads", 1).code == 130
    done = tilt(*run, "-o", two, "--threads", 4, "--resume")
    assert done.code == 0, done.err
    a, b = samples_of(one), samples_of(two)  # (sample, slice, *space)
    assert np.array_equal(a[:, 0], b[:, 0])
    # Measured: 4e-5 in single precision, from sums in another order on every level.
    assert np.abs(a - b).max() < 2e-4 * np.abs(a).max()


def test_a_check_from_python_uses_the_threads_of_its_recipe_and_gives_them_back(
    scan: Path,
) -> None:
    plugins = load_plugins()
    values = {"task": {"name": "mri-recon"}, "prior": {"name": "gaussian"}, "threads": 3}
    before = torch.get_num_threads()
    found = check_scan(resolve(values, plugins), plugins, scan)
    assert (found["CPU threads"], torch.get_num_threads()) == (3, before)
