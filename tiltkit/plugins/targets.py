"""Import of the code that an entry names; errors name the plugin and the remedy."""

from __future__ import annotations

import importlib
from functools import reduce
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from tiltkit.errors import PluginError
from tiltkit.plugins.isolation import isolate
from tiltkit.plugins.names import short_name

if TYPE_CHECKING:
    from pydantic import BaseModel

    from tiltkit.hookspecs import Entry
    from tiltkit.plugins.plugin import Plugin

__all__ = ["import_target", "install_hint", "missing_packages", "options_model"]


def import_target(plugin: Plugin, kind: str, entry: Entry) -> Any:
    """Import the object that ``entry.target`` names.

    Raises:
        PluginError: A required package is missing, the import fails, or a command is not a
            ``click.Command``.
    """
    absent = missing_packages(entry)
    if absent:
        raise PluginError(
            f"The {kind} {entry.name} needs {' and '.join(absent)}, which"
            f" {'is' if len(absent) == 1 else 'are'} not installed.",
            install_hint(plugin, entry),
        )
    module, _, attribute = entry.target.partition(":")
    what = f"Plugin {plugin.label} cannot load its {kind} {short_name(entry.name)}"
    with isolate(what, plugin.distribution, module):
        target = reduce(getattr, attribute.split("."), importlib.import_module(module))
    if kind == "command":
        _check_command(plugin, entry, target)
    return target


def _check_command(plugin: Plugin, entry: Entry, target: Any) -> None:
    from click import Command

    if not isinstance(target, Command):
        raise PluginError(
            f"The command {short_name(entry.name)} of plugin {plugin.label} is a"
            f" {type(target).__name__}, not a click.Command ({entry.target}).",
            "its authors must put @click.command() above it.",
        )


def missing_packages(entry: Entry) -> list[str]:
    """Return the packages that an entry requires and that are not installed."""
    return [name for name in entry.requires if not _installed(name)]


def install_hint(plugin: Plugin, entry: Entry) -> str:
    """The command that installs the packages of `missing_packages`."""
    if entry.extra:
        return f"pip install '{plugin.distribution}[{entry.extra}]'"
    return f"pip install {' '.join(missing_packages(entry))}"


def options_model(plugin: Plugin, kind: str, entry: Entry, target: Any) -> type[BaseModel]:
    """Return the options model of a task, a sampler or a prior.

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
    except (ImportError, ValueError):  # a module of a missing package; a damaged package
        return False
