"""Failures of the disk, turned into errors that people can act on; locks of files in work."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tiltkit.errors import MachineError, OutputLockedError, is_full, known_error
from tiltkit.io.atomic import part_path

try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None  # type: ignore[assignment]

__all__ = ["explained", "lock", "need_room", "quiet", "share_lock"]

# A failed write comes out of h5py as any of these, depending on the call.
_H5PY_ERRORS = (OSError, RuntimeError, ValueError)


@contextmanager
def explained(path: Path, size: int) -> Iterator[None]:
    """Explain what goes wrong while a file is written.

    Args:
        path: Its final name.
        size: How large it will be, about, in bytes.

    Raises:
        OutputLockedError: Another process writes the same file.
        MachineError: The disk is full or broken.
    """
    try:
        yield
    except (BlockingIOError, FileExistsError) as error:
        raise OutputLockedError(
            f"{part_path(path)} is being written by another process.",
            "wait for it, or choose another -o.",
        ) from error
    except _H5PY_ERRORS as error:
        if is_full(error):
            raise MachineError(
                f"There is not enough disk space for {path}: it needs about {_readable(size)}.",
                "free some space, or choose another disk with -o.",
            ) from error
        if not isinstance(error, OSError):
            raise  # a mistake in the code, not on the disk
        known = known_error(error, str(path))
        raise known or MachineError(
            f"{path} could not be written: {str(error).splitlines()[0]}.",
            "check the disk, or choose another one with -o.",
        ) from error


def need_room(path: Path, size: int) -> None:
    """Raise the error of a full disk when less than ``size`` bytes are free."""
    if shutil.disk_usage(path.absolute().parent).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def quiet() -> Iterator[None]:
    """While an error is on its way already, a second one of the same cause would hide it."""
    try:
        yield
    except _H5PY_ERRORS:
        return


def lock(handle: int) -> None:
    """Keep a file that is open for writing from other processes; HDF5 can be told not to.

    Raises:
        BlockingIOError: Another process has it.
    """
    if fcntl is None:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return  # a file system without locks


def share_lock(handle: int) -> None:
    """Let readers open a locked file, this process among them, and still no writer."""
    if fcntl is not None:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)


def _readable(size: int) -> str:
    return f"{size / 1e9:.3g} GB" if size >= 1e9 else f"{max(size / 1e6, 1):.0f} MB"
