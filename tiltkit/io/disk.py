"""Errors of the disk with a hint, and locks of files that are being written."""

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
    """Convert errors while a file is written.

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
            raise  # a programming error
        known = known_error(error, str(path))
        raise known or MachineError(
            f"{path} could not be written: {str(error).splitlines()[0]}.",
            "check the disk, or choose another one with -o.",
        ) from error


def need_room(path: Path, size: int) -> None:
    """Raise the error of a full disk if less than ``size`` bytes are free."""
    if shutil.disk_usage(path.absolute().parent).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress errors of closing after another error, which they would hide."""
    try:
        yield
    except _H5PY_ERRORS:
        return


def lock(handle: int) -> None:
    """Lock an open file against other processes, also where locks of HDF5 are switched off.

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
    """Change the lock of a file, so that readers can open it but no writer."""
    if fcntl is not None:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)


def _readable(size: int) -> str:
    return f"{size / 1e9:.3g} GB" if size >= 1e9 else f"{max(size / 1e6, 1):.0f} MB"
