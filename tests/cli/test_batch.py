"""Several inputs in one call: each gets its line, whatever becomes of the others."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tiltkit.io import result as result_file

from .conftest import FAST

Tilt = Callable[..., Any]
RUN = ("run", "mri-recon", *FAST, "--json")
FIELDS = {"input", "output", "status", "kind", "error", "hint", "exit_code"}


def lines_of(done: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The lines of ``--json``: those of the inputs, and the totals."""
    *lines, totals = map(json.loads, done.out.splitlines())
    assert all(set(line) >= FIELDS for line in lines)
    assert totals["exit_code"] == done.code
    counts = {key: totals[key] for key in ("total", "done", "failed", "skipped", "gates")}
    statuses = [line["status"] for line in lines]
    assert counts == {
        "total": len(lines),
        "gates": statuses.count("gate"),
        **{status: statuses.count(status) for status in ("done", "failed", "skipped")},
    }
    return lines, totals


@pytest.fixture
def scans(scan_of: Any, tmp_path: Path) -> list[Path]:
    first = scan_of(tmp_path / "a.h5")
    return [first, Path(shutil.copy(first, tmp_path / "b.h5"))]


def test_no_bad_input_keeps_a_batch_from_its_other_inputs(
    tilt: Tilt, scans: list[Path], tmp_path: Path
) -> None:
    strange = tmp_path / os.fsdecode(b"caf\xe9.h5")
    shutil.copy(scans[0], strange)
    inputs = [tmp_path / "gone.h5", strange, tmp_path / f"{'x' * 250}.h5", *scans]
    done = tilt(*RUN, *inputs, "-o", tmp_path)
    lines, _ = lines_of(done)
    assert [line["input"] for line in lines] == list(map(str, inputs))
    assert [line["status"] for line in lines] == ["failed"] * 3 + ["done"] * 2
    assert [line["kind"] for line in lines] == ["input", "settings", "input", None, None]
    assert all(line["error"] and line["hint"] for line in lines[:3])
    assert done.code == 1, "there are two kinds of failure"
    assert all((tmp_path / f"{name}.posterior.h5").exists() for name in "ab")


def test_failures_of_one_kind_have_its_exit_code(
    tilt: Tilt, scans: list[Path], tmp_path: Path
) -> None:
    scans[0].write_bytes(b"no scan")
    done = tilt(*RUN, tmp_path / "gone.h5", *scans, "-o", tmp_path, "--fail-if", "chi2>1e-9")
    lines, _ = lines_of(done)
    assert [line["status"] for line in lines] == ["failed", "failed", "gate"]
    assert [line["exit_code"] for line in lines] == [4, 4, 3]
    assert lines[2]["reason"] == "chi2>1e-9"
    assert lines[2]["chi2"] > 0
    assert done.code == 4


def test_a_single_input_has_a_line_and_totals_too(tilt: Tilt, tmp_path: Path) -> None:
    done = tilt(*RUN, tmp_path / "gone.h5")
    (line,), totals = lines_of(done)
    assert (line["kind"], line["exit_code"], done.code) == ("input", 4, 4)
    assert totals["failed"] == 1
    assert done.err.startswith("Error: There is no file")


def test_settings_that_are_wrong_for_all_inputs_are_told_of_each(
    tilt: Tilt, scans: list[Path], tmp_path: Path
) -> None:
    for options in (["--prior", "gausian"], ["-o", tmp_path / "none/"], ["--fail-if", "chi3>1"]):
        done = tilt("run", "mri-recon", *scans, "--json", *options)
        lines, _ = lines_of(done)
        assert [line["kind"] for line in lines] == ["settings", "settings"]
        assert done.code == 2


