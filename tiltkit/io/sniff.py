"""Choice of the reader for an input file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, cast

import h5py

from tiltkit.errors import InputError, PluginError, TiltkitError
from tiltkit.hookspecs import ReaderEntry
from tiltkit.io.reading import is_hdf5, open_hdf5
from tiltkit.io.source import check_source
from tiltkit.plugins import load_plugins
from tiltkit.plugins.isolation import isolate

if TYPE_CHECKING:
    from tiltkit.plugins import Plugins
    from tiltkit.protocols import Reader

__all__ = ["datasets", "find_reader", "matching_readers"]

# Number of datasets of an unknown file in an error message.
_NAMED = 6


def find_reader(path: Path, plugins: Plugins | None = None, gives: str = "") -> type[Reader]:
    """Find the first reader that recognises a file; readers with a matching file name first.

    Args:
        path: The input file.
        plugins: Plugins with readers; all installed ones when None.
        gives: Kind of data that the reader must return (``"mri.kspace"``); any when empty.

    Raises:
        InputError: The file is missing or damaged, or no reader recognises it.
    """
    plugins = load_plugins() if plugins is None else plugins
    check_source(path)
    answers = _answers(path, plugins, gives)
    found = next((name for name, answer in answers.items() if answer is True), None)
    if found:
        return cast("type[Reader]", plugins.load("reader", found))
    if path.is_dir():
        raise InputError(f"{path} is a folder that no reader recognises.", "give one file.")
    content = _content(path)
    if not answers:
        raise PluginError(
            f"No plugin reads {gives or 'input files'}.", "install one, for MRI: tiltkit-mri."
        )
    failed = [a.message.rstrip(".") for a in answers.values() if isinstance(a, PluginError)]
    tried = f"{'. '.join([', '.join(answers), *failed])}."
    raise InputError(
        f"No reader recognises {path}, which {content}; tried: {tried}",
        "see its contents with 'tiltkit show', and the layouts with 'tiltkit list reader'.",
    )


def matching_readers(path: Path, plugins: Plugins, gives: str = "") -> list[str]:
    """List the names of the readers that recognise a file; failing readers are left out."""
    answers = _answers(path, plugins, gives)
    return [name for name, answer in answers.items() if answer is True]


def datasets(file: h5py.File) -> dict[str, str]:
    """List shape and type of every dataset of an HDF5 file by path, in the order of the file."""
    found: dict[str, str] = {}

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            shape = " x ".join(str(n) for n in item.shape or ()) or "scalar"
            found[name] = f"{shape}, {_type_name(item)}"

    file.visititems(visit)
    return found


def _candidates(path: Path, plugins: Plugins, gives: str) -> list[ReaderEntry]:
    """Readers that return the right kind of data, those with a matching file name first."""
    entries = [
        entry
        for entry in plugins.entries("reader")
        if isinstance(entry, ReaderEntry) and (not gives or entry.gives == gives)
    ]
    return sorted(
        entries, key=lambda entry: not any(fnmatch(path.name.lower(), p) for p in entry.patterns)
    )


def _answers(path: Path, plugins: Plugins, gives: str) -> dict[str, bool | PluginError]:
    """Return for each reader whether it recognises a file, or the error of its plugin."""
    return {
        entry.name: _recognises(path, plugins, entry) for entry in _candidates(path, plugins, gives)
    }


def _recognises(path: Path, plugins: Plugins, entry: ReaderEntry) -> bool | PluginError:
    """Return whether a reader recognises a file, or the error, so that others are tried."""
    distribution = plugins.owner("reader", entry.name).distribution
    try:
        with isolate(f"The reader {entry.name} failed", distribution, own_words=True):
            reader = cast("type[Reader]", plugins.load("reader", entry.name))
            return bool(reader.matches(path))
    except PluginError as error:
        # A reader cannot open files of other formats: an OSError means that it does not match.
        return False if isinstance(error.__cause__, OSError) else error
    except TiltkitError:
        return False


def _content(path: Path) -> str:
    """Content of a file, as the end of a sentence that begins with its path."""
    if path.stat().st_size and os.access(path, os.R_OK) and not is_hdf5(path):
        path.open("rb").close()  # a disk that fails shows here
        return "is not an HDF5 file"
    with open_hdf5(path) as file:
        names = [f"{name} ({kind})" for name, kind in datasets(file).items()]
        broken = list(_broken_links(file))
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    holds = f"holds {', '.join(names[:_NAMED]) or 'no datasets'}{more}"
    return f"{holds}, and broken links: {', '.join(broken)}" if broken else holds


def _broken_links(group: h5py.Group, above: tuple[h5py.Group, ...] = ()) -> Iterator[str]:
    """Links to missing objects, for example in a file that was not copied along."""
    above = (*above, group)
    for name in group:
        link = group.get(name, getlink=True)
        item = group.get(name)
        if item is None:
            target = " in ".join(filter(None, [link.path, getattr(link, "filename", "")]))
            yield f"{group.name.rstrip('/')}/{name} to {target}"
        elif isinstance(item, h5py.Group) and isinstance(link, h5py.HardLink) and item not in above:
            yield from _broken_links(item, above)


def _type_name(dataset: h5py.Dataset) -> str:
    if h5py.check_string_dtype(dataset.dtype):
        return "text"
    return "table" if dataset.dtype.names else str(dataset.dtype)
