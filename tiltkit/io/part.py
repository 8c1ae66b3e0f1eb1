"""Unfinished outputs ``OUT.part``: creation under another name, locks, continuation.

A result file is laid out as ``OUT.part.new``, which is renamed to ``OUT.part`` once it is on the
disk. Whoever opens an unfinished file holds the lock of ``OUT.part.new`` while he does so, and that
of ``OUT.part`` for as long as he writes. A lock belongs to the file, not to its name: it stays
through a rename.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import h5py

from tiltkit.io.atomic import clear_checkpoints, part_path, sync, sync_folder
from tiltkit.io.diagnostics import COMPLETE
from tiltkit.io.disk import lock, quiet, share_lock

__all__ = [
    "Held",
    "check_free",
    "make_part",
    "new_path",
    "only_opener",
    "take_up",
    "was_never_made",
]

# The size of a new file in the header that HDF5 writes first; the true one follows at the end.
_NEW_SIZE = 2048
_HDF5 = b"\x89HDF\r\n\x1a\n"


@dataclass
class Held:
    """The lock of a file that is being written; other processes cannot take it.

    Attributes:
        handle: The open file that carries the lock; None where there are no such locks.
    """

    handle: IO[bytes] | None

    def share(self) -> None:
        """Allow readers to open the file, but no other writer."""
        if self.handle is not None:
            share_lock(self.handle.fileno())

    def release(self) -> None:
        """Release the lock."""
        if self.handle is not None:
            self.handle.close()


def new_path(path: Path) -> Path:
    """Path under which the unfinished file of an output is created."""
    return part_path(path).with_name(part_path(path).name + ".new")


@contextmanager
def only_opener(path: Path) -> Iterator[Held]:
    """Exclude other processes from opening an unfinished output; locks ``OUT.part.new``.

    What a stopped process left under that name is removed.

    Raises:
        BlockingIOError: Another process is opening it.
    """
    new = new_path(path)
    held = _locked(new, create=True)
    made = False
    try:
        yield held
        # The file is OUT.part by now, and the name may be another process's.
        made = held.handle is not None and not _is_still(held, new)
    finally:
        if not made:
            if _is_still(held, new):
                new.unlink(missing_ok=True)
            held.release()


def check_free(path: Path) -> None:
    """Check that no other process writes ``OUT.part``.

    Raises:
        BlockingIOError: Another process writes it.
        FileNotFoundError: Another process has just finished or removed it.
    """
    _locked(part_path(path), create=False).release()


def take_up(path: Path) -> tuple[h5py.File, Held]:
    """Open ``OUT.part`` for writing.

    Raises:
        BlockingIOError: Another process writes it.
        FileNotFoundError: Another process has just finished or removed it.
    """
    part = part_path(path)
    held = _locked(part, create=False)
    try:
        return _open(part), held
    except BaseException:
        held.release()
        raise


def make_part(path: Path, held: Held, build: Callable[[h5py.File], None]) -> h5py.File:
    """Create an unfinished file in place of an existing one; call within `only_opener`.

    Args:
        path: The final name of the output.
        held: The lock of ``OUT.part.new``; from now on that of ``OUT.part``.
        build: Fills the new file.

    Raises:
        BlockingIOError: Another process writes the one that is there.
    """
    part, new = part_path(path), new_path(path)
    if part.exists():
        old = _locked(part, create=False)
        part.unlink()  # before the new one takes its space
        old.release()
    clear_checkpoints(path)
    file = h5py.File(new, "w", locking=False)
    try:
        build(file)
        file.flush()  # a full disk shows here; closing would hide it
    except BaseException:
        with quiet():
            file.close()
        raise
    file.close()
    sync(new)
    new.replace(part)
    sync_folder(part.parent)
    return _open(part)


def was_never_made(part: Path) -> bool:
    """Return whether a file was left by a process that was stopped while it created the file.

    Releases before 0.2 made ``OUT.part`` under its own name. Such a file holds no slice: HDF5 has
    not written its header again, or what `build` makes last is not there.
    """
    with part.open("rb") as start:
        head = start.read(48)
    if len(head) < 48 or not any(head):
        return True
    if head[:8] != _HDF5:
        return False
    if head[8] == 0 and int.from_bytes(head[40:48], "little") <= _NEW_SIZE:
        return True
    try:
        with h5py.File(part, "r", locking=False) as file:
            ours = file.attrs.get("creator") == "tiltkit" or not len(file)
            return ours and f"entry/diagnostics/{COMPLETE}" not in file
    except (OSError, RuntimeError, KeyError):
        return False  # damaged later on: it may hold slices


def _open(part: Path) -> h5py.File:
    # The lock is held already; HDF5 would ask for a second one.
    return h5py.File(part, "r+", locking=False)


def _locked(path: Path, *, create: bool) -> Held:
    """Lock the file with this name, and check that it still has the name."""
    if sys.platform == "win32":  # open files cannot be renamed there
        return Held(None)
    while True:
        number = os.open(path, os.O_RDWR | (os.O_CREAT if create else 0), 0o666)
        held = Held(os.fdopen(number, "r+b"))
        try:
            lock(number)
        except BaseException:
            held.release()
            raise
        if _is_still(held, path):
            return held
        held.release()


def _is_still(held: Held, path: Path) -> bool:
    """Return whether a name is that of the locked file."""
    if held.handle is None:
        return True
    try:
        return os.path.samestat(os.fstat(held.handle.fileno()), path.stat())
    except (FileNotFoundError, ValueError):
        return False
