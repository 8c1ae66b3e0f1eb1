"""From a recipe to a prior: check, train, measure, write. The only place where the parts meet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from tiltkit.errors import UsageError
from tiltkit.files.atomic import check_output, part_path
from tiltkit.solve import pick_devices
from tiltkit.training.exam import best_tv
from tiltkit.training.finish import Finished, finish
from tiltkit.training.group import Group, together
from tiltkit.training.job import Job, prepare
from tiltkit.training.loop import Checked, Stepped, Trained, fit
from tiltkit.training.recipe import TrainRecipe

__all__ = ["Finished", "Prepared", "Stopped", "train"]


@dataclass(frozen=True, slots=True)
class Prepared:
    """All images are read and checked; total variation and noise are measured."""

    facts: dict[str, str]
    levels: tuple[float, ...]
    tv: tuple[float, ...]
    noise_only: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Stopped:
    """Someone said stop; the state is in the file."""

    step: int
    state: Path


Event = Prepared | Stepped | Checked | Stopped | Finished


def train(
    recipe: TrainRecipe,
    *,
    resume: bool = False,
    overwrite: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Event]:
    """Train a prior; everything that can be refused is refused before the first step.

    Args:
        recipe: All settings.
        resume: Go on with a training that was stopped, where there is one.
        overwrite: Replace what is there.
        stop: Asked at every step; True saves the state and ends.
    """
    output = Path(recipe.output)
    check_output(output, overwrite=overwrite, resume=resume)
    for suffix in (".md", ".html"):
        check_output(output.with_suffix(suffix), overwrite=overwrite or resume, resume=True)
    devices = pick_devices(recipe.device)
    if recipe.training.batch % len(devices):
        raise UsageError(
            f"training.batch = {recipe.training.batch} cannot be shared by {len(devices)} devices.",
            f"make it a multiple of {len(devices)}.",
        )
    job = prepare(recipe)
    exam = job.exam()
    tv, noise_only = best_tv(exam), exam.psnr(lambda x, _: x, torch.device("cpu"))
    yield Prepared(job.facts(), exam.levels, tv, noise_only)
    trained = None
    with together(devices, partial(follow, job, resume)) as group:
        for event in fit(job, group, resume=resume, stop=stop):
            if isinstance(event, Trained):
                trained = event
            else:
                yield event
    assert trained is not None  # noqa: S101 - fit ends with it
    if trained.why == "stopped":
        yield Stopped(trained.record.step, part_path(output))
        return
    yield finish(job, exam, trained, (tv, noise_only), devices)


def follow(job: Job, resume: bool, group: Group) -> None:
    """What the processes of further devices do: the same, in step with the first one."""
    for _ in fit(job, group, resume=resume):
        pass
