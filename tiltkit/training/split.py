"""Split of subjects into training and validation, refused where both share a patient or pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch

import numpy as np

from tiltkit.config import suggest
from tiltkit.errors import InputError, UsageError
from tiltkit.training.images import Subject

__all__ = ["Split", "split"]

# Fewer slices of a single subject than this cannot be parted with a gap.
_FEWEST = 8


@dataclass(frozen=True, slots=True)
class Split:
    """Subjects to train on, and held-out ones.

    Attributes:
        train: Subjects to train on.
        held_out: Subjects, or a slab of slices, to measure on.
        note: Description of the split.
        constant: Number of slices that were left out because all their pixels are equal.
    """

    train: list[Subject]
    held_out: list[Subject]
    note: str
    constant: int = 0


def split(subjects: Sequence[Subject], held_out: float | Sequence[str], seed: int) -> Split:
    """Part subjects into those to train on and those to measure on.

    Args:
        subjects: All of them; those without images are left out.
        held_out: Share of the subjects, at least one; or their names, also as patterns.
        seed: Seed of the choice of subjects for a share.

    Raises:
        InputError: Too little to hold anything out, or something is on both sides.
        UsageError: A name that does not exist, or nothing left to train or to measure on.
    """
    constant = sum(subject.constant for subject in subjects)
    subjects = [subject for subject in subjects if subject.images]
    if len(subjects) == 1 and isinstance(held_out, float):
        parted = _slab(subjects[0], held_out)
    else:
        names = _names(subjects, held_out, seed)
        chosen = [subject for subject in subjects if subject.name in names]
        rest = [subject for subject in subjects if subject.name not in names]
        if not rest:
            raise UsageError(
                f"All {len(subjects)} subjects are held out: none is left to train on.",
                "name fewer in data.held_out.",
            )
        parted = Split(rest, chosen, f"whole subjects held out: {', '.join(sorted(names))}")
    _refuse_leaks(parted)
    return replace(parted, constant=constant)


def _names(subjects: Sequence[Subject], held_out: float | Sequence[str], seed: int) -> set[str]:
    known = [subject.name for subject in subjects]
    if isinstance(held_out, float):
        count = min(max(1, round(held_out * len(known))), len(known) - 1)
        return set(np.random.default_rng(seed).permutation(sorted(known))[:count].tolist())
    if not held_out:
        raise UsageError(
            "data.held_out is an empty list: nothing is left to measure on.",
            "name subjects, or give a share of them such as 0.15.",
        )
    names: set[str] = set()
    for wanted in held_out:
        matching = {name for name in known if name == wanted or fnmatch(name, wanted)}
        if not matching:
            raise UsageError(f"There is no subject {wanted!r} to hold out.", suggest(wanted, known))
        names |= matching
    return names


def _slab(subject: Subject, share: float) -> Split:
    """The last slices of a single subject, with a gap, because neighbours are nearly equal."""
    images, total = subject.images, len(subject.images)
    if total < _FEWEST:
        what = "one image" if total == 1 else f"{total} images of one subject"
        raise InputError(
            f"There is only {what}: too little to train on some and measure on others.",
            f"add subjects to data.paths, or at least {_FEWEST} slices of one.",
        )
    held, gap = math.ceil(share * total), max(1, round(0.05 * total))
    last = total - held - gap
    if last < 1:
        raise UsageError(
            f"data.held_out = {share:g} leaves no slice of {total} to train on.",
            "choose a smaller share.",
        )
    note = (
        f"there is one subject, {subject.name}: its last {held} of {total} slices are held out,"
        f" {gap} before them are unused; this flatters the prior, other subjects will differ more"
    )
    train, rest = images[:last], images[-held:]
    return Split([replace(subject, images=train)], [replace(subject, images=rest)], note)


def _refuse_leaks(parted: Split) -> None:
    """Refuse the same person or the same pixels among training and held-out images."""
    whose = {name: s.name for s in parted.train for name in s.identities}
    trained = {image.digest: image.source for s in parted.train for image in s.images}
    for subject in parted.held_out:
        same = [name for name in subject.identities & whose.keys() if whose[name] != subject.name]
        if same:
            raise InputError(
                f"The held-out subject {subject.name} and {whose[same[0]]}, which is trained on,"
                " are the same patient by what their files say.",
                "put the files of a patient into one folder, or group them with data.subject,"
                " because a prior looks better than it is when it is measured on a subject of its"
                " training; if anonymisation made all PatientIDs equal, set data.patient_id ="
                " false.",
            )
        for image in subject.images:
            if image.digest in trained:
                raise InputError(
                    f"The held-out image {image.source} is also trained on, as"
                    f" {trained[image.digest]}.",
                    "leave one of the two out of data.paths, or group them as one subject with"
                    " data.subject: a prior looks better than it is when it is measured on images"
                    " of its training.",
                )
