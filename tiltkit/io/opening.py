"""Opening of HDF5 files for reading, with a kind of error for each cause of failure."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from traceback import walk_tb

import h5py

from tiltkit.errors import InputError, Kind, MachineError, TiltkitError, known_error
from tiltkit.io.source import check_source, growing, is_growing, missing, not_permitted

__all__ = ["hdf5_file", "is_hdf5", "open_hdf5", "raised_by_h5py", "swmr_reading", "unreadable"]

# HDF5's messages for missing objects.
_GAPS = ("doesn't exist", "not found", "can't locate", "external")
# HDF5's message for a file that is marked as open for writing.
_MARKED = ("already open", "SWMR")
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
# Place of the marks in a superblock of version 3, and the one of a SWMR writer.
_MARKS, _SWMR_WRITER = 11, 4

_swmr: ContextVar[bool] = ContextVar("swmr", default=False)


@contextmanager
def swmr_reading(on: bool) -> Iterator[None]:
    """Open HDF5 files in SWMR mode, in this thread and block: as they stand, while they grow.

    Readers of plugins get this mode through `open_hdf5` and `hdf5_file`.
    """
    token = _swmr.set(on)
    try:
        yield
    finally:
        _swmr.reset(token)


def hdf5_file(path: Path) -> h5py.File:
    """Open an HDF5 file read-only, for the method ``matches`` of readers.

    Raises:
        OSError: It cannot be opened; `open_hdf5` says why.
    """
    return h5py.File(path, "r", swmr=_swmr.get())


@contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open any HDF5 file read-only.

    A file that cannot be read is watched for up to three seconds, to tell damage from growth.

    Raises:
        InputError: Of kind ``input``: the file is missing, a pipe, empty, of another format,
            truncated or damaged. ``growing``: it is being written or copied. ``unclosed``: its
            writer ended without closing it. ``locked``: another program holds it.
        MachineError: The disk or the network failed.
    """
    check_source(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder.", "name one file.")
    try:
        file = hdf5_file(path)
    except OSError as error:
        raise _not_opened(path, error) from error
    try:
        with file:
            yield file
    except (OSError, RuntimeError, KeyError, UnicodeDecodeError) as error:
        if _shows_damage(error):
            raise unreadable(path, error) from error
        raise


def is_hdf5(path: Path) -> bool:
    """Return whether a file exists and begins with the HDF5 signature."""
    try:
        return path.is_file() and bool(h5py.is_hdf5(path))
    except OSError:  # no permission
        return False


def raised_by_h5py(error: BaseException) -> bool:
    """Return whether h5py raised an exception; others are programming errors."""
    *_, (frame, _) = walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__")).startswith("h5py")


def unreadable(path: Path, error: Exception) -> TiltkitError:
    """Error for an open file with parts that HDF5 cannot read."""
    known = known_error(error, str(path))
    if isinstance(known, MachineError):
        return known
    if is_growing(path):
        return growing(path)
    return InputError(
        f"{path} is damaged: its data cannot be read or has a wrong checksum.",
        "copy it again from its source.",
    )


def _shows_damage(error: Exception) -> bool:
    """Return whether an exception means a damaged file: not a missing object or wrong call."""
    if isinstance(error, OSError):
        return "read data" in str(error)
    gap = isinstance(error, KeyError) and any(words in str(error) for words in _GAPS)
    return raised_by_h5py(error) and not gap


def _not_opened(path: Path, error: OSError) -> TiltkitError:
    """Error for a file that HDF5 does not open."""
    if isinstance(error, BlockingIOError):
        return InputError(
            f"{path} is held by another program, which writes to it.",
            "run the same command again when that program has closed it.",
            kind=Kind.LOCKED,
        )
    if isinstance(error, PermissionError):
        return not_permitted(path)
    if isinstance(error, FileNotFoundError):
        return missing(path)
    known = known_error(error, str(path))
    if isinstance(known, MachineError):
        return known
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as second:
        return known_error(second, str(path)) or missing(path)
    return _refused(path, head, marked=any(words in str(error) for words in _MARKED))


def _refused(path: Path, head: bytes, *, marked: bool) -> TiltkitError:
    """Error for a file, by its first bytes.

    Args:
        path: The file.
        head: Its first 512 bytes.
        marked: Whether it is marked as open for writing.
    """
    swmr = marked and len(head) > _MARKS and bool(head[_MARKS] & _SWMR_WRITER)
    # A copy is written from its first byte on, with some programs into a file of zeros.
    ours = _SIGNATURE.startswith(head[: len(_SIGNATURE)]) or h5py.is_hdf5(path)
    if (ours or not head.strip(b"\0")) and is_growing(path):
        return growing(path, "or read it as it stands with --swmr." if swmr else "")
    if marked:
        return InputError(
            f"{path} was left open by a program that ended without closing it.",
            f"once nothing writes to it any more: h5clear -s {shlex.quote(str(path))}"
            + (", or read it as it stands with --swmr" if swmr else ""),
            kind=Kind.UNCLOSED,
        )
    if not head:
        return InputError(f"{path} is empty.", "copy or save it again.")
    if ours:
        return InputError(
            f"{path} is a damaged or truncated HDF5 file.", "copy it again from its source."
        )
    if not head.strip(b"\0"):
        return InputError(
            f"{path} begins with zeros: it was never filled.", "copy or save it again."
        )
    return InputError(
        f"{path} is not an HDF5 file.", "give the .h5 file that the instrument wrote."
    )
