"""Which plugins are installed, from the metadata of packages; imports none of them."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import Distribution

from tiltkit.plugins.record import GROUP, Plugin, canonical

__all__ = ["discover"]


def discover() -> list[Plugin]:
    """The entry points of the group ``tiltkit``, by name; the built-in one left out.

    importlib.metadata's own list fails as a whole on one line that cannot be parsed, so the lines
    are read here, each by itself.
    """
    found = [
        plugin
        for distribution in _distributions()
        for plugin in _plugins_of(distribution)
        if not plugin.builtin
    ]
    return sorted(found, key=lambda plugin: (plugin.name, plugin.distribution))


def _distributions() -> Iterator[Distribution]:
    """Distributions with plugins, each once: the one that an import would use."""
    seen: set[str] = set()
    for distribution in importlib.metadata.distributions():
        if f"[{GROUP}]" not in _entry_points(distribution):
            continue
        name = _facts(distribution)[0]
        # An editable installation and an old wheel of it, say, may both be on sys.path.
        if not name or canonical(name) not in seen:
            seen.add(canonical(name))
            yield _first(name, distribution)


def _plugins_of(distribution: Distribution) -> Iterator[Plugin]:
    name, version, requires = _facts(distribution)
    for entry, target in _lines(_entry_points(distribution)):
        plugin = Plugin(entry, name or "unknown", version, target, requires=requires)
        yield plugin if name else replace(
            plugin, status="broken", reason="its package has no metadata that can be read",
            hint="remove what is left of the package from site-packages, and install it again.",
        )  # fmt: skip


def _lines(text: str) -> Iterator[tuple[str, str]]:
    """``name = target`` lines of the group; the target is empty where there is no ``=``."""
    section = ""
    for line in filter(None, map(str.strip, text.splitlines())):
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif section == GROUP and line[0] not in "#;":
            name, _, target = line.partition("=")
            yield name.strip(), target.strip()


def _entry_points(distribution: Distribution) -> str:
    """A damaged file of some package, perhaps of no concern to us, counts as empty."""
    try:
        return distribution.read_text("entry_points.txt") or ""
    except (OSError, UnicodeDecodeError):
        return ""


def _first(name: str, found: Distribution) -> Distribution:
    try:
        return importlib.metadata.distribution(name)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return found  # it has no name, or its folder has another one


def _facts(distribution: Distribution) -> tuple[str, str, tuple[str, ...]]:
    """Name, version and requirements; all empty where the metadata cannot be read.

    Python versions report missing metadata in different ways, and damage takes any form.
    """
    try:
        name, version = distribution.metadata["Name"], distribution.metadata["Version"]
        return name or "", version or "", tuple(distribution.requires or ())
    except Exception:
        return "", "", ()
