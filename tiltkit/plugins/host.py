"""The plugin host: the entries of all plugins, by kind and name."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import tiltkit
from tiltkit.plugins.discover import discover
from tiltkit.plugins.hooks import load_entries
from tiltkit.plugins.isolation import isolate
from tiltkit.plugins.members import check_members
from tiltkit.plugins.names import find_entry, list_entries
from tiltkit.plugins.plugin import BUILTIN, Plugin
from tiltkit.plugins.targets import import_target, options_model

if TYPE_CHECKING:
    from pydantic import BaseModel

    from tiltkit.hookspecs import Entry

__all__ = ["Plugins", "load_plugins"]

ENVIRONMENT = "TILTKIT_NO_PLUGINS"
ALL = ("*", "all", "1")


class Plugins:
    """All installed plugins and their entries.

    Attributes:
        plugins: Every plugin, broken and blocked ones too; the built-in one first.
        unknown_blocked: Names to block that are no plugin's, or the built-in one's.
    """

    def __init__(self, plugins: Iterable[Plugin], unknown_blocked: Iterable[str] = ()) -> None:
        self.plugins = tuple(plugins)
        self.unknown_blocked = tuple(unknown_blocked)
        self._loaded: dict[tuple[str, str], Any] = {}

    def entries(self, kind: str) -> list[Entry]:
        """Entries of one kind of all working plugins, built-in ones first, then by name.

        Every name is valid for the other methods: a name that several plugins use has the form
        ``distribution:name``.
        """
        return [entry for _, entry in list_entries(self.plugins, kind)]

    def get(self, kind: str, name: str) -> Entry:
        """The entry of a name.

        Raises:
            UsageError: No such name (the hint has the nearest one), or one that two plugins use.
        """
        return find_entry(self.plugins, kind, name)[1]

    def owner(self, kind: str, name: str) -> Plugin:
        """The plugin that adds an entry; raises as `get`."""
        return find_entry(self.plugins, kind, name)[0]

    def load(self, kind: str, name: str) -> Any:
        """The target of an entry, imported on first use.

        Raises:
            UsageError: As `get`.
            PluginError: The target cannot be imported.
        """
        if (kind, name) not in self._loaded:
            plugin, entry = find_entry(self.plugins, kind, name)
            self._loaded[kind, name] = import_target(plugin, kind, entry)
        return self._loaded[kind, name]

    def options(self, kind: str, name: str, values: Mapping[str, Any]) -> BaseModel:
        """The options of a task, sampler or prior, checked and complete.

        Raises:
            UsageError: An option that does not exist, or a value that is not allowed.
            PluginError: As `load`, or the target has no ``Options``.
        """
        from tiltkit.config import validate

        plugin, entry = find_entry(self.plugins, kind, name)
        model = options_model(plugin, kind, entry, self.load(kind, name))
        return validate(model, values, where=kind)

    def create(self, kind: str, name: str, values: Mapping[str, Any]) -> Any:
        """Create a task, sampler or prior with these options.

        Raises:
            UsageError: As `options`.
            PluginError: As `options`, or the plugin's code failed, or its object lacks members.
        """
        options = self.options(kind, name, values)
        plugin, entry = find_entry(self.plugins, kind, name)
        arguments = (options, entry) if kind == "prior" else (options,)
        what = f"Plugin {plugin.label} could not create its {kind} {name} with these options"
        with isolate(what, plugin.distribution, own_words=True):
            part = self.load(kind, name)(*arguments)
        check_members(plugin, kind, entry, part)
        return part


def load_plugins(blocked: Collection[str] | None = None) -> Plugins:
    """Find the installed plugins and load their entries.

    Args:
        blocked: Names of entry points or distributions that are not imported; ``*`` for all.
            None takes them from the environment variable ``TILTKIT_NO_PLUGINS``.
    """
    blocked = (blocked,) if isinstance(blocked, str) else blocked
    names = _from_environment() if blocked is None else tuple(blocked)
    core = Plugin("core", "tiltkit", tiltkit.__version__, BUILTIN)
    found = [_block(plugin, names) for plugin in discover()]
    unknown = [n for n in names if n not in ALL and not any(p.has_name(n) for p in found)]
    return Plugins((load_entries(plugin) for plugin in (core, *found)), unknown)


def _from_environment() -> tuple[str, ...]:
    names = (name.strip() for name in os.environ.get(ENVIRONMENT, "").split(","))
    return tuple(filter(None, names))


def _block(plugin: Plugin, names: Collection[str]) -> Plugin:
    if not any(name in ALL or plugin.has_name(name) for name in names):
        return plugin
    return replace(plugin, status="blocked", reason="blocked by --no-plugins or TILTKIT_NO_PLUGINS")
