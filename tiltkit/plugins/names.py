"""Which plugin's thing a name means, also when two plugins use the same name.

A name that is used once stands for itself. Otherwise ``distribution:name`` says which; a built-in
keeps its plain name, so nothing can take its place.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace

from tiltkit.errors import UsageError
from tiltkit.hookspecs import KINDS
from tiltkit.plugins.record import Offer, Plugin, same_name

__all__ = ["find", "offers", "plain", "rivals"]

# Samplers by their names in release 0.1, where tiltkit itself brought them.
MOVED = {name: f"baselines.{name}" for name in ("ddrm", "diffpir", "dps", "pula", "replica", "ula")}


def offers(plugins: Iterable[Plugin], kind: str) -> list[Offer]:
    """What there is of a kind, built-ins first, then by name; every name is there once."""
    if kind not in KINDS:
        raise UsageError(f"There is no kind {kind!r}.", _nearest(kind, KINDS))
    every = [(p, entry) for p in plugins for k, entry in p.entries if k == kind]
    named = [_told_apart(offer, rivals(every, offer[1].name)) for offer in every]
    return sorted(named, key=lambda offer: (not offer[0].builtin, offer[1].name))


def find(plugins: Sequence[Plugin], kind: str, name: str) -> Offer:
    """The one thing of that name: ``name``, ``distribution:name`` or ``entry-point:name``.

    Raises:
        UsageError: There is none, or more than one.
    """
    name = _moved(kind, name)
    there = offers(plugins, kind)
    exact = [offer for offer in there if offer[1].name == name]
    owner, colon, word = name.rpartition(":")
    same = [o for o in rivals(there, word) if not colon or o[0].called(owner)]
    match exact or same:
        case [offer]:
            return offer
        case []:
            raise _unknown(plugins, kind, name, there)
        case several:
            raise _ambiguous(kind, word, several)


def _moved(kind: str, name: str) -> str:
    """The present name of a thing that moved to another package, with a warning."""
    if kind != "sampler" or name not in MOVED:
        return name
    package, _, _ = MOVED[name].partition(".")
    text = f"The sampler {name} is now {MOVED[name]}, of the package tiltkit-{package}."
    warnings.warn(text, FutureWarning, stacklevel=2)
    return MOVED[name]


def rivals(there: Iterable[Offer], name: str) -> list[Offer]:
    """All things of one kind that their plugins call by that name."""
    return [offer for offer in there if plain(offer[1].name) == name]


def plain(name: str) -> str:
    """The name as its plugin wrote it."""
    return name.rpartition(":")[2]


def _told_apart(offer: Offer, same: Sequence[Offer]) -> Offer:
    plugin, entry = offer
    if plugin.builtin or len(same) == 1:
        return offer
    twins = [p for p, _ in same if same_name(p.distribution, plugin.distribution)]
    owner = plugin.distribution if len(twins) == 1 else plugin.name
    return plugin, replace(entry, name=f"{owner}:{entry.name}")


def _ambiguous(kind: str, name: str, several: Sequence[Offer]) -> UsageError:
    owners = " and ".join(plugin.label for plugin, _ in several)
    ways = " or ".join(entry.name for _, entry in several)
    blocks = " or ".join(f"--no-plugins={plugin.distribution}" for plugin, _ in several)
    return UsageError(
        f"The {kind} {name!r} is in more than one plugin: {owners}.",
        f"say which: {ways}; or block one: {blocks}.",
    )


def _unknown(plugins: Sequence[Plugin], kind: str, name: str, there: Sequence[Offer]) -> UsageError:
    """What was wanted may be in a plugin that is broken or blocked: these are named, too."""
    parts = [f"There is no {kind} {name!r}."]
    parts += [
        f"Plugin {p.label} is broken: {p.reason}; see 'tiltkit plugins doctor'."
        if p.status == "broken"
        else f"Plugin {p.label} is blocked."
        for p in plugins
        if p.status != "ok"
    ]
    hint = _nearest(name, [entry.name for _, entry in there])
    return UsageError(" ".join(parts), hint or f"install a plugin that brings a {kind}.")


def _nearest(name: str, names: Iterable[str]) -> str:
    # Imported on errors only: it brings pydantic.
    from tiltkit.config import nearest

    return nearest(name, names)
