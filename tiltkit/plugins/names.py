"""Entries by name, also where several plugins use the same name.

A name that one plugin uses is unique. A name that several plugins use must be written as
``distribution:name``; a built-in entry keeps its short name, so no plugin can replace it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace

from tiltkit.errors import UsageError
from tiltkit.hookspecs import KINDS
from tiltkit.plugins.plugin import OwnedEntry, Plugin, same_name

__all__ = ["entries_named", "find_entry", "list_entries", "short_name"]

# Samplers by their names in release 0.1, in which tiltkit itself contained them.
MOVED = {name: f"baselines.{name}" for name in ("ddrm", "diffpir", "dps", "pula", "replica", "ula")}


def list_entries(plugins: Iterable[Plugin], kind: str) -> list[OwnedEntry]:
    """List the entries of one kind, built-in ones first, then by name; all names differ."""
    if kind not in KINDS:
        raise UsageError(f"There is no kind {kind!r}.", _suggestion(kind, KINDS))
    found = [(plugin, entry) for plugin in plugins for k, entry in plugin.entries if k == kind]
    unique = [_with_unique_name(pair, entries_named(found, pair[1].name)) for pair in found]
    return sorted(unique, key=lambda pair: (not pair[0].builtin, pair[1].name))


def find_entry(plugins: Sequence[Plugin], kind: str, name: str) -> OwnedEntry:
    """Find the entry called ``name``, ``distribution:name`` or ``entry-point:name``.

    Raises:
        UsageError: There is none, or more than one.
    """
    name = _current_name(kind, name)
    entries = list_entries(plugins, kind)
    exact = [pair for pair in entries if pair[1].name == name]
    owner, colon, short = name.rpartition(":")
    same = [pair for pair in entries_named(entries, short) if not colon or pair[0].has_name(owner)]
    match exact or same:
        case [pair]:
            return pair
        case []:
            raise _unknown(plugins, kind, name, entries)
        case several:
            raise _ambiguous(kind, short, several)


def entries_named(entries: Iterable[OwnedEntry], name: str) -> list[OwnedEntry]:
    """Select the entries of one kind that have a short name."""
    return [pair for pair in entries if short_name(pair[1].name) == name]


def short_name(name: str) -> str:
    """Return a name without the distribution in front of it."""
    return name.rpartition(":")[2]


def _current_name(kind: str, name: str) -> str:
    """Name of a sampler that moved to another package, with a warning; others unchanged."""
    if kind != "sampler" or name not in MOVED:
        return name
    package, _, _ = MOVED[name].partition(".")
    text = f"The sampler {name} is now {MOVED[name]}, in the package tiltkit-{package}."
    warnings.warn(text, FutureWarning, stacklevel=2)
    return MOVED[name]


def _with_unique_name(pair: OwnedEntry, same: Sequence[OwnedEntry]) -> OwnedEntry:
    """Put distribution or entry point in front of a name that several plugins use."""
    plugin, entry = pair
    if plugin.builtin or len(same) == 1:
        return pair
    siblings = [p for p, _ in same if same_name(p.distribution, plugin.distribution)]
    owner = plugin.distribution if len(siblings) == 1 else plugin.name
    return plugin, replace(entry, name=f"{owner}:{entry.name}")


def _ambiguous(kind: str, name: str, several: Sequence[OwnedEntry]) -> UsageError:
    owners = " and ".join(plugin.label for plugin, _ in several)
    names = " or ".join(entry.name for _, entry in several)
    blocks = " or ".join(f"--no-plugins={plugin.distribution}" for plugin, _ in several)
    return UsageError(
        f"The {kind} {name!r} is in more than one plugin: {owners}.",
        f"write {names}; or block one: {blocks}.",
    )


def _unknown(
    plugins: Sequence[Plugin], kind: str, name: str, entries: Sequence[OwnedEntry]
) -> UsageError:
    """The error for an unknown name; it lists broken and blocked plugins, which may have it."""
    parts = [f"There is no {kind} {name!r}."]
    parts += [
        f"Plugin {p.label} is broken: {p.reason}; see 'tiltkit plugins doctor'."
        if p.status == "broken"
        else f"Plugin {p.label} is blocked."
        for p in plugins
        if p.status != "ok"
    ]
    hint = _suggestion(name, [entry.name for _, entry in entries])
    return UsageError(" ".join(parts), hint or f"install a plugin with a {kind}.")


def _suggestion(name: str, names: Iterable[str]) -> str:
    # Imported on errors only: it imports pydantic, and start-up time counts.
    from tiltkit.config import suggest

    return suggest(name, names)
