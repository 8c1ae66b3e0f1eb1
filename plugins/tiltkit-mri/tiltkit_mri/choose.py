"""Choice of slices by name: contrasts, repetitions, phases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tiltkit.errors import InputError, UsageError
from tiltkit.problem import Note
from tiltkit_mri.kspace import PER_SLICE

if TYPE_CHECKING:
    from tiltkit_mri.kspace import KSpace

__all__ = ["choose_slices", "parse_choice"]


def parse_choice(text: str) -> dict[str, range]:
    """Numbers by name from a setting: ``"contrast=1,repetition=0:4"``.

    A range ends before its last number.

    Raises:
        UsageError: The text is not of this form.
    """
    found: dict[str, range] = {}
    for part in text.split(","):
        name, _, numbers = (word.strip() for word in part.partition("="))
        first, colon, last = numbers.partition(":")
        if not name or name in found or not first.isdigit() or (colon and not last.isdigit()):
            raise UsageError(
                f"The choice '{text}' cannot be read at '{part.strip()}'.",
                "give names and numbers, for example task.choose=contrast=1,repetition=0:4.",
            )
        found[name] = range(int(first), int(last) if colon else int(first) + 1)
    return found


def choose_slices(scan: KSpace, choice: dict[str, range]) -> KSpace:
    """The slices of a scan whose names have the chosen numbers; they are numbered anew.

    Args:
        scan: The scan.
        choice: Numbers by name, see `parse_choice`.

    Raises:
        InputError: The slices have no such names or numbers.
    """
    names = [_numbers(name) for name in scan.slice_names]
    if not names:
        raise InputError(
            f"The slices of {scan.path} are only numbered, from 0 to {scan.n_slices - 1}.",
            "choose them with --slices, and leave task.choose out.",
        )
    kept = [
        i for i, own in enumerate(names)
        if all(own.get(name) in numbers for name, numbers in choice.items())
    ]  # fmt: skip
    if not kept:
        there = ", ".join(
            f"{name} {min(own[name] for own in names)} to {max(own[name] for own in names)}"
            for name in names[0]
        )
        asked = ", ".join(
            f"{name} {n.start}" + (f" to {n.stop - 1}" if len(n) > 1 else "")
            for name, n in choice.items()
        )
        raise InputError(
            f"{scan.path} has no slice with {asked}.", f"it has {there}: choose among these."
        )
    return _part(scan, kept)


def _numbers(name: str) -> dict[str, int]:
    """Numbers by name: ``"slice 2, contrast 1"``."""
    words = (part.split() for part in name.split(", "))
    return {word: int(number) for word, number in words}


def _part(scan: KSpace, kept: list[int]) -> KSpace:
    """A scan with some of the slices, in their order."""

    def of(function: Callable[[int], Any]) -> Callable[[int], Any]:
        return lambda index: function(kept[index])

    functions: dict[str, Any] = {
        one.name: of(function) for one in fields(scan)
        if one.metadata.keys() >= PER_SLICE.keys() and (function := getattr(scan, one.name))
    }  # fmt: skip
    text = f"{len(kept)} of {scan.n_slices} slices are chosen, from {scan.slice_names[kept[0]]}"
    chosen = Note("slices_chosen", f"{text} to {scan.slice_names[kept[-1]]}; numbers count these.")
    return replace(
        scan,
        n_slices=len(kept),
        columns=scan.columns[np.array(kept)],
        notes=(*(note for note in scan.notes if note.code != "slices_named"), chosen),
        unusable={
            i: scan.unusable[slice_] for i, slice_ in enumerate(kept) if slice_ in scan.unusable
        },
        geometry=tuple(scan.geometry[i] for i in kept) if scan.geometry else (),
        slice_names=tuple(scan.slice_names[i] for i in kept),
        places=tuple(scan.places[i] for i in kept) if scan.places else (),
        **functions,
    )
