"""Commands about scans, results, parts and plugins."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import FAST

Tilt = Callable[..., Any]

HEAVY = ("torch", "numpy", "h5py", "pydantic", "matplotlib", "scipy", "skimage", "rich")


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    script = (
        "import sys, tiltkit.cli\n"
        "try: tiltkit.cli.main(sys.argv[1:])\n"
        f"except SystemExit: print(sorted(set({HEAVY}) & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip().endswith("[]"), done.stdout


def test_help_names_every_command(tilt: Tilt) -> None:
    done = tilt("--help")
    assert done.code == 0
    for name in (
        "run",
        "check",
        "show",
        "evaluate",
        "report",
        "cite",
        "train",
        "prior",
        "list",
        "plugins",
    ):
        assert f"\n  {name} " in done.out


def test_the_version_is_that_of_the_package(tilt: Tilt) -> None:
    from tiltkit import __version__

    assert tilt("--version").out.strip() == f"tiltkit {__version__}"


def test_check_describes_the_run_and_writes_nothing(tilt: Tilt, scan: Path, tmp_path: Path) -> None:
    done = tilt("check", "mri-recon", scan, "--prior", "gaussian")
    assert done.code == 0, done.err
    for part in ("coils", "noise level", "measured columns", "moments", "time per network call"):
        assert part in done.out
    assert "note 1" in done.out
    assert done.out.splitlines()[-1].startswith("estimate ")
    assert [p.name for p in tmp_path.iterdir()] == ["scan.h5"]
    found = json.loads(tilt("check", "mri-recon", scan, "--prior", "gaussian", "--json").out)
    assert found["coils"] == 3
    assert found["estimated_seconds"] > 0
    assert found["estimated_memory_gb"] > 0.05
    assert found["result_mb"] > 0
    assert {"code", "text", "assumed"} == found["notes"][0].keys()


def test_show_distinguishes_a_scan_and_a_result(tilt: Tilt, scan: Path, tmp_path: Path) -> None:
    assert "mri.fastmri" in tilt("show", scan).out
    out = tmp_path / "out.h5"
    tilt("run", "mri-recon", scan, "-o", out, *FAST)
    found = json.loads(tilt("show", out, "--json").out)
    assert found["recipe"]["sampler"]["levels"] == 5
    assert found["provenance"]["raw_file"] == "scan.h5"


def test_evaluate_prints_every_metric_beside_that_of_no_prior(
    tilt: Tilt, scan: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.h5"
    tilt("run", "mri-recon", scan, "-o", out, *FAST)
    done = tilt("evaluate", out, "--truth", out)
    for name in ("psnr", "ssim", "nrmse", "chi2", "coverage90"):
        assert f"\n{name}" in done.out
    figures = json.loads(tilt("evaluate", out, "--truth", out, "--json").out)
    assert figures["nrmse"] == 0
    assert figures["psnr"] is None, "infinite, which JSON does not know"


def test_an_invalid_gate_is_refused_before_the_metrics(tilt: Tilt, tmp_path: Path) -> None:
    none = tmp_path / "none.h5"
    done = tilt("evaluate", none, "--truth", none, "--fail-if", "psnr")
    assert done.code == 2
    assert "'psnr' has the wrong form" in done.err


def test_an_existing_page_is_replaced_with_overwrite_only(
    tilt: Tilt, scan: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.h5"
    tilt("run", "mri-recon", scan, "-o", out, *FAST)
    assert tilt("report", out).code == 0
    assert tilt("report", out).code == 2
    assert tilt("report", out, "--overwrite").code == 0


def test_cite_names_the_papers_of_the_sampler_and_the_prior(
    tilt: Tilt, scan: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.h5"
    tilt("run", "mri-recon", scan, "-o", out, *FAST, "--prior", "tv", "--sampler", "twisted")
    done = tilt("cite", out)
    assert done.code == 0, done.err
    assert "arXiv:2306.17775" in done.out
    assert "Chambolle" in done.out
    found = json.loads(tilt("cite", out, "--json").out)
    assert [part["kind"] for part in found["parts"]] == ["task", "prior", "sampler"]
    assert "not installed" in tilt("--no-plugins", "cite", out).out
    assert tilt("cite", scan).code == 4


def test_list_names_parts_and_their_options(tilt: Tilt) -> None:
    everything = tilt("list").out
    for name in ("mri-recon", "mri.brain", "walmc", "almc", "psnr", "mri.fastmri"):
        assert name in everything
    assert "mri-recon" not in tilt("list", "prior").out
    assert "levels" in tilt("list", "samplers", "walmc").out
    assert "noise_level" in tilt("list", "task", "mri-recon").out
    found = json.loads(tilt("list", "sampler", "almc", "--json").out)
    assert {option["name"] for option in found["options"]} >= {"kappa", "delta", "tau"}
    assert "[{}]" in tilt("list", "prior", "module").out


def test_a_plugin_that_fails_is_named(
    tilt: Tilt, scan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tiltkit_mri.task.Layout", None)
    done = tilt("check", "mri-recon", scan, *FAST)
    assert done.code == 10
    assert "Unexpected error in the plugin tiltkit-mri: TypeError" in done.err
    assert "report it to its authors" in done.err


def test_a_group_alone_shows_its_help(tilt: Tilt) -> None:
    done = tilt("plugins")
    assert done.code == 2
    assert done.err.startswith("Usage:")


def test_without_plugins_only_the_built_in_parts_are_there(tilt: Tilt) -> None:
    assert "mri-recon" not in tilt("--no-plugins", "list").out
    assert "walmc" in tilt("--no-plugins", "list").out
    assert "mri-recon" not in tilt("--no-plugins=tiltkit-mri", "list").out


def test_plugins_are_listed_shown_and_examined(tilt: Tilt) -> None:
    assert "tiltkit-mri" in tilt("plugins", "list").out
    assert "mri.cartesian" in tilt("plugins", "show", "tiltkit-mri").out
    assert "mri.cartesian" in tilt("plugins", "show", "tiltkit_mri").out
    doctor = tilt("plugins", "doctor")
    found = [line for line in doctor.out.splitlines() if ", warning:" in line or ", error:" in line]
    # Adapters to libraries that are not installed here may say so, and nothing else.
    assert all("which is not installed" in line for line in found), doctor.out
    assert doctor.code == 0
    assert found or "no problems found" in doctor.out
    wrong = tilt("plugins", "show", "tiltkit-mir")
    assert (wrong.code, "did you mean 'tiltkit-mri'" in wrong.err) == (2, True)
