"""Checks of input files: readable, complete, unchanged since opening."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tiltkit.digest import digest
from tiltkit.errors import InputError, Kind

__all__ = [
    "Stamp", "check_source", "check_unchanged", "growing", "is_growing", "missing", "not_permitted",
    "stamp", "watched",
]  # fmt: skip

# Name, size in bytes and time of the last change in ns of each file.
Stamp = frozenset[tuple[Path, int, int]]

# Seconds without a change after which a file counts as neither copied nor written.
QUIET = 3.0
# Seconds for which a file is observed even if its last change is older.
_LOOK = 0.25
_PAUSE = 0.05


def check_source(path: Path) -> None:
    """Check that an input is a file or folder that can be opened.

    Raises:
        InputError: It is missing, or may not be read, or is a pipe or device, which could be
            waited for without end.
    """
    try:
        there, regular = path.exists(), path.is_file() or path.is_dir()
    except PermissionError as error:
        raise not_permitted(path) from error
    if not there:
        raise missing(path)
    if not regular:
        raise InputError(f"{path} is no regular file.", "copy what it gives into a file first.")


def stamp(source: Path) -> Stamp:
    """Return names, sizes and modification times of a file, or of all files in a folder."""
    files = [path for path in source.rglob("*") if path.is_file()] or [source]
    stats = [(path, path.stat()) for path in files if path.exists()]
    return frozenset((path, stat.st_size, stat.st_mtime_ns) for path, stat in stats)


def check_unchanged(source: Path, before: Stamp, sha256: str = "") -> None:
    """Check that an input has not changed since it was opened.

    Args:
        source: The input; one that was removed has not changed for those who have it open.
        before: Its stamp before it was opened; empty where it may change.
        sha256: Of what was opened: a file with a new stamp and the same content has not changed.

    Raises:
        InputError: It has changed; its kind is ``growing``.
    """
    if not before or stamp(source) in (before, Stamp()) or (sha256 and digest(source) == sha256):
        return
    raise InputError(
        f"{source} changed while it was read.",
        "run again when nothing writes to it any more.",
        kind=Kind.GROWING,
    )


def is_growing(source: Path, before: Stamp | None = None) -> bool:
    """Return whether an input that cannot be read is still being written or copied.

    It is watched until it has not changed for three seconds. On Linux, an input that another
    program of the same user has open for writing counts as growing at once.

    Args:
        source: A file or a folder.
        before: Its stamp before it was opened; now when None.
    """
    if _is_open_for_writing(source):
        return True
    before = stamp(source) if before is None else before
    began = time.monotonic()
    while True:
        now = stamp(source)
        if now and now != before:
            return True
        changed = max((ns for _, _, ns in now), default=0) / 1e9
        if time.monotonic() - began > _LOOK and not 0 <= time.time() - changed < QUIET:
            return False
        time.sleep(_PAUSE)


@contextmanager
def watched(source: Path) -> Iterator[Stamp]:
    """Yield the stamp of an input; input errors in the block become growing if it changes.

    Raises:
        InputError: As the block raises it, with the kind ``growing`` where the input changes.
    """
    before = stamp(source)
    try:
        yield before
    except InputError as error:
        if error.kind is Kind.INPUT and is_growing(source, before):
            raise growing(source) from error
        raise


def growing(path: Path, otherwise: str = "") -> InputError:
    """Error for an input that is not complete yet.

    Args:
        path: The input.
        otherwise: Another way out, to go on with the hint.
    """
    hint = "run the same command again when it is complete"
    return InputError(
        f"{path} is still being written or copied.",
        f"{hint}, {otherwise}" if otherwise else f"{hint}.",
        kind=Kind.GROWING,
    )


def missing(path: Path) -> InputError:
    """Error for a missing input."""
    return InputError(f"There is no file {path}.", "check its name and folder.")


def not_permitted(path: Path) -> InputError:
    """Error for an input without read permission."""
    return InputError(
        f"{path} may not be read: permission denied.", "ask its owner for read access."
    )


def _is_open_for_writing(path: Path) -> bool:
    """Return whether a visible process has a file open for writing (Linux only)."""
    name = os.fspath(path.resolve())
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if os.readlink(link) != name:  # noqa: PTH115  (much faster than Path.readlink)
                continue
            info = (link.parent.parent / "fdinfo" / link.name).read_text()
        except OSError:  # a process of another user, or a file closed meanwhile
            continue
        flags = next((line for line in info.splitlines() if line.startswith("flags:")), "flags: 0")
        if int(flags.split()[1], 8) & os.O_ACCMODE != os.O_RDONLY:
            return True
    return False
