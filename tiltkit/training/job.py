"""A training that is ready to start: checked images, held-out subjects, range of the network."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from tiltkit.errors import UsageError
from tiltkit.training.batches import Batches
from tiltkit.training.images import Image, Subject, load_subjects
from tiltkit.training.recipe import TrainRecipe
from tiltkit.training.split import Split, split
from tiltkit.training.validation import ValidationSet

__all__ = ["Job", "prepare"]

# Smallest noise level of a training on noisy images, as a multiple of their own noise.
_ABOVE_NOISE = 1.25
# Smallest and largest root mean square of images that are scaled correctly, with a margin.
_SIZES = (0.01, 3.0)

# What may change when a training goes on; where the images lie shows in their digest.
_FREE = {
    "save_minutes", "workers", "patience", "paths", "dataset", "axis", "channel_axis", "subject",
    "patient_id", "held_out", "title", "licence",
}  # fmt: skip


@dataclass(frozen=True)
class Job:
    """A training before its first step.

    Attributes:
        recipe: All settings.
        split: Subjects to train on and to measure on.
        sigma_range: Noise levels that the network learns.
        sigma_data: Root mean square of the images per channel.
        round: Number of the round among `ScansOptions.rounds`; each draws other crops and noise.
    """

    recipe: TrainRecipe
    split: Split
    sigma_range: tuple[float, float]
    sigma_data: float
    round: int = 0

    @property
    def output(self) -> Path:
        """Path of the weights."""
        return Path(self.recipe.output)

    @property
    def images(self) -> list[Image]:
        """All images to train on."""
        return images_of(self.split.train)

    @property
    def held_out(self) -> list[Image]:
        """All images to measure on."""
        return images_of(self.split.held_out)

    def batches(self, rank: int, ranks: int) -> Batches:
        """Batches of the steps."""
        training = self.recipe.training
        return Batches(
            self.images, training.crop, training.batch, self.recipe.data.augment,
            self.sigma_range, self.sigma_data, self.recipe.seed, self.recipe.data.bright,
            self.round, rank, ranks,
        )  # fmt: skip

    def validation(self) -> ValidationSet:
        """Held-out images that the network is measured on."""
        return ValidationSet.of(
            self.held_out,
            self.sigma_range,
            is_complex=self.recipe.data.kind == "complex",
            seed=self.recipe.seed,
        )

    def settings(self) -> dict[str, Any]:
        """Settings and the digest of the images that may not change when a training goes on."""
        recipe = self.recipe.model_dump(mode="json")
        flat = {
            f"{table}.{name}": value
            for table in ("data", "scans", "network", "training")
            for name, value in (recipe[table] or {}).items()
            if name not in _FREE
        }
        digests = [sorted(x.digest for x in side) for side in (self.images, self.held_out)]
        pixels = hashlib.sha256(repr(digests).encode()).hexdigest()
        return flat | {"seed": recipe["seed"], "the images (their digest)": pixels[:16]}

    def facts(self) -> dict[str, str]:
        """Facts about images and settings by their names, for display."""
        data, training = self.recipe.data, self.recipe.training
        constant = self.split.constant
        budget = f"{training.steps} steps" if training.steps else f"{training.minutes:g} minutes"
        return {
            "trained on": _count(self.split.train),
            "held out": _count(self.split.held_out),
            "how": self.split.note,
            **self._drawn(),
            **({"left out": f"{_number(constant, 'slice')}, all pixels equal"} if constant else {}),
            "image": f"{_sizes(self.images)} pixels, {self.recipe.channels} channels, {data.kind}",
            "root mean square": f"{self.sigma_data:.3g} of the brightest, per channel",
            "noise levels": f"{self.sigma_range[0]:.3g} to {self.sigma_range[1]:.3g}",
            "augmentation": data.augment,
            "budget": f"{budget}, {training.batch} crops of {training.crop} pixels per step",
        }

    def _drawn(self) -> dict[str, str]:
        scans = self.recipe.scans
        if scans is None:
            return {}
        return {
            "images": f"drawn from the posteriors of {scans.task['name']}, one per slice and round",
            "rounds": f"{scans.rounds}, the first with the prior {scans.first['name']}",
        }


def prepare(recipe: TrainRecipe, subjects: Sequence[Subject] | None = None, round_: int = 0) -> Job:
    """Read and check everything that a training needs, before it starts.

    Args:
        recipe: All settings.
        subjects: The images, where they are not read from files.
        round_: See `Job`.

    Raises:
        InputError: Images that cannot be trained on.
        UsageError: Settings that do not fit them.
    """
    if subjects is None:
        subjects = load_subjects(recipe.data, recipe.training.crop)
    parted = split(subjects, recipe.data.held_out, recipe.seed)
    images = images_of(parted.train)
    squares = [float(np.square(x.values, dtype=np.float64).mean()) - x.noise**2 for x in images]
    sigma_data = math.sqrt(max(sum(squares) / len(squares), 1e-8))
    low, high = recipe.network.sigma_min, recipe.network.sigma_max
    noise = max(x.noise for x in chain(images, images_of(parted.held_out)))
    low = max(low, _ABOVE_NOISE * noise)
    if low >= high:
        raise UsageError(
            f"data.noise = {recipe.data.noise:g} is {noise:.3g} of the brightest pixels, too close"
            f" to network.sigma_max, {high:g}.",
            "give it in the units of the files; raise network.sigma_max if it is right.",
        )
    if not _SIZES[0] <= sigma_data <= _SIZES[1]:
        raise UsageError(
            f"data.scale = {recipe.data.scale!r} gives images whose values are {sigma_data:.3g},"
            " by their root mean square.",
            "choose it so that bright pixels are about 1, or leave it out.",
        )
    return Job(recipe, parted, (low, high), sigma_data, round_)


def images_of(subjects: Sequence[Subject]) -> list[Image]:
    """All images of some subjects."""
    return [image for subject in subjects for image in subject.images]


def _count(subjects: Sequence[Subject]) -> str:
    return f"{_number(len(images_of(subjects)), 'image')} of {_number(len(subjects), 'subject')}"


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def _sizes(images: Sequence[Image]) -> str:
    sizes = sorted({x.values.shape[-2:] for x in images})
    first, last = (f"{h} x {w}" for h, w in (sizes[0], sizes[-1]))
    return first if first == last else f"{first} to {last}"
