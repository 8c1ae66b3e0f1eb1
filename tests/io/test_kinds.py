"""The kinds of fault of HDF5 files that do not open; each file is made here as it arises."""

from __future__ import annotations

import errno
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tiltkit.errors import InputError, Kind, MachineError, TiltkitError
from tiltkit.io import opening, source
from tiltkit.io.opening import open_hdf5, swmr_reading
from tiltkit.io.source import growing, watched

DATA = np.arange(40_000.0)


@pytest.fixture(autouse=True)
def _little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "QUIET", 0.3)


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=DATA, chunks=(1000,), fletcher32=True)
    return path


def fault_of(path: Path) -> TiltkitError:
    """The error of opening and reading a file."""
    with pytest.raises(TiltkitError) as caught, open_hdf5(path) as file:
        _ = file["x"][:]
    assert str(path) in caught.value.message
    return caught.value


def cut(scan: Path) -> None:
    scan.write_bytes(scan.read_bytes()[:-3000])


def flip(scan: Path) -> None:
    with h5py.File(scan) as file:
        offset = file["x"].id.get_chunk_info(3).byte_offset
    with scan.open("r+b") as file:
        file.seek(offset + 100)
        file.write(b"\xff\xff\xff")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (cut, "truncated"),
        (flip, "checksum"),
        (lambda scan: scan.write_bytes(b""), "empty"),
        (lambda scan: scan.write_bytes(bytes(9000)), "begins with zeros"),
        (lambda scan: scan.write_bytes(b"<html>404</html>"), "not an HDF5 file"),
        (Path.unlink, "no file"),
    ],
    ids=["cut", "flipped bits", "empty", "zeros", "text", "missing"],
)
def test_an_unreadable_file_that_does_not_change_is_a_bad_input(
    spoil: Callable[[Path], Any], says: str, scan: Path
) -> None:
    spoil(scan)
    error = fault_of(scan)
    assert (type(error), error.kind) == (InputError, Kind.INPUT)
    assert says in error.message
    assert not error.transient


@contextmanager
def changing(change: Callable[[], Any]) -> Iterator[None]:
    """Call a function again and again during the block."""
    stop = threading.Event()

    def go_on() -> None:
        while not stop.wait(0.05):
            change()

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\0")


@pytest.mark.parametrize("start", [0, 4, 900, 20_000])
def test_a_file_that_is_being_copied_is_growing(start: int, scan: Path) -> None:
    scan.write_bytes(scan.read_bytes()[:start])
    with changing(lambda: append(scan)):
        error = fault_of(scan)
    assert (error.kind, error.transient) == (Kind.GROWING, True)
    assert "copy" not in error.hint


def test_a_copy_into_a_file_of_full_size_is_growing(scan: Path) -> None:
    size = scan.stat().st_size
    scan.write_bytes(bytes(size))

    def rewrite() -> None:
        with scan.open("r+b") as file:
            file.seek(size - 1)
            file.write(b"\0")

    with changing(rewrite):
        assert fault_of(scan).kind is Kind.GROWING


def test_a_bad_input_that_changes_meanwhile_is_growing_for_any_reader(scan: Path) -> None:
    def read() -> None:
        with watched(scan):
            raise InputError(f"{scan} is zero everywhere.")

    with pytest.raises(InputError) as caught:
        read()
    assert caught.value.kind is Kind.INPUT
    with changing(lambda: append(scan)), pytest.raises(InputError) as caught:
        read()
    assert caught.value.kind is Kind.GROWING


@pytest.mark.skipif(not Path("/proc/self/fdinfo").exists(), reason="needs Linux's /proc")
def test_a_stalled_copy_is_growing_while_its_program_has_it_open(scan: Path) -> None:
    cut(scan)
    with scan.open("ab"):
        assert fault_of(scan).kind is Kind.GROWING
    with scan.open("rb"):
        assert fault_of(scan).kind is Kind.INPUT


def write_without_closing(path: Path, swmr: bool, wait: float, ready: Any) -> None:
    """Write a file, stay for some time, end without closing it."""
    file = h5py.File(path, "w", libver="latest")
    data = file.create_dataset("x", (0,), maxshape=(None,), chunks=(1000,))
    if swmr:
        file.swmr_mode = True
    data.resize((3000,))
    data[:] = 1
    file.flush()
    ready.set()
    time.sleep(wait)
    os._exit(0)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """``writer(swmr=True, alive=True)``: a file, and the process that wrote or writes it."""
    context = multiprocessing.get_context("spawn")
    processes = []

    def start(*, swmr: bool, alive: bool) -> Path:
        path, ready = tmp_path / "live.h5", context.Event()
        process = context.Process(
            target=write_without_closing, args=(path, swmr, 60.0 if alive else 0.0, ready)
        )
        process.start()
        processes.append(process)
        assert ready.wait(60)
        if not alive:
            process.join()
        return path

    yield start
    for process in processes:
        process.kill()
        process.join()


@pytest.mark.skipif(not Path("/proc/self/fdinfo").exists(), reason="needs Linux's /proc")
def test_a_swmr_file_with_a_live_writer_is_growing_and_can_be_read_as_it_stands(
    writer: Callable[..., Path],
) -> None:
    path = writer(swmr=True, alive=True)
    error = fault_of(path)
    assert error.kind is Kind.GROWING
    assert "--swmr" in error.hint
    with swmr_reading(True), open_hdf5(path) as file:
        assert file["x"].shape == (3000,)
    assert fault_of(path).kind is Kind.GROWING, "the mode ends with its block"


@pytest.mark.parametrize("swmr", [True, False])
def test_the_error_for_a_file_of_a_dead_writer_has_the_command_that_closes_it(
    swmr: bool, writer: Callable[..., Path]
) -> None:
    path = writer(swmr=swmr, alive=False)
    error = fault_of(path)
    assert error.kind is Kind.UNCLOSED
    assert f"h5clear -s {path}" in error.hint
    assert ("--swmr" in error.hint) is swmr
    assert not error.transient


def test_a_file_that_another_process_has_locked_is_locked(writer: Callable[..., Path]) -> None:
    error = fault_of(writer(swmr=False, alive=True))
    assert (error.kind, error.transient) == (Kind.LOCKED, True)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENETUNREACH, errno.EMFILE])
def test_a_disk_error_on_opening_is_not_reported_as_damage(
    number: int, scan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(f"Unable to open file (errno = {number}, error message = '...')")

    monkeypatch.setattr(opening.h5py, "File", fail)
    error = fault_of(scan)
    assert (type(error), error.kind) == (MachineError, Kind.MACHINE)
    assert "copy" not in error.hint
    assert error.transient


def test_a_disk_error_on_reading_is_not_reported_as_damage(scan: Path) -> None:
    with pytest.raises(MachineError) as caught, open_hdf5(scan):
        raise OSError("Can't synchronously read data (file read failed: errno = 5, buf = 0x1)")
    assert str(scan) in caught.value.message


def test_the_error_for_missing_permission_names_the_owner(
    scan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Unable to open file (errno = 13)")

    monkeypatch.setattr(opening.h5py, "File", refuse)
    error = fault_of(scan)
    assert error.kind is Kind.INPUT
    assert "owner" in error.hint


def test_the_hint_for_a_growing_file_is_never_to_copy_it_again() -> None:
    assert "copy" not in growing(Path("scan.h5")).hint
