"""Grouping of files by subject: whole subjects are held out, never single slices."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from tiltkit.errors import InputError, UsageError
from tiltkit.io.images import is_image, is_volume
from tiltkit.training.recipe import DataOptions

__all__ = ["find_subjects"]

# The volumes of a subject, each as the files that hold it.
Volumes = list[list[Path]]


def find_subjects(options: DataOptions) -> dict[str, Volumes]:
    """The volumes of each subject, by the subject's name.

    Below a named folder, or below the part of a pattern before its first wildcard, each folder is
    a subject, and so is each file that lies there loose; loose DICOM files are one subject
    together. Links are followed, but no file is taken twice. Equal names mean the same subject.
    ``data.subject`` groups files otherwise.

    Raises:
        InputError: A path that does not exist, or no image anywhere.
    """
    files = {path: name for text in options.paths for path, name in _matching(text).items()}
    found = _once(path for path in files if is_image(path))
    if not found:
        raise InputError(
            f"There is no image in {', '.join(options.paths)}, {_count(len(files))} looked at.",
            "name files, folders of files, or folders with one folder per subject in data.paths.",
        )
    subjects: dict[str, list[Path]] = {}
    for path in found:
        name = _matched(options.subject, path) if options.subject else files[path]
        subjects.setdefault(name, []).append(path)
    return {name: list(_volumes(paths)) for name, paths in sorted(subjects.items())}


def _once(paths: Iterable[Path]) -> list[Path]:
    """One path of each file, that of fewest links: a link is another name, not another image."""
    files: dict[Path, Path] = {}
    for path in sorted(paths, key=lambda path: (_links(path), path)):
        files.setdefault(path.resolve(), path)
    return sorted(files.values())


def _links(path: Path) -> int:
    return sum(part.is_symlink() for part in (path, *path.parents))


def _matching(text: str) -> dict[Path, str]:
    """The files that a path or pattern stands for, with the names of their subjects."""
    base, pattern = _split(Path(text).expanduser())
    matches = sorted(base.glob(pattern)) if pattern else [base]
    if not matches or not matches[0].exists():
        raise InputError(f"There is no file or folder {text}.", "correct data.paths.")
    if base.is_file():
        base = base.parent
    visible = (match for match in matches if not any(map(_hidden, match.relative_to(base).parts)))
    try:
        return {file: _name(file, base) for match in visible for file in _files(match)}
    except OSError as error:
        raise InputError(
            f"{error.filename} cannot be read: {error.strerror}.",
            "ask its owner for access, or leave it out of data.paths.",
        ) from error


def _files(path: Path, above: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """A file itself, or all files below a folder, links followed unless back to a folder above."""
    if path.is_file():
        yield path
    elif path.is_dir() and (here := path.resolve()) not in above:
        for child in path.iterdir():
            if not _hidden(child.name):
                yield from _files(child, above | {here})


def _hidden(name: str) -> bool:
    return name.startswith(".")


def _split(path: Path) -> tuple[Path, str]:
    """The folder before the first wildcard, and the rest."""
    wild = [k for k, part in enumerate(path.parts) if set(part) & set("*?[")]
    if path.exists() or not wild:
        return path, ""
    return Path(*path.parts[: wild[0]]), str(Path(*path.parts[wild[0] :]))


def _name(file: Path, base: Path) -> str:
    below = file.relative_to(base).parts
    if len(below) > 1:
        return below[0]
    if is_image(file) and not is_volume(file):
        return base.resolve().name
    return file.name.removesuffix(".gz").rpartition(".")[0] or file.name


def _volumes(paths: Iterable[Path]) -> Iterable[list[Path]]:
    """Files one by one; DICOM files of a folder together."""
    folders: dict[Path, list[Path]] = {}
    for path in paths:
        if is_volume(path):
            yield [path]
        else:
            folders.setdefault(path.parent, []).append(path)
    yield from folders.values()


def _matched(pattern: str, path: Path) -> str:
    try:
        match = re.search(pattern, path.as_posix())
    except re.error as error:
        raise UsageError(
            f"data.subject, {pattern!r}, is no regular expression: {error}.", "correct it."
        ) from error
    if match is None:
        raise InputError(
            f"data.subject, {pattern!r}, matches nothing in {path}.",
            "widen it, or leave that file out of data.paths.",
        )
    return match[match.lastindex or 0]


def _count(files: int) -> str:
    return "1 file" if files == 1 else f"{files} files"
