"""The plugin host: everything that plugins add, by kind and name."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import tiltkit
from tiltkit.plugins.discover import discover
from tiltkit.plugins.gather import gather
from tiltkit.plugins.isolate import isolated
from tiltkit.plugins.made import check_made
from tiltkit.plugins.names import find, offers
from tiltkit.plugins.record import BUILTIN, Plugin
from tiltkit.plugins.targets import import_target, options_of

if TYPE_CHECKING:
    from pydantic import BaseModel

    from tiltkit.hookspecs import Entry

__all__ = ["Plugins", "load_plugins"]

ENVIRONMENT = "TILTKIT_NO_PLUGINS"
ALL = ("*", "all", "1")


class Plugins:
    """What is installed.

    Attributes:
        plugins: Every plugin, healthy or not; the built-in one first.
        unknown_blocked: Names to block that block nothing: no such plugin, or the built-in one.
    """

    def __init__(self, plugins: Iterable[Plugin], unknown_blocked: Iterable[str] = ()) -> None:
        self.plugins = tuple(plugins)
        self.unknown_blocked = tuple(unknown_blocked)
        self._loaded: dict[tuple[str, str], Any] = {}

    def entries(self, kind: str) -> list[Entry]:
        """What healthy plugins add, built-ins first, then by name.

        Every name can be given to the other methods: where plugins use the same name, it is
        ``distribution:name``.
        """
        return [entry for _, entry in offers(self.plugins, kind)]

    def get(self, kind: str, name: str) -> Entry:
        """The record of a name.

        Raises:
            UsageError: No such name (tells the nearest one), or one that two plugins use.
        """
        return find(self.plugins, kind, name)[1]

    def plugin_of(self, kind: str, name: str) -> Plugin:
        """The plugin that adds it; raises as `get`."""
        return find(self.plugins, kind, name)[0]

    def load(self, kind: str, name: str) -> Any:
        """The code behind a name, imported on first use.

        Raises:
            UsageError: As `get`.
            PluginError: The code cannot be imported; says why, and what to install.
        """
        if (kind, name) not in self._loaded:
            plugin, entry = find(self.plugins, kind, name)
            self._loaded[kind, name] = import_target(plugin, kind, entry)
        return self._loaded[kind, name]

    def options(self, kind: str, name: str, values: Mapping[str, Any]) -> BaseModel:
        """The options of a task, sampler or prior, checked and complete.

        Raises:
            UsageError: An option that does not exist, or a value that is not allowed.
            PluginError: As `load`, or the plugin states no options.
        """
        from tiltkit.config import validated

        plugin, entry = find(self.plugins, kind, name)
        model = options_of(plugin, kind, entry, self.load(kind, name))
        return validated(model, values, where=kind)

    def create(self, kind: str, name: str, values: Mapping[str, Any]) -> Any:
        """A task, sampler or prior made with these options.

        Raises:
            UsageError: As `options`.
            PluginError: As `options`, or the plugin's code failed or made something else.
        """
        options = self.options(kind, name, values)
        plugin, entry = find(self.plugins, kind, name)
        arguments = (options, entry) if kind == "prior" else (options,)
        what = f"Plugin {plugin.label} could not make its {kind} {name} with these options"
        with isolated(what, plugin.distribution, own_words=True):
            made = self.load(kind, name)(*arguments)
        check_made(plugin, kind, entry, made)
        return made


def load_plugins(blocked: Collection[str] | None = None) -> Plugins:
    """Find the installed plugins and ask each what it adds.

    Args:
        blocked: Names of entry points or distributions that must not be imported; ``*`` for all.
            None takes them from the environment variable ``TILTKIT_NO_PLUGINS``.
    """
    blocked = (blocked,) if isinstance(blocked, str) else blocked
    names = _from_environment() if blocked is None else tuple(blocked)
    core = Plugin("core", "tiltkit", tiltkit.__version__, BUILTIN)
    found = [_block(plugin, names) for plugin in discover()]
    unknown = [n for n in names if n not in ALL and not any(p.called(n) for p in found)]
    return Plugins((gather(plugin) for plugin in (core, *found)), unknown)


def _from_environment() -> tuple[str, ...]:
    names = (name.strip() for name in os.environ.get(ENVIRONMENT, "").split(","))
    return tuple(filter(None, names))


def _block(plugin: Plugin, names: Collection[str]) -> Plugin:
    if not any(name in ALL or plugin.called(name) for name in names):
        return plugin
    return replace(plugin, status="blocked", reason="blocked by --no-plugins or TILTKIT_NO_PLUGINS")
