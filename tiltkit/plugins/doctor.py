"""Examination of plugins: import everything that they add, and list what is wrong."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from importlib.resources import as_file, files
from typing import TYPE_CHECKING, Any, Literal

from tiltkit.digest import digest
from tiltkit.errors import PluginError
from tiltkit.hookspecs import KINDS, PriorEntry
from tiltkit.plugins.isolation import isolate
from tiltkit.plugins.members import members_hint, missing_members
from tiltkit.plugins.names import entries_named, list_entries, short_name
from tiltkit.plugins.targets import (
    import_target,
    install_hint,
    missing_packages,
    options_model,
)

if TYPE_CHECKING:
    from pydantic import BaseModel

    from tiltkit.hookspecs import Entry
    from tiltkit.plugins import Plugin, Plugins

__all__ = ["Finding", "examine_plugins"]

# Arguments of targets that are functions.
_ARGUMENTS = {
    "prior": ("options", "entry"),
    "metric": ("estimate", "truth"),
    "writer": ("result", "output"),
}
_WITH_OPTIONS = ("task", "sampler", "prior")

# Level, what is wrong (text behind the name of the entry), what to do.
Problem = tuple[Literal["warning", "error"], str, str]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a plugin.

    Attributes:
        plugin: The plugin, as ``name (distribution)``.
        level: ``error``: does not work; ``warning``: works, but not always or not safely.
        subject: Kind and name of the entry, such as ``task mri-recon``; empty for the plugin.
        message: What is wrong, with the subject, in one line.
        hint: What to do about it, in one line.
    """

    plugin: str
    level: Literal["warning", "error"]
    subject: str
    message: str
    hint: str


def examine_plugins(plugins: Plugins, commands: Collection[str] = ()) -> list[Finding]:
    """List what is wrong with every plugin, in the order of ``plugins.plugins``.

    It imports every target, which can take long. Blocked plugins are not examined.

    Args:
        plugins: The installed plugins.
        commands: Names of tiltkit's own commands.
    """
    return [
        finding
        for plugin in plugins.plugins
        for finding in (*_examine(plugin, plugins), *_hidden(plugin, plugins, commands))
    ]


def _hidden(plugin: Plugin, plugins: Plugins, commands: Collection[str]) -> Iterator[Finding]:
    """Commands of a plugin that have the name of one of tiltkit's own."""
    for owner, entry in list_entries(plugins.plugins, "command"):
        if owner is plugin and entry.name in commands:
            subject = f"command {entry.name}"
            message = f"{subject} has the name of one of tiltkit's own, and cannot be reached"
            hint = "its authors must choose another name."
            yield Finding(plugin.label, "error", subject, message, hint)


def _examine(plugin: Plugin, plugins: Plugins) -> Iterator[Finding]:
    if plugin.status == "broken":
        yield Finding(plugin.label, "error", "", plugin.reason, plugin.hint)
    for kind, entry in plugin.entries:
        subject = f"{kind} {entry.name}"
        try:
            for level, problem, hint in _entry_problems(plugin, kind, entry):
                yield Finding(plugin.label, level, subject, f"{subject} {problem}", hint)
        except PluginError as error:
            yield Finding(plugin.label, "error", subject, error.message, error.hint)
    yield from _collisions(plugin, plugins)


def _entry_problems(plugin: Plugin, kind: str, entry: Entry) -> Iterator[Problem]:
    """Problems of one entry.

    Raises:
        PluginError: Its target cannot be imported.
    """
    absent = " ".join(missing_packages(entry))
    if absent:
        hint = install_hint(plugin, entry)
        yield "warning", f"needs {absent}, which is not installed", hint
        return
    target = import_target(plugin, kind, entry)
    yield from _target_problems(kind, entry, target)
    if kind in _WITH_OPTIONS or (kind == "writer" and hasattr(target, "Options")):
        with isolate(f"{kind} {entry.name} has Options that fail", plugin.distribution,
                      own_words=True):  # fmt: skip
            yield from list(_options_problems(options_model(plugin, kind, entry, target)))
    if isinstance(entry, PriorEntry) and entry.weights:
        yield from _weights_problems(plugin, entry)