def test_two_inputs_with_one_output_are_refused_before_the_first(
    tilt: Tilt, scans: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    twin = shutil.copy(scans[0], tmp_path / "folder/a.h5")
    done = tilt(*RUN, *scans, twin, "-o", tmp_path)
    assert done.code == 2
    assert "Two outputs" in done.err
    assert not list(tmp_path.glob("*.posterior.h5"))


def test_what_was_complete_before_is_skipped_under_resume(
    tilt: Tilt, scans: list[Path], tmp_path: Path
) -> None:
    assert tilt(*RUN, scans[0], "-o", tmp_path).code == 0
    done = tilt(*RUN, *scans, "-o", tmp_path, "--resume")
    lines, _ = lines_of(done)
    assert [line["status"] for line in lines] == ["skipped", "done"]
    assert "complete" in lines[0]["reason"]
    assert lines[0]["chi2"] == pytest.approx(lines[1]["chi2"])
    assert done.code == 0


def hold(part: Path, locked: Any, end: Any) -> None:
    """Hold a file as a run in another process does."""
    import fcntl

    with part.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        locked.set()
        end.wait(120)


@pytest.mark.parametrize(
    ("options", "code", "status"), [(["--resume"], 0, "skipped"), (["--overwrite"], 7, "failed")]
)
def test_what_another_process_writes_is_left_to_it_under_resume_and_else_a_failure(
    options: list[str], code: int, status: str, tilt: Tilt, scans: list[Path], tmp_path: Path
) -> None:
    pytest.importorskip("fcntl")
    context = multiprocessing.get_context("spawn")
    locked, end = context.Event(), context.Event()
    part = tmp_path / "a.posterior.h5.part"
    other = context.Process(target=hold, args=(part, locked, end))
    other.start()
    assert locked.wait(60)
    done = tilt(*RUN, *scans, "-o", tmp_path, *options)
    end.set()
    other.join()
    lines, _ = lines_of(done)
    assert [line["status"] for line in lines] == [status, "done"]
    assert done.code == code
    if code:
        assert lines[0]["kind"] == "locked"


def test_what_another_process_has_just_finished_is_skipped_under_resume(
    tilt: Tilt, scans: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tilt(*RUN, scans[0], "-o", tmp_path).code == 0
    finished, kept = tmp_path / "a.posterior.h5", tmp_path / "kept.h5"
    finished.rename(kept)
    check = result_file.check_output

    def late(path: Path, **how: Any) -> None:
        if path == finished:
            shutil.copy(kept, finished)
        check(path, **how)

    monkeypatch.setattr(result_file, "check_output", late)
    done = tilt(*RUN, *scans, "-o", tmp_path, "--resume")
    lines, _ = lines_of(done)
    assert [line["status"] for line in lines] == ["skipped", "done"]
    assert "finished" in lines[0]["reason"]
    assert done.code == 0
    assert finished.read_bytes() == kept.read_bytes()


def test_a_stopped_batch_has_a_line_for_every_input(
    tilt: Tilt, scans: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tiltkit_mri.task import MriRecon

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(MriRecon, "open", stop)
    done = tilt(*RUN, *scans, "-o", tmp_path)
    lines, _ = lines_of(done)
    assert [(line["status"], line["kind"]) for line in lines] == [
        ("failed", "stopped"), ("skipped", None)
    ]  # fmt: skip
    assert done.code == 130


def test_the_machine_is_not_mistaken_for_the_input(
    tilt: Tilt, scans: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tiltkit_mri.task import MriRecon

    faults = {"a.h5": MemoryError(), "b.h5": OSError(5, "Input/output error", "b.h5")}

    def fail(_self: MriRecon, path: Path) -> Any:
        raise faults[path.name]

    monkeypatch.setattr(MriRecon, "open", fail)
    lines, _ = lines_of(tilt(*RUN, *scans, "-o", tmp_path))
    assert [line["kind"] for line in lines] == ["memory", "machine"]
    assert not any("copy" in line["hint"] for line in lines)


def test_log_lines_of_a_batch_carry_the_time_and_results_do_not(
    tilt: Tilt, scans: list[Path], tmp_path: Path
) -> None:
    done = tilt("run", "mri-recon", tmp_path / "gone.h5", *scans, "-o", tmp_path, *FAST)
    first = done.err.splitlines()[0]
    assert re.match(r"\d\d:\d\d:\d\d Error: .*gone\.h5: There is no file", first)
    assert all(line.startswith(str(tmp_path)) for line in done.out.splitlines())


def test_a_check_that_fails_says_so_in_json(tilt: Tilt, tmp_path: Path) -> None:
    done = tilt("check", "mri-recon", tmp_path / "gone.h5", "--json", *FAST)
    line = json.loads(done.out)
    assert (line["status"], line["kind"], line["exit_code"]) == ("failed", "input", done.code)
