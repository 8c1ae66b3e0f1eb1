"""Imports the code that an entry names, on first use, with errors that say whose fault it is."""

from __future__ import annotations

import importlib
from functools import reduce
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from tiltkit.errors import PluginError
from tiltkit.plugins.isolate import isolated
from tiltkit.plugins.names import plain

if TYPE_CHECKING:
    from pydantic import BaseModel

    from tiltkit.hookspecs import Entry
    from tiltkit.plugins.record import Plugin

__all__ = ["import_target", "missing", "options_of"]


def import_target(plugin: Plugin, kind: str, entry: Entry) -> Any:
    """The object that ``entry.target`` names.

    Raises:
        PluginError: A required package is missing, the import fails, or a command is none.
    """
    absent = missing(entry)
    if absent:
        raise PluginError(
            f"The {kind} {entry.name} needs {' and '.join(absent)}, which"
            f" {'is' if len(absent) == 1 else 'are'} not installed.",
            f"pip install {' '.join(absent)}",
        )
    module, _, attribute = entry.target.partition(":")
    what = f"Plugin {plugin.label} cannot load its {kind} {plain(entry.name)}"
    with isolated(what, plugin.distribution, module):
        target = reduce(getattr, attribute.split("."), importlib.import_module(module))
    if kind == "command":
        _check_command(plugin, entry, target)
    return target


def _check_command(plugin: Plugin, entry: Entry, target: Any) -> None:
    from click import Command

    if not isinstance(target, Command):
        raise PluginError(
            f"The command {plain(entry.name)} of plugin {plugin.label} is a"
            f" {type(target).__name__}, no click.Command ({entry.target}).",
            "its authors must put @click.command() above it.",
        )


def missing(entry: Entry) -> list[str]:
    """Packages that the entry requires and that are not installed."""
    return [name for name in entry.requires if not _installed(name)]


def options_of(plugin: Plugin, kind: str, entry: Entry, target: Any) -> type[BaseModel]:
    """The options model of a task, a sampler or a prior.

    Raises:
        PluginError: It has none.
    """
    from pydantic import BaseModel

    options = getattr(target, "Options", None)
    if isinstance(options, type) and issubclass(options, BaseModel):
        return options
    raise PluginError(
        f"The {kind} {entry.name} of plugin {plugin.label} has no Options.",
        f"its authors must set {entry.target}.Options to a pydantic model, which may be empty.",
    )


def _installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):  # of a part of a missing package; of a damaged one
        return False