def _options_problems(options: type[BaseModel]) -> Iterator[Problem]:
    """Options that a recipe cannot set, or that are not checked."""
    from pydantic import ValidationError, create_model

    if options.model_config.get("extra") != "forbid":
        yield (
            "warning",
            "has Options that accept any key, so that misspelt options are ignored",
            'its authors must set model_config = ConfigDict(extra="forbid").',
        )
    if "name" in options.model_fields:
        hint = "its authors must give it another name."
        yield "error", "has an option 'name', which in recipes is the name of the part", hint
    kwargs = {"validate_default": True}
    try:
        create_model("Checked", __base__=options, __cls_kwargs__=kwargs).model_validate({})
    except ValidationError as error:
        for one in error.errors():
            if one["type"] != "missing":
                where = ".".join(map(str, one["loc"])) or "together"
                text = f"has default options that are not allowed ({where}: {one['msg']})"
                yield "error", text, "its authors must correct the defaults or their types."


def _target_problems(kind: str, entry: Entry, target: Any) -> Iterator[Problem]:
    """Members and arguments that a protocol requires and the target lacks."""
    hint = members_hint(kind)
    lacks = [] if kind in _ARGUMENTS else missing_members(kind, target)
    if lacks:
        yield "error", f"lacks {', '.join(lacks)} ({entry.target})", hint
    if not callable(target):
        yield "error", f"is a {type(target).__name__}, not a class or function", hint
    elif kind in _ARGUMENTS:
        arguments = list(_ARGUMENTS[kind])
        if kind == "writer" and hasattr(target, "Options"):
            arguments.append("options")
        call = f"cannot be called with ({', '.join(arguments)}) ({entry.target})"
        if not _is_callable_with(target, len(arguments)):
            yield "error", call, hint
        check = getattr(target, "check", None) if kind == "writer" else None
        if check is not None and not _is_callable_with(check, len(arguments)):
            yield "error", f"has a check that {call}", hint


def _is_callable_with(target: Any, count: int) -> bool:
    """Return whether a function takes ``count`` arguments; true for an unknown signature."""
    try:
        inspect.signature(target).bind(*range(count))
    except TypeError:
        return False
    except ValueError:  # some built-in functions have no signature
        return True
    return True


def _weights_problems(plugin: Plugin, entry: PriorEntry) -> Iterator[Problem]:
    """Weights that cannot be read, or whose SHA-256 is missing or wrong."""
    package, _, path = entry.weights.partition(":")
    again = f"install it again: pip install --force-reinstall {plugin.distribution}"
    try:
        with (
            isolate(f"has weights that cannot be read ({entry.weights})", plugin.distribution),
            as_file(files(package).joinpath(path)) as weights,
        ):
            found = digest(weights)
    except PluginError as error:
        yield "error", error.message, again
        return
    if not entry.sha256:
        hint = f'its authors must set sha256="{found}".'
        yield "warning", "has weights without a sha256 to check them", hint
    elif found != entry.sha256.lower():
        yield "error", "has weights with another sha256 than its entry states", again


def _collisions(plugin: Plugin, plugins: Plugins) -> Iterator[Finding]:
    """Names that another plugin uses too."""
    for kind in KINDS:
        entries = list_entries(plugins.plugins, kind)
        for owner, entry in entries:
            if owner is not plugin or ":" not in entry.name:
                continue
            name = short_name(entry.name)
            others = ", ".join(p.label for p, _ in entries_named(entries, name) if p is not plugin)
            yield Finding(
                plugin.label,
                "warning",
                f"{kind} {name}",
                f"{kind} {name} has a name that {others} uses too",
                f"write {entry.name}, or block one with --no-plugins=NAME.",
            )
