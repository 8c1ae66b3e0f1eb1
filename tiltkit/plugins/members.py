"""Members that tasks, priors and other parts must have; messages are for plugin authors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tiltkit.errors import PluginError
from tiltkit.hookspecs import PriorEntry
from tiltkit.plugins.names import short_name

if TYPE_CHECKING:
    from tiltkit.hookspecs import Entry
    from tiltkit.plugins.plugin import Plugin

__all__ = ["check_members", "missing_members", "members_hint"]

# As names: the protocols are in a higher layer than this module.
_MEMBERS = {
    "task": ("default_prior", "open"),
    "prior": ("channels", "sigma_range", "value_range", "score", "to"),
    "sampler": ("weighted", "levels", "next_level", "init", "step", "images", "scores"),
    "reader": ("matches", "open"),
    "operator": ("forward",),
}


def missing_members(kind: str, part: Any) -> list[str]:
    """Return the members of a kind that a part, or its class, lacks."""
    return [name for name in _MEMBERS.get(kind, ()) if not hasattr(part, name)]


def members_hint(kind: str) -> str:
    """Return a hint that names the documentation of a kind."""
    return f"for its authors: tiltkit_{kind}s in tiltkit.hookspecs lists what is required."


def check_members(plugin: Plugin, kind: str, entry: Entry, part: Any) -> None:
    """Check that a part has the members of its kind and the properties that its entry states.

    Raises:
        PluginError: It lacks members, or a prior has other channels than its entry states.
    """
    what = f"The {kind} {short_name(entry.name)} of plugin {plugin.label}"
    lacks = missing_members(kind, part)
    if lacks:
        raise PluginError(
            f"{what} is a {type(part).__name__} without {', '.join(lacks)}.", members_hint(kind)
        )
    declared = entry.channels if isinstance(entry, PriorEntry) else 0
    if declared and part.channels not in (0, declared):
        raise PluginError(
            f"{what} has {part.channels} channels, but its entry states {declared}.",
            "its authors must correct one of them; 0 stands for any number.",
        )
