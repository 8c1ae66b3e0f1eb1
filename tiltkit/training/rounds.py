"""Training on measurements alone, in rounds: posterior samples, then a prior trained on them.

Expectation maximisation (Rozet et al., NeurIPS 2024, arXiv:2405.13712). A round draws one image
per slice from its posterior under the prior of the round before, and goes on learning from these
images as if they were clean. Each round raises the likelihood of the measured data, as far as
samples and network are exact. Frequencies that one scan lacks are learned from others.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from tiltkit.errors import UsageError
from tiltkit.io.atomic import part_path, publish
from tiltkit.priors.denoiser import NetworkOptions, prior_of
from tiltkit.priors.weights import load_network, save_network
from tiltkit.training.checkpoint import refuse_changes
from tiltkit.training.images import Image, Subject
from tiltkit.training.job import Job, prepare
from tiltkit.training.learner import new_network
from tiltkit.training.loop import Checked, Stepped, Stopped, learn
from tiltkit.training.scans import Parts, Slice, draws, parts_of, slices_of

if TYPE_CHECKING:
    import torch

    from tiltkit.protocols import Prior
    from tiltkit.training.recipe import ScansOptions, TrainRecipe

__all__ = ["Drawn", "check_folder", "earlier_rounds", "folder_of", "plan"]


@dataclass(frozen=True, slots=True)
class Drawn:
    """Progress of drawing: ``images`` of the ``total`` of a round are drawn."""

    round: int
    rounds: int
    images: int
    total: int


def plan(recipe: TrainRecipe) -> dict[str, str]:
    """Facts about a training by their names, for display; every scan is opened and checked."""
    facts = _blank_job(recipe, slices_of(recipe, parts_of(_scans(recipe)))).facts()
    return {name: text for name, text in facts.items() if name != "root mean square"}


def folder_of(output: Path) -> Path:
    """Folder of images and priors of the rounds until the training is done."""
    return output.with_name(f"{output.name}.rounds")


def check_folder(output: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse to lose the rounds of a training that was stopped."""
    folder = folder_of(output)
    if folder.exists() and not (resume or overwrite):
        raise UsageError(
            f"{folder} holds the rounds of a training that was stopped.",
            "use --resume to go on with it, or --overwrite to start again.",
        )


def earlier_rounds(
    recipe: TrainRecipe,
    devices: Sequence[torch.device],
    *,
    resume: bool,
    stop: Callable[[], bool],
) -> Generator[Drawn | Stepped | Checked | Stopped, None, Job | None]:
    """All rounds but the last, of which the images are drawn.

    Returns:
        The job of the last round; None when it was stopped.
    """
    scans, folder = _scans(recipe), folder_of(Path(recipe.output))
    parts = parts_of(scans)
    slices = slices_of(recipe, parts)
    _keep_settings(folder, recipe, slices, resume=resume)
    for k in range(scans.rounds):
        if _prior(folder, k + 1).exists():
            continue
        done = yield from _draw(folder / str(k), slices, parts, recipe, k, devices[0], stop)
        if not done:
            yield Stopped(0, folder)
            return None
        job = _job(folder, recipe, slices, k)
        if k == scans.rounds - 1:
            return job
        trained = yield from learn(job, devices, resume=resume, stop=stop)
        if trained.why == "stopped":
            yield Stopped(trained.record.step, folder)
            return None
        net = new_network(job.recipe, job.sigma_data, job.sigma_range)
        net.load_state_dict(dict(trained.best))
        part = part_path(_prior(folder, k + 1))
        save_network(part, net, {})
        publish(part, _prior(folder, k + 1))
        shutil.rmtree(folder / str(k))
    raise AssertionError("a recipe has at least one round")


def _draw(
    folder: Path,
    slices: Sequence[Slice],
    parts: Parts,
    recipe: TrainRecipe,
    k: int,
    device: torch.device,
    stop: Callable[[], bool],
) -> Generator[Drawn, None, bool]:
    """The images of a round into a folder; those that are there already are kept."""
    folder.mkdir(exist_ok=True)
    there = [i for i in range(len(slices)) if _image(folder, i).exists()]
    prior = _prior_of(folder.parent, parts, recipe, k).to(device)
    found = draws(slices, there, parts, prior, (recipe.seed, k), device)
    for count, (i, image) in enumerate(found, len(there) + 1):
        part = part_path(_image(folder, i))
        with part.open("wb") as file:
            np.save(file, image)
        publish(part, _image(folder, i))
        yield Drawn(k + 1, _scans(recipe).rounds, count, len(slices))
        if stop():
            return False
    return True


def _job(folder: Path, recipe: TrainRecipe, slices: Sequence[Slice], k: int) -> Job:
    """The training of a round: its images, its share of the budget, the weights so far."""
    rounds, training = _scans(recipe).rounds, recipe.training
    share = training.model_copy(update={
        "steps": training.steps and training.steps // rounds,
        "minutes": training.minutes and training.minutes / rounds,
        "checks": max(1, training.checks // rounds),
    })  # fmt: skip
    changes: dict[str, Any] = {"training": share}
    if k > 0:
        start = {"start": str(_prior(folder, k))}
        changes["network"] = recipe.network.model_copy(update=start)
    if k < rounds - 1:
        changes["output"] = str(folder / str(k) / "state")
    images = [np.load(_image(folder / str(k), i)) for i in range(len(slices))]
    return prepare(recipe.model_copy(update=changes), _subjects(slices, images), k)


def _subjects(slices: Sequence[Slice], images: Sequence[np.ndarray[Any, Any]]) -> list[Subject]:
    subjects: dict[str, Subject] = {}
    for one, values in zip(slices, images, strict=True):
        subject = subjects.setdefault(one.subject, Subject(one.subject, []))
        subject.images.append(Image(values, 0.0, one.source, one.digest))
        subjects[one.subject] = replace(
            subject, identities=subject.identities | ({one.identity} - {""})
        )
    return list(subjects.values())


def _prior_of(folder: Path, parts: Parts, recipe: TrainRecipe, k: int) -> Prior:
    if k == 0:
        return parts.first
    net, notes = load_network(_prior(folder, k))
    options = NetworkOptions(precision=recipe.training.precision)
    return cast("Prior", prior_of(net, notes, options))


def _keep_settings(
    folder: Path, recipe: TrainRecipe, slices: Sequence[Slice], *, resume: bool
) -> None:
    """Begin a folder, or refuse to go on with other settings or scans than it was begun with."""
    settings = _blank_job(recipe, slices).settings()
    path = folder / "settings.json"
    if resume and path.exists():
        refuse_changes(folder, json.loads(path.read_text()), settings)
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    path.write_text(json.dumps(settings))


def _blank_job(recipe: TrainRecipe, slices: Sequence[Slice]) -> Job:
    """The training with blank images, to check settings before any image is drawn."""
    return prepare(recipe, _subjects(slices, [np.full(s.shape, 0.1, np.float32) for s in slices]))


def _image(folder: Path, number: int) -> Path:
    return folder / f"{number:05}.npy"


def _prior(folder: Path, k: int) -> Path:
    """The prior that round ``k`` (from 0) begins with."""
    return folder / f"{k}.safetensors"


def _scans(recipe: TrainRecipe) -> ScansOptions:
    assert recipe.scans is not None  # noqa: S101 - asked only where there are scans
    return recipe.scans
