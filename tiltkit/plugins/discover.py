"""Discovery of installed plugins from the metadata of packages, without importing them."""

from __future__ import annotations

import email
import importlib.metadata
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import Distribution

from tiltkit.plugins.plugin import GROUP, Plugin, canonical_name

__all__ = ["discover"]

# Name, version and requirements of a distribution.
Metadata = tuple[str, str, tuple[str, ...]]


def discover() -> list[Plugin]:
    """Return the entry points of the group ``tiltkit``, by name, without the built-in one.

    The lines are parsed here one by one: ``importlib.metadata.entry_points`` fails as a whole on a
    single line that it cannot parse.
    """
    found = [
        plugin
        for distribution, metadata in _distributions()
        for plugin in _plugins_in(distribution, metadata)
        if not plugin.builtin
    ]
    return sorted(found, key=lambda plugin: (plugin.name, plugin.distribution))


def _distributions() -> Iterator[tuple[Distribution, Metadata]]:
    """Distributions with plugins; of several versions of one, that which an import would use."""
    seen: set[str] = set()
    for distribution in importlib.metadata.distributions():
        if f"[{GROUP}]" not in _read_entry_points(distribution):
            continue
        name = _read_metadata(distribution)[0]
        # An editable installation and an old wheel of it, say, may both be on sys.path.
        if not name or canonical_name(name) not in seen:
            seen.add(canonical_name(name))
            first = _first_on_path(name, distribution)
            yield first, _read_metadata(first)


def _plugins_in(distribution: Distribution, metadata: Metadata) -> Iterator[Plugin]:
    name, version, requires = metadata
    for entry, target in _entry_points(_read_entry_points(distribution)):
        plugin = Plugin(entry, name or "unknown", version, target, requires=requires)
        yield plugin if name else replace(
            plugin, status="broken", reason="the metadata of its package cannot be read",
            hint="remove the package's remaining files from site-packages, and install it again.",
        )  # fmt: skip


def _entry_points(text: str) -> Iterator[tuple[str, str]]:
    """``name = target`` lines of the group; the target is empty where there is no ``=``."""
    section = ""
    for line in filter(None, map(str.strip, text.splitlines())):
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif section == GROUP and line[0] not in "#;":
            name, _, target = line.partition("=")
            yield name.strip(), target.strip()


def _read_entry_points(distribution: Distribution) -> str:
    """Text of ``entry_points.txt``; empty for a damaged file, which need not be of a plugin."""
    try:
        return distribution.read_text("entry_points.txt") or ""
    except (OSError, UnicodeDecodeError):
        return ""


def _first_on_path(name: str, found: Distribution) -> Distribution:
    try:
        return importlib.metadata.distribution(name)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return found  # it has no name, or its folder has another one


def _read_metadata(distribution: Distribution) -> Metadata:
    """Name, version and requirements; all empty where the metadata cannot be read.

    All exceptions are caught: they depend on the Python version and on the kind of damage.
    """
    try:
        text = distribution.read_text("METADATA")
        if text is None:  # of another kind of package than a wheel
            name, version = distribution.metadata["Name"], distribution.metadata["Version"]
            return name or "", version or "", tuple(distribution.requires or ())
        # Without the description behind the headers, whose parsing takes most of the time.
        headers = email.message_from_string(text.partition("\n\n")[0])
        requires = headers.get_all("Requires-Dist") or ()
        return headers["Name"] or "", headers["Version"] or "", tuple(map(str, requires))
    except Exception:
        return "", "", ()
