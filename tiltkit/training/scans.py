"""Scans to train on: their slices, and one posterior sample of each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from tiltkit.config import split_table
from tiltkit.errors import InputError, UsageError
from tiltkit.likelihoods import linear_gaussian
from tiltkit.plugins import load_plugins
from tiltkit.sampling.run import Group
from tiltkit.sampling.target import Target
from tiltkit.training.subjects import find_subjects

if TYPE_CHECKING:
    from tiltkit.problem import Problem, Task
    from tiltkit.protocols import Prior
    from tiltkit.sampling.state import Sampler
    from tiltkit.training.recipe import ScansOptions, TrainRecipe

__all__ = ["Parts", "Slice", "draw", "draws", "parts_of", "slices_of"]

_CPU = torch.device("cpu")
# Largest root mean square of an image whose bright pixels are about 1, with a wide margin.
_LARGEST = 3.0


@dataclass(frozen=True, slots=True)
class Slice:
    """A measured slice.

    Attributes:
        subject: Name of the subject.
        path: The scan.
        index: Number of the slice in the scan.
        shape: Shape of its image (channel, row, column).
        digest: Digest of the data.
        identity: Patient ID in the file; empty where there is none.
    """

    subject: str
    path: Path
    index: int
    shape: tuple[int, int, int]
    digest: str
    identity: str

    @property
    def source(self) -> str:
        """File and slice, for messages."""
        return f"{self.path}, slice {self.index}"


@dataclass(frozen=True, slots=True)
class Parts:
    """Parts that draw images: the task, the prior of the first round, the sampler."""

    task: Task
    first: Prior
    sampler: Sampler


def parts_of(scans: ScansOptions) -> Parts:
    """The parts that a recipe names, from their plugins."""
    plugins = load_plugins()
    name, options = split_table(scans.sampler)
    draft: Mapping[str, Any] = getattr(plugins.load("sampler", name), "presets", {}).get(
        "draft", {}
    )
    return Parts(
        plugins.create("task", *split_table(scans.task)),
        plugins.create("prior", *split_table(scans.first)),
        plugins.create("sampler", name, {**draft, **options}),
    )


def slices_of(recipe: TrainRecipe, parts: Parts) -> list[Slice]:
    """All slices of all scans, each one opened and checked as ``tiltkit run`` does.

    Raises:
        InputError: A scan that the task cannot use.
        UsageError: Images that the recipe has no network for, or noise that is not Gaussian.
    """
    found = find_subjects(recipe.data)
    return [
        one
        for subject, volumes in found.items()
        for paths in volumes
        for one in _slices(subject, paths[0], recipe, parts)
    ]


def _slices(subject: str, path: Path, recipe: TrainRecipe, parts: Parts) -> Iterator[Slice]:
    with parts.task.open(path) as scan:
        metadata = scan.layout.metadata if recipe.data.patient_id else {}
        for index in range(scan.layout.shape[0]):
            problem = scan.problem(index, parts.first, _CPU)
            yield Slice(
                subject=subject,
                path=path,
                index=index,
                shape=_shape(problem, recipe, f"{path}, slice {index}"),
                digest=_digest(problem, recipe),
                identity=str(metadata.get("patient_id", "")),
            )


def _shape(problem: Problem, recipe: TrainRecipe, source: str) -> tuple[int, int, int]:
    """Shape of an image; refuses one that the network cannot be trained on."""
    if len(problem.shape) != 3:
        raise InputError(
            f"{source} is of {len(problem.shape) - 1} dimensions, but networks need two.",
            "leave that scan out of data.paths.",
        )
    channels, height, width = problem.shape
    if channels != recipe.channels:
        raise UsageError(
            f"{source} has images of {channels} channels, the network has {recipe.channels}.",
            "set data.kind = 'complex' for two channels (re, im), else data.channels.",
        )
    if min(height, width) < recipe.training.crop:
        raise InputError(
            f"{source} is {height} x {width} pixels, smaller than a crop of"
            f" {recipe.training.crop}.",
            f"set training.crop to at most {min(height, width)}, or leave that scan out.",
        )
    return channels, height, width


def _digest(problem: Problem, recipe: TrainRecipe) -> str:
    linear = linear_gaussian(problem.likelihood)
    if linear is None:
        raise UsageError(
            f"The noise of these scans is not Gaussian: {type(problem.likelihood).__name__}.",
            f"choose another likelihood in [scans.task] of {recipe.scans and recipe.scans.task}.",
        )
    y = linear.y.numpy()
    return hashlib.sha256(y.tobytes() + str(y.shape).encode()).hexdigest()


def draws(
    slices: Sequence[Slice],
    skip: Sequence[int],
    parts: Parts,
    prior: Prior,
    seed: tuple[int, int],
    device: torch.device,
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """One image (channel, row, column) for each slice, drawn from its posterior.

    Args:
        slices: All slices.
        skip: Numbers of the slices to leave out.
        parts: Task and sampler.
        prior: The prior, on the device.
        seed: Seed of the round; the slice number is added, so that no image depends on the others.
        device: Device to compute on.

    Yields:
        The number of a slice, and its image in the units of the prior.
    """
    wanted = [k for k in range(len(slices)) if k not in set(skip)]
    for path, numbers in groupby(wanted, lambda k: slices[k].path):
        with parts.task.open(path) as scan:
            for k in numbers:
                problem = scan.problem(slices[k].index, prior, device)
                image = draw(problem, parts.sampler, (*seed, k), device)
                _refuse_diverged(image, slices[k].source)
                yield k, image


def _refuse_diverged(image: NDArray[np.float32], source: str) -> None:
    size = float(np.sqrt(np.square(image, dtype=np.float64).mean()))
    if not size < _LARGEST:
        raise UsageError(
            f"The image drawn for {source} has a root mean square of {size:.3g}, where bright is"
            " 1: the sampler diverged.",
            "set scans.first to a prior that is a posterior mean, such as gaussian, or"
            " scans.sampler to walmc.",
        )


def draw(
    problem: Problem, sampler: Sampler, seed: tuple[int, ...], device: torch.device
) -> NDArray[np.float32]:
    """One image (channel, row, column), denoised by the prior from the sampler's last level."""
    target = Target(problem, 1, 1, device)
    group = Group(target, sampler, seed, None)
    with torch.inference_mode():
        for _ in group.levels():
            pass
        x = group.particles()
        level = group.progress.infos[-1].noise_level
        denoised = x + level**2 * problem.prior.score(x, level)
        clean = target.finish(target.constrain_images(denoised))
    image: NDArray[np.float32] = clean[0].float().cpu().numpy()
    return image
