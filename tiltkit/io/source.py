"""Can an input be read, and is it still what it was when it was opened?"""

from __future__ import annotations

from pathlib import Path

from tiltkit.digest import digest
from tiltkit.errors import InputError

__all__ = ["Stamp", "check_source", "check_unchanged", "stamp"]

# Name, size in bytes and time of the last change in ns of each file.
Stamp = frozenset[tuple[Path, int, int]]


def check_source(path: Path) -> None:
    """Refuse what no reader should try to open.

    Raises:
        InputError: It is missing, or is a pipe or device, which could be waited for without end.
    """
    if not path.exists():
        raise InputError(f"There is no file {path}.", "check its name and folder.")
    if not (path.is_file() or path.is_dir()):
        raise InputError(f"{path} is no regular file.", "copy what it gives into a file first.")


def stamp(source: Path) -> Stamp:
    """What tells that a file, or one in a folder, has changed, without reading it."""
    files = [path for path in source.rglob("*") if path.is_file()] or [source]
    stats = [(path, path.stat()) for path in files if path.exists()]
    return frozenset((path, stat.st_size, stat.st_mtime_ns) for path, stat in stats)


def check_unchanged(source: Path, before: Stamp, sha256: str = "") -> None:
    """Refuse to go on with what was read before and after a change.

    Args:
        source: The input; one that was removed has not changed for those who have it open.
        before: Its stamp before it was opened.
        sha256: Of what was opened: a file with a new stamp and the same content has not changed.

    Raises:
        InputError: It has changed.
    """
    if stamp(source) in (before, Stamp()) or (sha256 and digest(source) == sha256):
        return
    raise InputError(
        f"{source} changed while it was read.", "run again when nothing writes to it any more."
    )
