"""Atomic output files: written as ``OUT.part``, flushed to disk, then renamed."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from pathlib import Path

from tiltkit.errors import MachineError, UsageError

__all__ = [
    "check_output", "checkpoint_path", "checkpoints_of", "clear_checkpoints", "is_complete",
    "part_path", "publish", "sync", "sync_folder",
]  # fmt: skip


# Bytes in the name of a file that all file systems in use take.
_LONGEST = 255


def part_path(path: Path) -> Path:
    """Path of an unfinished output; in the same folder, so that renaming is atomic."""
    return path.with_name(path.name + ".part")


def checkpoint_path(path: Path) -> Path:
    """Path of the checkpoint of the current slice of an unfinished output."""
    return part_path(path).with_name(part_path(path).name + ".checkpoint")


def checkpoints_of(path: Path) -> list[Path]:
    """Existing checkpoints of the current slice: of its tile and of all independent runs."""
    first = checkpoint_path(path)
    return list(first.parent.glob(f"{glob.escape(first.name)}*"))


def clear_checkpoints(path: Path) -> None:
    """Remove the checkpoints of the current slice."""
    for kept in checkpoints_of(path):
        kept.unlink(missing_ok=True)


def is_complete(path: Path) -> bool:
    """Return whether an output exists, without an unfinished one that would replace it."""
    return path.is_file() and not part_path(path).exists()


def check_output(path: Path, *, overwrite: bool, resume: bool, keep: Iterable[Path] = ()) -> None:
    """Check that an output can be written, before the work starts.

    Args:
        path: The file to be written.
        overwrite: Whether a file that is there may be replaced.
        resume: Whether an unfinished file that is there will be continued.
        keep: Files that are read, and so never replaced.

    Raises:
        UsageError: The file or an unfinished one exists, or is no file, or is one to keep; or its
            folder is missing or read-only.
    """
    _check_name(path)
    _check_folder(path)
    if path.is_dir():
        raise UsageError(f"{path} is a folder.", "name a file inside it with -o.")
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is no regular file.", "choose another name with -o.")
    if any(_replaces(one, kept) for one in (path, part_path(path)) for kept in keep):
        raise UsageError(
            f"{path} is the input itself, or would replace a part of it.",
            "choose another name with -o.",
        )
    if path.exists() and not overwrite:
        raise UsageError(
            f"{path} exists.", "use --overwrite to replace it, or -o for another name."
        )
    part = part_path(path)
    if part.exists() and not (overwrite or resume):
        raise UsageError(
            f"{part} holds what was finished of a run that was stopped.",
            "use --resume to go on with it, or --overwrite to start again.",
        )


def publish(part: Path, path: Path) -> None:
    """Rename a complete file to its final name, after flushing it to disk.

    Raises:
        MachineError: The file could not be renamed.
    """
    try:
        sync(part)
        part.replace(path)
    except OSError as error:
        raise MachineError(
            f"{part} is complete but could not be renamed: {error.strerror}.",
            f"rename it to {path.name} yourself.",
        ) from error
    sync_folder(path.parent)


def _replaces(path: Path, kept: Path) -> bool:
    """Return whether a file is among those to keep, or in a folder to keep."""
    if kept.is_dir():
        return kept.resolve() in path.resolve().parents
    return path.exists() and kept.exists() and path.samefile(kept)


def _check_name(path: Path) -> None:
    """A name that no file can have; those behind it are tried as well."""
    try:
        str(path).encode()
        checkpoint_path(path).exists()
        longest = len(os.fsencode(checkpoint_path(path).name))
    except PermissionError:  # an error of the folder, which is checked next
        return
    except (OSError, ValueError):
        longest = _LONGEST + 1
    if longest > _LONGEST:
        raise UsageError(
            f"{str(path).encode(errors='replace').decode()[:100]} is no name for a file here.",
            "choose a shorter one of ordinary letters with -o.",
        )


def _check_folder(path: Path) -> None:
    folder = path.absolute().parent
    if not os.path.exists(folder):  # noqa: PTH110  (Path raises where a parent may not be read)
        raise UsageError(f"The folder {folder} does not exist.", "make it, or choose one with -o.")
    if not folder.is_dir():
        raise UsageError(f"{folder} is a file, not a folder.", "choose a folder with -o.")
    if not os.access(folder, os.W_OK):
        raise UsageError(f"The folder {folder} is read-only.", "choose another one with -o.")


def sync(path: Path) -> None:
    """Flush a file to disk."""
    # Windows writes out only what was opened for writing, which folders never are.
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Flush a folder to disk after a rename; unsupported on some file systems."""
    try:
        sync(folder)
    except OSError:
        return
