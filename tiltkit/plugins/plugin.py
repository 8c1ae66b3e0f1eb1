"""The record of one plugin: where it comes from, its state and its entries."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from tiltkit.hookspecs import Entry

__all__ = ["BUILTIN", "GROUP", "OwnedEntry", "Plugin", "Status", "canonical_name", "same_name"]

GROUP = "tiltkit"
BUILTIN = "tiltkit.plugins.builtin"

Status = Literal["ok", "broken", "blocked"]


@dataclass(frozen=True, slots=True)
class Plugin:
    """One entry point of one distribution, with the result of loading it.

    Attributes:
        name: Name of the entry point.
        distribution: pip's name of the package that declares the entry point.
        version: Version of the distribution.
        target: Module with the hooks, as the entry point states it.
        status: ``ok``; ``broken`` (see the reason); ``blocked``: never imported.
        reason: Why it is broken or blocked, in one line; empty otherwise.
        hint: What to do about it, in one line.
        entries: (kind, entry) of everything it adds; empty unless the status is ``ok``.
        requires: The ``Requires-Dist`` lines of the distribution.
    """

    name: str
    distribution: str
    version: str
    target: str
    status: Status = "ok"
    reason: str = ""
    hint: str = ""
    entries: tuple[tuple[str, Entry], ...] = ()
    requires: tuple[str, ...] = ()

    @property
    def builtin(self) -> bool:
        """True for tiltkit's own plugin."""
        return self.target == BUILTIN

    @property
    def label(self) -> str:
        """Name for messages: ``mri (tiltkit-mri)``."""
        return f"{self.name} ({self.distribution})"

    def has_name(self, name: str) -> bool:
        """Return whether ``name`` is the name of its entry point or of its distribution."""
        return same_name(name, self.name) or same_name(name, self.distribution)


# An entry with the plugin that adds it.
OwnedEntry = tuple[Plugin, "Entry"]


def same_name(one: str, other: str) -> bool:
    """Return whether pip treats two names as one package: ``My_Plugin`` is ``my-plugin``."""
    return canonical_name(one) == canonical_name(other)


def canonical_name(name: str) -> str:
    """Return a package name in the form in which pip compares names."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()
