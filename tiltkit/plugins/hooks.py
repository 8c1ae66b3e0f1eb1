"""Loading of one plugin: check its version, import its hook module, call its hooks."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import reduce
from typing import Any

import pluggy

import tiltkit
from tiltkit import hookspecs
from tiltkit.errors import PluginError
from tiltkit.hookspecs import KINDS, Entry
from tiltkit.plugins.isolation import isolate
from tiltkit.plugins.plugin import Plugin, same_name
from tiltkit.plugins.records import check_record

__all__ = ["load_entries"]

HOOKS = {f"tiltkit_{kind}s": kind for kind in KINDS}
_TARGET = re.compile(r"(?P<module>\w+(?:\.\w+)*)\s*(?::\s*(?P<attr>\w+(?:\.\w+)*))?\s*(?:\[.*\])?")
_RELEASE = re.compile(r"\d+(\.\d+)*")
# A requirement as most plugins have it; packages sort its two parts in either order.
_LOW, _HIGH = r">=(?P<low>\d+(\.\d+)*)", r"<(?P<high>\d+(\.\d+)*)"
_RANGE = re.compile(rf"tiltkit\s*(?=.*{_LOW})(?=.*{_HIGH})[<>=\d.]+,\s*[<>=\d.]+")
_NO_ARGUMENTS = "hooks take no arguments and return a list of entries (tiltkit.hookspecs)."


def load_entries(plugin: Plugin) -> Plugin:
    """Return the plugin with its entries, or marked as broken; raises nothing."""
    if plugin.status != "ok":
        return plugin
    try:
        _check_version(plugin)
        hooks = _import(plugin)
        with isolate("its hooks cannot be read", plugin.distribution):
            problem = next(_name_problems(hooks), None)
        if problem:
            raise PluginError(*problem)
        entries = tuple(_entries(plugin, hooks))
        _check_unique(entries)
    except PluginError as error:
        return replace(plugin, status="broken", reason=error.message, hint=error.hint)
    return replace(plugin, entries=entries)


def _check_version(plugin: Plugin) -> None:
    """Check the plugin's requirement on tiltkit, before anything of it is imported.

    Raises:
        PluginError: It needs another version.
    """
    lines = [line for line in plugin.requires if re.match(r"tiltkit(?![-.\w])", line, re.I)]
    if all(_is_met_range(line) for line in lines):
        return
    # Imported only where it is needed: it takes a fifth of the time of ``tiltkit --help``.
    from packaging.requirements import InvalidRequirement, Requirement

    for line in lines:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            raise PluginError(
                f"its requirement on tiltkit cannot be parsed: {line!r}",
                f"update it: pip install --upgrade {plugin.distribution}",
            ) from None
        here = tiltkit.__version__
        # The empty extra: requirements of extras that are not installed do not count.
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if (
            applies
            and same_name(requirement.name, "tiltkit")
            and not requirement.specifier.contains(here, prereleases=True)
        ):
            raise PluginError(
                f"it needs tiltkit {requirement.specifier}, and this is {here}",
                f"find versions that fit: pip install --upgrade tiltkit {plugin.distribution}",
            )


def _is_met_range(line: str) -> bool:
    """True for a plain range such as ``tiltkit>=0.1,<0.2`` that holds this version.

    All other requirements, and ranges that are not met, are for `packaging` to judge.
    """
    match = _RANGE.fullmatch(line.strip())
    if not match or not _RELEASE.fullmatch(tiltkit.__version__):
        return False
    here, low, high = (
        [int(part) for part in text.split(".")]
        for text in (tiltkit.__version__, match["low"], match["high"])
    )
    size = max(len(here), len(low), len(high))
    padded = [release + [0] * (size - len(release)) for release in (low, here, high)]
    return padded[0] <= padded[1] < padded[2]


def _import(plugin: Plugin) -> Any:
    """Import the module, or the object in it, that has the hooks."""
    match = _TARGET.fullmatch(plugin.target)
    if not match:
        line = f"{plugin.name} = {plugin.target}" if plugin.target else plugin.name
        raise PluginError(
            f"its entry point {line!r} cannot be parsed",
            'write it as: myplugin = "my_package.plugin".',
        )
    name, attr = match["module"], match["attr"]
    with isolate(f"importing {name} failed", plugin.distribution, name):
        module = importlib.import_module(name)
        return reduce(getattr, attr.split(".") if attr else [], module)


def _name_problems(hooks: Any) -> Iterator[tuple[str, str]]:
    """Hooks that pluggy would ignore silently, as (reason, hint)."""
    for name in dir(hooks):
        value = getattr(hooks, name, None)
        routine = inspect.isroutine(value)
        options = getattr(value, "tiltkit_impl", None) if routine else None
        if name in HOOKS and not options:
            yield f"{name} is not a function marked as a hook", f"put @hookimpl above def {name}()."
        elif options:
            hook = options.get("specname") or name
            if hook not in HOOKS and not options.get("optionalhook"):
                yield f"{hook} is no hook of tiltkit {tiltkit.__version__}", _known_hooks()
        elif routine and name.startswith("tiltkit_"):
            yield f"{name} is no hook of tiltkit {tiltkit.__version__}", _known_hooks()


def _known_hooks() -> str:
    return f"the hooks are {', '.join(HOOKS)}."


def _entries(plugin: Plugin, hooks: Any) -> Iterator[tuple[str, Entry]]:
    """Call every hook of one plugin, through a pluggy manager of its own."""
    manager = pluggy.PluginManager("tiltkit")
    manager.add_hookspecs(hookspecs)
    try:
        with isolate("its hooks cannot be registered", plugin.distribution):
            manager.register(hooks)
    except PluginError as error:
        raise PluginError(_wrong_arguments(error) or error.message, _NO_ARGUMENTS) from error
    for hook, kind in HOOKS.items():
        for implementation in getattr(manager.hook, hook).get_hookimpls():
            for entry in _call(plugin, hook, implementation.function):
                yield kind, check_record(kind, hook, entry, builtin=plugin.builtin)


def _call(plugin: Plugin, hook: str, function: Any) -> list[Any]:
    with isolate(f"{hook}() failed", plugin.distribution):
        answer = function()
        if isinstance(answer, Iterable) and not isinstance(answer, str | bytes):
            return list(answer)
    raise PluginError(
        f"{hook}() returned a {type(answer).__name__}, not a list of entries", _NO_ARGUMENTS
    )


def _wrong_arguments(error: PluginError) -> str:
    """Shorten pluggy's message about a hook with arguments; empty for other errors."""
    cause = error.__cause__
    if not isinstance(cause, pluggy.PluginValidationError):
        return ""
    lines = [line.removeprefix("hookimpl definition: ") for line in str(cause).splitlines()]
    return f"a hook is declared with arguments: {lines[1]}" if len(lines) > 1 else ""


def _check_unique(entries: tuple[tuple[str, Entry], ...]) -> None:
    seen: set[tuple[str, str]] = set()
    for kind, entry in entries:
        if (kind, entry.name) in seen:
            raise PluginError(
                f"it has two {kind}s with the name {entry.name}", "each needs a name of its own."
            )
        seen.add((kind, entry.name))
