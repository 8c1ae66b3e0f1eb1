"""Checks of the records that plugins return; messages are for plugin authors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from tiltkit.errors import PluginError
from tiltkit.hookspecs import Entry, PriorEntry, ReaderEntry, WriterEntry

__all__ = ["check_record"]

_RECORDS: dict[str, type[Entry]] = {
    "prior": PriorEntry,
    "reader": ReaderEntry,
    "writer": WriterEntry,
}
_WORD = r"[a-z][a-z0-9-]*"
_PART = r"[a-z0-9][a-z0-9_-]*"
_NAMES = {
    "short": (re.compile(_WORD), "one short word in lower case, such as mri-recon"),
    "long": (
        re.compile(rf"[a-z][a-z0-9_-]*(\.{_PART})+"),
        "prefix.thing in lower case, such as mri.cartesian",
    ),
    "builtin": (re.compile(r"[a-z][a-z0-9_.-]*"), "a lower-case word"),
}
_DOTTED = r"[^\W\d]\w*(\.[^\W\d]\w*)*"
_TARGET = re.compile(rf"{_DOTTED}:{_DOTTED}")
_WEIGHTS = re.compile(rf"{_DOTTED}:[^/\\:][^\\:]*")


def check_record(kind: str, hook: str, entry: Any, *, builtin: bool) -> Entry:
    """Return the entry if it is valid.

    Raises:
        PluginError: It is not a record of its kind, or a field has a wrong value.
    """
    record = _RECORDS.get(kind, Entry)
    if not isinstance(entry, record):
        raise PluginError(
            f"{hook}() returned a {type(entry).__name__} instead of a {record.__name__}",
            f"return a list of tiltkit.hookspecs.{record.__name__} records.",
        )
    problem = next(_problems(kind, entry, builtin=builtin), None)
    if problem:
        raise PluginError(f"{hook}(): {problem[0]}", f"{problem[1]}.")
    return entry


def _problems(kind: str, entry: Entry, *, builtin: bool) -> Iterator[tuple[str, str]]:
    yield from _types(kind, entry)
    # Writers have the names of file formats.
    free = builtin or kind == "writer"
    style = "builtin" if free else "short" if kind in ("task", "command") else "long"
    pattern, example = _NAMES[style]
    if not pattern.fullmatch(entry.name):
        yield f"{entry.name!r} cannot be the name of a {kind}", f"it must be {example}"
    if not _TARGET.fullmatch(entry.target):
        yield (
            f"the target {entry.target!r} of {entry.name} cannot be parsed",
            "write it as package.module:attribute",
        )
    if isinstance(entry, PriorEntry):
        yield from _weights(entry)
    if isinstance(entry, WriterEntry):
        for suffix in (entry.suffix, *entry.beside, *entry.optional):
            if not suffix.startswith("."):
                yield f"the suffix {suffix!r} of {entry.name} has no dot", "write it like .h5"


def _types(kind: str, entry: Entry) -> Iterator[tuple[str, str]]:
    """Fields of the wrong type: dataclasses do not check, and ``("a")`` is a text, no tuple."""
    for field in fields(_RECORDS.get(kind, Entry)):
        value = getattr(entry, field.name)
        name = f"{field.name} of {kind} {entry.name!r}"
        if str(field.type).startswith("tuple"):
            if not isinstance(value, tuple) or not all(isinstance(v, str) for v in value):
                yield f"{name} is {value!r}", 'it must be a tuple of texts such as ("one",)'
        elif str(field.type) == "int":
            if not isinstance(value, int) or value < 0:
                yield f"{name} is {value!r}", "it must be a number, 0 or more"
        elif str(field.type) == "bool":
            if not isinstance(value, bool):
                yield f"{name} is {value!r}", "it must be True or False"
        elif not isinstance(value, str):
            yield f"{name} is {value!r}", "it must be a text"


def _weights(entry: PriorEntry) -> Iterator[tuple[str, str]]:
    if entry.weights and not _WEIGHTS.fullmatch(entry.weights):
        yield (
            f"the weights {entry.weights!r} of {entry.name} cannot be parsed",
            "write them as package:path/inside.safetensors",
        )
    if entry.sha256 and not re.fullmatch(r"[0-9a-fA-F]{64}", entry.sha256):
        yield (
            f"the sha256 of {entry.name} is {entry.sha256!r}",
            "it must have 64 hexadecimal digits",
        )
    if entry.url and (entry.weights or not entry.sha256):
        yield (
            f"{entry.name} has a url together with weights, or without a sha256",
            "weights to download need a sha256, and the field weights must be empty",
        )
