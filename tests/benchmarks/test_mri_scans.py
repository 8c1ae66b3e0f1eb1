"""Healthy MRI scans and scans with faults, the benchmark in small."""

from __future__ import annotations

from pathlib import Path

import mri_scans


def test_healthy_scans_are_read_without_an_assumption(tmp_path: Path) -> None:
    scans = mri_scans.healthy(3, seed=1, folder=tmp_path)
    assert mri_scans.judge((str(kind), None, path) for kind, path in scans) == (3, 3)


def test_faults_are_named(tmp_path: Path) -> None:
    right, total = mri_scans.judge(mri_scans.unhealthy(1, seed=1, folder=tmp_path))
    assert total == len(mri_scans.FAULTS)
    assert right == total
