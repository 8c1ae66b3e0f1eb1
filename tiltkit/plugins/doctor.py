"""Examines every plugin closely: imports all that it adds, and tells what is wrong with it."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from importlib.resources import as_file, files
from typing import TYPE_CHECKING, Any, Literal

from tiltkit.digest import digest
from tiltkit.errors import PluginError
from tiltkit.hookspecs import KINDS, PriorEntry
from tiltkit.plugins.isolate import isolated
from tiltkit.plugins.made import lacking, needs
from tiltkit.plugins.names import offers, plain, rivals
from tiltkit.plugins.targets import import_target, missing, options_of

if TYPE_CHECKING:
    from pydantic import BaseModel

    from tiltkit.hookspecs import Entry
    from tiltkit.plugins import Plugin, Plugins

__all__ = ["Finding", "doctor"]

# What targets that are functions are called with.
_ARGUMENTS = {
    "prior": ("options", "entry"),
    "metric": ("estimate", "truth"),
    "writer": ("result", "output"),
}
_WITH_OPTIONS = ("task", "sampler", "prior")

# Level, what is wrong (after the name of the thing), what to do.
Problem = tuple[Literal["warning", "error"], str, str]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a plugin.

    Attributes:
        plugin: The plugin, as ``name (distribution)``.
        level: ``error``: does not work; ``warning``: works, but not always or not safely.
        subject: What it is about, such as ``task mri-recon``; empty for the plugin as a whole.
        message: What is wrong, one line that tells the subject, too.
        hint: What to do about it, one line.
    """

    plugin: str
    level: Literal["warning", "error"]
    subject: str
    message: str
    hint: str


def doctor(plugins: Plugins, commands: Collection[str] = ()) -> list[Finding]:
    """What is wrong with every plugin, in the order of ``plugins.plugins``; nothing when healthy.

    Unlike all other commands it imports everything, so it takes as long as that takes. Blocked
    plugins are not looked into.

    Args:
        plugins: What is installed.
        commands: Names of tiltkit's own commands.
    """
    return [
        finding
        for plugin in plugins.plugins
        for finding in (*_examine(plugin, plugins), *_hidden(plugin, plugins, commands))
    ]


def _hidden(plugin: Plugin, plugins: Plugins, commands: Collection[str]) -> Iterator[Finding]:
    """Commands that tiltkit's own hide."""
    for owner, entry in offers(plugins.plugins, "command"):
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
            for level, problem, hint in _problems(plugin, kind, entry):
                yield Finding(plugin.label, level, subject, f"{subject} {problem}", hint)
        except PluginError as error:
            yield Finding(plugin.label, "error", subject, error.message, error.hint)
    yield from _collisions(plugin, plugins)


def _problems(plugin: Plugin, kind: str, entry: Entry) -> Iterator[Problem]:
    """What is wrong with one thing.

    Raises:
        PluginError: It cannot be loaded.
    """
    absent = " ".join(missing(entry))
    if absent:
        yield "warning", f"needs {absent}, which is not installed", f"pip install {absent}"
        return
    target = import_target(plugin, kind, entry)
    yield from _shape(kind, entry, target)
    if kind in _WITH_OPTIONS:
        with isolated(f"{kind} {entry.name} has Options that fail", plugin.distribution,
                      own_words=True):  # fmt: skip
            yield from list(_options(options_of(plugin, kind, entry, target)))
    if isinstance(entry, PriorEntry) and entry.weights:
        yield from _weights(plugin, entry)


def _options(options: type[BaseModel]) -> Iterator[Problem]:
    """What recipes cannot do with the options of a part."""
    from pydantic import ValidationError, create_model

    if options.model_config.get("extra") != "forbid":
        yield (
            "warning",
            "has Options that take any key, so that typing errors vanish",
            'its authors must set model_config = ConfigDict(extra="forbid").',
        )
    if "name" in options.model_fields:
        hint = "its authors must give it another name."
        yield "error", "has an option 'name', which in recipes is the part's own name", hint
    kwargs = {"validate_default": True}
    try:
        create_model("Checked", __base__=options, __cls_kwargs__=kwargs).model_validate({})
    except ValidationError as error:
        for one in error.errors():
            if one["type"] != "missing":
                where = ".".join(map(str, one["loc"])) or "together"
                text = f"has defaults that its own Options refuse ({where}: {one['msg']})"
                yield "error", text, "its authors must correct the defaults or their types."


def _shape(kind: str, entry: Entry, target: Any) -> Iterator[Problem]:
    """What a protocol asks for and the target lacks."""
    hint = needs(kind)
    lacks = [] if kind in _ARGUMENTS else lacking(kind, target)
    if lacks:
        yield "error", f"lacks {', '.join(lacks)} ({entry.target})", hint
    if not callable(target):
        yield "error", f"is a {type(target).__name__}, no class or function", hint
    elif kind in _ARGUMENTS and not _takes(target, len(_ARGUMENTS[kind])):
        call = f"({', '.join(_ARGUMENTS[kind])})"
        yield "error", f"cannot be called with {call}, as it must ({entry.target})", hint


def _takes(target: Any, count: int) -> bool:
    """Whether a function can be called with that many arguments; yes where nothing tells."""
    try:
        inspect.signature(target).bind(*range(count))
    except TypeError:
        return False
    except ValueError:  # of some built-in functions
        return True
    return True


def _weights(plugin: Plugin, entry: PriorEntry) -> Iterator[Problem]:
    """Whether the file is there, and is the one that the plugin means."""
    package, _, path = entry.weights.partition(":")
    again = f"install it again: pip install --force-reinstall {plugin.distribution}"
    try:
        with (
            isolated(f"has weights that cannot be read ({entry.weights})", plugin.distribution),
            as_file(files(package).joinpath(path)) as weights,
        ):
            found = digest(weights)
    except PluginError as error:
        yield "error", error.message, again
        return
    if not entry.sha256:
        hint = f'its authors must set sha256="{found}".'
        yield "warning", "has weights without a digest to check them against", hint
    elif found != entry.sha256.lower():
        yield "error", "has weights of another sha256 than it states", again


def _collisions(plugin: Plugin, plugins: Plugins) -> Iterator[Finding]:
    """Names that another plugin uses, too."""
    for kind in KINDS:
        there = offers(plugins.plugins, kind)
        for owner, entry in there:
            if owner is not plugin or ":" not in entry.name:
                continue
            name = plain(entry.name)
            others = ", ".join(p.label for p, _ in rivals(there, name) if p is not plugin)
            yield Finding(
                plugin.label,
                "warning",
                f"{kind} {name}",
                f"{kind} {name} has a name that {others} uses, too",
                f"say {entry.name}, or block one with --no-plugins=NAME.",
            )
