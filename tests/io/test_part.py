"""The unfinished result: whole or absent whenever a run is stopped, and written by one process."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from tiltkit.errors import TiltkitError, UsageError
from tiltkit.io import part as part_module
from tiltkit.io.reading import read_estimate
from tiltkit.io.result import ResultWriter
from tiltkit.posterior.outcome import Outcome

Start = Callable[..., ResultWriter]
Make = Callable[..., Outcome]

needs_locks = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no flock")


def whole(start: Start, outcome: Make, **how: bool) -> Path:
    with start(**how) as writer:
        for index in range(3):
            writer.write(index, outcome(index))
        writer.finish()
    return writer.path


def stopped_while_made(tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave what a process leaves that is killed right before the new file gets its name."""
    copies: list[bytes] = []
    with monkeypatch.context() as patch:
        patch.setattr(part_module, "sync", lambda new: copies.append(new.read_bytes()))
        with start():
            pass
    (tmp_path / "out.h5.part.new").write_bytes(copies[0])


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_can_start_after_one_that_was_killed_while_it_created_its_file(
    tmp_path: Path,
    start: Start,
    outcome: Make,
    monkeypatch: pytest.MonkeyPatch,
    resume: bool,
) -> None:
    stopped_while_made(tmp_path, start, monkeypatch)
    assert [path.name for path in tmp_path.iterdir()] == ["out.h5.part.new"]
    result = whole(start, outcome, resume=resume)
    np.testing.assert_array_equal(read_estimate(result, 1).mean, outcome(1).mean)
    assert list(tmp_path.iterdir()) == [result]


def test_finished_slices_survive_a_kill_while_an_overwriting_run_creates_its_file(
    tmp_path: Path, start: Start, outcome: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped_while_made(tmp_path, start, monkeypatch)
    left = (tmp_path / "out.h5.part.new").read_bytes()
    with start() as writer:
        writer.write(1, outcome(1))
    (tmp_path / "out.h5.part.new").write_bytes(left)
    with start(resume=True) as writer:
        assert writer.finished == {1}
        assert not (tmp_path / "out.h5.part.new").exists()


def test_an_error_while_the_file_is_created_leaves_nothing(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tiltkit.io.result.build", stop)
    with pytest.raises(KeyboardInterrupt):
        start()
    assert list(tmp_path.iterdir()) == []


def write_unfinished(left: str, path: Path) -> None:
    """Files that runs of release 0.1 left when they were stopped while they made OUT.part."""
    head = b"\x89HDF\r\n\x1a\n" + bytes([0, 0, 0, 0, 0, 8, 8, 0, 4, 0, 16, 0, 0, 0, 0, 0])
    head += bytes(8) + b"\xff" * 8 + (2048).to_bytes(8, "little") + b"\xff" * 8
    contents = {
        "empty": b"",
        "header": head + bytes(32),
        "kept as zeros": bytes(5000),
        "without its tables": head + bytes(32) + bytes(150_000),
    }
    if left in contents:
        path.write_bytes(contents[left])
        return
    with h5py.File(path, "w") as file:
        file.attrs["creator"] = "tiltkit"
        file.create_group("entry").create_group("data")


@pytest.mark.parametrize(
    "left", ["empty", "header", "kept as zeros", "without its tables", "half of its groups"]
)
def test_an_unfinished_file_of_an_older_release_that_holds_no_slice_is_replaced_with_a_note(
    tmp_path: Path, start: Start, outcome: Make, left: str
) -> None:
    write_unfinished(left, tmp_path / "out.h5.part")
    with pytest.raises(UsageError, match="--resume"):
        start()
    with pytest.warns(UserWarning, match="holds no slice and is replaced"):
        result = whole(start, outcome, resume=True)
    np.testing.assert_array_equal(read_estimate(result, 2).mean, outcome(2).mean)


def test_a_damaged_file_that_may_hold_slices_is_kept(
    tmp_path: Path, start: Start, outcome: Make
) -> None:
    with start() as writer:
        writer.write(0, outcome())
    content = writer.part.read_bytes()
    for damaged in (content[:-5000], content[:96] + bytes(400) + content[496:]):
        writer.part.write_bytes(damaged)
        with pytest.raises(TiltkitError):
            start(resume=True)
        assert writer.part.read_bytes() == damaged


@pytest.mark.skipif(not Path("../shared/cases/pipeline").is_dir(), reason="needs its files")
@pytest.mark.parametrize("how", ["SIGKILL_during_creation", "SIGTERM_during_creation_96bytes"])
def test_files_of_stops_during_creation_are_replaced(
    tmp_path: Path, start: Start, outcome: Make, how: str
) -> None:
    left = Path(f"../shared/cases/pipeline/result_part_after_{how}.h5.part")
    (tmp_path / "out.h5.part").write_bytes(left.read_bytes())
    with pytest.warns(UserWarning, match="is replaced"):
        whole(start, outcome, resume=True)


AT_ONCE = """
    import multiprocessing, sys
    from pathlib import Path
    from tiltkit.errors import TiltkitError
    from tiltkit.io.result import ResultWriter
    from tiltkit.protocols import Axis, Layout

    context = multiprocessing.get_context("fork")
    layout = Layout(axes=tuple(Axis(name, range(k)) for name, k in zip("zyx", (3, 12, 10))))
    folder, how, left, n = Path(sys.argv[1]), sys.argv[2], sys.argv[3], 8

    def work(path, begin, tried, answers):
        begin.wait()
        writer, answer = None, "made"
        try:
            writer = ResultWriter.open(
                path, layout=layout, samples=2, recipe={}, provenance={},
                resume=how == "resume", overwrite=how == "overwrite",
            )
        except TiltkitError as error:
            answer = str(error)
        answers.put(answer)
        tried.wait()
        if writer:
            writer.__exit__(None, None, None)

    for k in range(5):
        path = folder / f"{k}.h5"
        if left == "left":
            path.with_name(path.name + ".part.new").touch()
        begin, tried, answers = context.Barrier(n), context.Barrier(n), context.SimpleQueue()
        arguments = path, begin, tried, answers
        workers = [context.Process(target=work, args=arguments) for _ in range(n)]
        for worker in workers:
            worker.start()
        found = sorted(answers.get() for _ in workers)
        for worker in workers:
            worker.join()
        others = [answer for answer in found if answer != "made"]
        assert len(others) == n - 1, found
        assert all("another pro" in a or "that was stopped" in a for a in others), others
"""


@needs_locks
@pytest.mark.parametrize("how", ["fresh", "resume", "overwrite"])
@pytest.mark.parametrize("left", ["left", "nothing"])
def test_of_processes_that_start_together_one_creates_the_file(
    tmp_path: Path, how: str, left: str
) -> None:
    command = [sys.executable, "-c", textwrap.dedent(AT_ONCE), str(tmp_path), how, left]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == [], "the one that made it finished no slice"


@needs_locks
def test_a_lock_on_a_name_that_now_is_another_file_does_not_count(tmp_path: Path) -> None:
    path, swaps = tmp_path / "out.h5.part.new", []
    real = part_module.lock

    def swap(number: int) -> None:
        real(number)
        if not swaps:  # right after the file was opened, another process renames it
            swaps.append(path.rename(tmp_path / "out.h5.part"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(part_module, "lock", swap)
        held = part_module._locked(path, create=True)
    assert held.handle is not None
    assert os.path.samestat(os.fstat(held.handle.fileno()), path.stat())
    held.release()
