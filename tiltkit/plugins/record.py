"""What is known about one plugin."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from tiltkit.hookspecs import Entry

__all__ = ["BUILTIN", "GROUP", "Offer", "Plugin", "Status", "canonical", "same_name"]

GROUP = "tiltkit"
BUILTIN = "tiltkit.plugins.builtin"

Status = Literal["ok", "broken", "blocked"]


@dataclass(frozen=True, slots=True)
class Plugin:
    """One entry point of one distribution, and what came of it.

    Attributes:
        name: Name of the entry point.
        distribution: The package that declares it, as pip knows it.
        version: Of the distribution.
        target: What the entry point names: the module with the hooks.
        status: ``ok``; ``broken`` (see the reason); ``blocked``, and so never imported.
        reason: What is wrong, one line; empty when nothing is.
        hint: What to do about it, one line.
        entries: What it adds, as (kind, entry); empty unless the status is ``ok``.
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
        """Whether it is tiltkit's own."""
        return self.target == BUILTIN

    @property
    def label(self) -> str:
        """How messages call it: ``mri (tiltkit-mri)``."""
        return f"{self.name} ({self.distribution})"

    def called(self, name: str) -> bool:
        """Whether that is the name of its entry point or of its distribution."""
        return same_name(name, self.name) or same_name(name, self.distribution)


# A thing that a plugin adds, with the plugin.
Offer = tuple[Plugin, "Entry"]


def same_name(one: str, other: str) -> bool:
    """Whether pip would take both for the same package: ``My_Plugin`` is ``my-plugin``."""
    return canonical(one) == canonical(other)


def canonical(name: str) -> str:
    """A name as pip compares it."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()
