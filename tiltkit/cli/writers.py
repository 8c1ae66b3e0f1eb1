"""Files in other formats: names, options and output files of writers."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

from tiltkit.cli.shared import call_plugins
from tiltkit.errors import PluginError, UsageError
from tiltkit.plugins.isolation import isolate

if TYPE_CHECKING:
    from pydantic import BaseModel

    from tiltkit.hookspecs import WriterEntry

__all__ = ["Export", "accept_result", "plan_export", "write_export"]


@dataclass(frozen=True, slots=True)
class Export:
    """One result in another format.

    Attributes:
        entry: The writer.
        output: File or folder to write.
        options: Options of the writer; None where it has none.
    """

    entry: WriterEntry
    output: Path
    options: BaseModel | None = None

    @property
    def arguments(self) -> tuple[BaseModel, ...]:
        """Arguments of the writer behind result and output."""
        return () if self.options is None else (self.options,)

    @property
    def files(self) -> list[Path]:
        """Files that are always written, or the folder."""
        return [self.output, *map(self._beside, self.entry.beside)]

    @property
    def optional_files(self) -> list[Path]:
        """Files that depend on the result or on options: those that are there."""
        folder = self.output.parent
        return [path for name in self.optional_names for path in sorted(folder.glob(name))]

    @property
    def optional_names(self) -> list[str]:
        """Patterns of the names of files that depend on the result or on options."""
        return [glob.escape(self._beside("").name) + suffix for suffix in self.entry.optional]

    def at(self, folder: Path) -> Export:
        """The same files in another folder."""
        return Export(self.entry, folder / self.output.name, self.options)

    def check(self, keep: Iterable[Path], *, overwrite: bool) -> None:
        """Check that the output can be written.

        Raises:
            UsageError: A file exists and may not be replaced, or the folder cannot be used.
        """
        from tiltkit.io.atomic import check_output

        if self.entry.folder and self.output.is_dir():
            entry = self.entry
            _check_folder(self.output, entry.folder, merge=entry.merge, overwrite=overwrite)
            return
        for path in (*self.files, *self.optional_files):
            check_output(path, overwrite=overwrite, resume=True, keep=keep)

    def _beside(self, suffix: str) -> Path:
        """Path of a further file: the name without the writer's suffix, or else without its last.

        A suffix may have several dots, as ``.nii.gz`` has.
        """
        name = self.output.name
        stem = name.removesuffix(self.entry.suffix)
        return self.output.with_name((self.output.stem if stem == name else stem) + suffix)


def plan_export(text: str, result: Path, output: Path | None = None) -> Export:
    """Return the output of a writer.

    Args:
        text: Name of the writer, with options as in ``nifti,samples=true``.
        result: Result file.
        output: File or folder to write; the name of the result with the writer's suffix when None.

    Raises:
        UsageError: No such writer or option, or a value that is not allowed.
        PluginError: The writer cannot be imported.
    """
    from tiltkit.config import with_setting

    name, *settings = text.split(",")
    entry = cast("WriterEntry", call_plugins().get("writer", name))
    values: dict[str, Any] = {}
    for setting in settings:
        values = with_setting(values, setting)
    options = None
    if hasattr(call_plugins().load("writer", name), "Options"):
        options = call_plugins().options("writer", name, values)
    elif values:
        raise UsageError(
            f"The writer {name} has no options, but {text!r} gives some.", f"write {name} alone."
        )
    return Export(entry, output or result.with_suffix(entry.suffix), options)


def accept_result(exports: Iterable[Export], result: Path) -> None:
    """Check before sampling that writers can write a result, by their functions ``check``.

    Args:
        exports: The outputs; writers without such a function are skipped.
        result: A result without finished slices, see `tiltkit.io.nexus.outline`.

    Raises:
        TiltkitError: A writer cannot write it; the error is the one that writing would raise.
        PluginError: The function failed.
    """
    for export in exports:
        name = export.entry.name
        check = getattr(call_plugins().load("writer", name), "check", None)
        if check is None:
            continue
        plugin = call_plugins().owner("writer", name).distribution
        with isolate(f"The check of the writer {name} failed", plugin, own_words=True):
            check(result, export.output, *export.arguments)


def write_export(export: Export, result: Path) -> list[str]:
    """Write a complete result in another format; return sentences for the user.

    The files are written into a temporary folder and renamed, so that a failure replaces none.

    Args:
        export: The output; existing files are replaced, see `Export.check`.
        result: Result file.

    Raises:
        InputError: The result cannot be read, or is not complete.
        PluginError: The writer failed, or wrote other files than its entry states.
        TiltkitError: The disk is full or broken.
    """
    from tiltkit.io.disk import explained
    from tiltkit.io.reading import check_finished, result_shape

    check_finished(result)
    size = 2 * 4 * prod(result_shape(result))  # mean and spread, float32
    name, output = export.entry.name, export.output
    write = call_plugins().load("writer", name)
    plugin = call_plugins().owner("writer", name).distribution
    with TemporaryDirectory(prefix=".tiltkit-", dir=output.absolute().parent) as folder:
        new = export.at(Path(folder))
        if export.entry.folder:
            new.output.mkdir()
        with (
            isolate(f"The writer {name} failed", plugin, own_words=True),
            explained(output, size),
        ):
            remarks = write(result, new.output, *export.arguments)
        _check_written(new, Path(folder), plugin)
        _publish(new, export)
    return list(remarks or ())


def _check_written(new: Export, folder: Path, plugin: str) -> None:
    """Refuse missing files, and files that the entry does not state."""
    stated = [path.name for path in new.files]
    written = [path.name for path in folder.iterdir()]
    optional = new.optional_names
    if new.entry.folder:
        stated, optional = [], list(new.entry.folder)
        written = _contents(new.output)
    strange = [one for one in written if one not in stated and not _fits(one, optional)]
    if strange or set(stated) - set(written) or not written:
        raise PluginError(
            f"The writer {new.entry.name} wrote {', '.join(sorted(written)) or 'nothing'},"
            f" but its entry states {', '.join(sorted(stated + optional))}.",
            f"report it to {plugin}.",
        )


def _publish(new: Export, final: Export) -> None:
    """Rename complete files to their final names.

    Optional files of an earlier export that were not written this time are removed: they would
    belong to another result.
    """
    from tiltkit.io.atomic import part_path, publish, sync, sync_folder

    if new.entry.folder:
        for name in _contents(new.output):
            sync(new.output / name)
        if final.output.exists() and new.entry.merge:
            _merge(new.output, final.output)
            return
        if final.output.exists():
            final.output.replace(new.output.with_name("replaced"))
        new.output.replace(final.output)
        sync_folder(final.output.absolute().parent)
        return
    for path, target in zip(new.files, final.files, strict=True):
        publish(path.replace(part_path(target)), target)
    fresh = {path.name: path for path in new.optional_files}
    for old in final.optional_files:
        if old.name not in fresh:
            old.unlink(missing_ok=True)
    for name, path in fresh.items():
        target = final.output.with_name(name)
        publish(path.replace(part_path(target)), target)


def _merge(new: Path, folder: Path) -> None:
    """Move all files into a folder; those of the same name are replaced, all others stay."""
    from tiltkit.io.atomic import sync_folder

    for name in _contents(new):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (new / name).replace(target)
        sync_folder(target.parent)


def _check_folder(folder: Path, patterns: Sequence[str], *, merge: bool, overwrite: bool) -> None:
    """Refuse to replace a folder with anything that a writer does not write."""
    found = _contents(folder)
    strange = next((one for one in found if not _fits(one, patterns)), None)
    if strange is not None:
        raise UsageError(
            f"{folder} is a folder with other files: {strange}.", "choose another name with -o."
        )
    if found and not overwrite:
        raise UsageError(
            f"{folder} exists.",
            f"use --overwrite to {'add to' if merge else 'replace'} it, or -o for another name.",
        )
    if not os.access(folder.absolute().parent, os.W_OK):
        raise UsageError(f"The folder {folder.absolute().parent} is read-only.", "choose another.")


def _contents(folder: Path) -> list[str]:
    """Paths of all that is no folder, relative to ``folder``."""
    paths = [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
    return [path.relative_to(folder).as_posix() for path in paths]


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)
