"""What tasks, priors and other parts must have; messages are for plugin authors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tiltkit.errors import PluginError
from tiltkit.hookspecs import PriorEntry
from tiltkit.plugins.names import plain

if TYPE_CHECKING:
    from tiltkit.hookspecs import Entry
    from tiltkit.plugins.record import Plugin

__all__ = ["check_made", "lacking", "needs"]

# By name: the protocols themselves stand above this room.
_MEMBERS = {
    "task": ("default_prior", "open"),
    "prior": ("channels", "sigma_range", "value_range", "score", "to"),
    "sampler": ("weighted", "levels", "next_level", "init", "step", "images", "scores"),
    "reader": ("matches", "open"),
    "operator": ("forward",),
}


def lacking(kind: str, part: Any) -> list[str]:
    """What a part, or its class, lacks to be one of that kind."""
    return [name for name in _MEMBERS.get(kind, ()) if not hasattr(part, name)]


def needs(kind: str) -> str:
    """Where authors find what a part must have, for a hint."""
    return f"its authors find what it needs at tiltkit_{kind}s in tiltkit.hookspecs."


def check_made(plugin: Plugin, kind: str, entry: Entry, part: Any) -> None:
    """Refuse a part that is none, or not what its entry says.

    Raises:
        PluginError: It lacks members, or a prior has other channels than its entry.
    """
    what = f"The {kind} {plain(entry.name)} of plugin {plugin.label}"
    lacks = lacking(kind, part)
    if lacks:
        raise PluginError(
            f"{what} is a {type(part).__name__} without {', '.join(lacks)}.", needs(kind)
        )
    declared = entry.channels if isinstance(entry, PriorEntry) else 0
    if declared and part.channels not in (0, declared):
        raise PluginError(
            f"{what} has {part.channels} channels, but its entry says {declared}.",
            "its authors must correct one of them; 0 stands for any number.",
        )
