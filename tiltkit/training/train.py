"""From a recipe to a prior: check, train, measure, write."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from tiltkit.errors import UsageError
from tiltkit.io.atomic import check_output, part_path
from tiltkit.sampling.run import pick_devices
from tiltkit.training.finish import Finished, finish
from tiltkit.training.job import Job, prepare
from tiltkit.training.loop import Checked, Stepped, Stopped, learn
from tiltkit.training.recipe import TrainRecipe
from tiltkit.training.rounds import Drawn, check_folder, earlier_rounds, folder_of, plan
from tiltkit.training.validation import best_tv

__all__ = ["Drawn", "Finished", "Prepared", "Stopped", "check", "train"]


@dataclass(frozen=True, slots=True)
class Prepared:
    """All images are read and checked; total variation and noise are measured."""

    facts: dict[str, str]
    levels: tuple[float, ...]
    tv: tuple[float, ...]
    noise_only: tuple[float, ...]


Event = Prepared | Drawn | Stepped | Checked | Stopped | Finished


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
        stop: Called at every step; true saves the state and ends.
    """
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    output = Path(recipe.output)
    check_output(output, overwrite=overwrite, resume=resume)
    # A training that was stopped while it wrote its files replaces them.
    goes_on = resume and (part_path(output).exists() or folder_of(output).exists())
    for suffix in (".md", ".html"):
        check_output(output.with_suffix(suffix), overwrite=overwrite or goes_on, resume=True)
    devices = pick_devices(recipe.device)
    if recipe.training.batch % len(devices):
        raise UsageError(
            f"training.batch = {recipe.training.batch} cannot be shared by {len(devices)} devices.",
            f"make it a multiple of {len(devices)}.",
        )
    job: Job | None
    if recipe.scans:
        check_folder(output, resume=resume, overwrite=overwrite)
        job = yield from earlier_rounds(recipe, devices, resume=resume, stop=stop)
        if job is None:
            return
    else:
        job = prepare(recipe)
    validation = job.validation()
    tv, noise_only = best_tv(validation), validation.psnr(lambda x, _: x, torch.device("cpu"))
    yield Prepared(job.facts(), validation.levels, tv, noise_only)
    trained = yield from learn(job, devices, resume=resume, stop=stop)
    if trained.why == "stopped":
        yield Stopped(trained.record.step, part_path(output))
        return
    finished = finish(replace(job, recipe=recipe), validation, trained, (tv, noise_only), devices)
    # before the last event, after which the caller may stop iterating
    shutil.rmtree(folder_of(output), ignore_errors=True)
    yield finished


def check(recipe: TrainRecipe) -> dict[str, str]:
    """Read and check all images or scans; facts about the training, for display."""
    facts = plan(recipe) if recipe.scans else prepare(recipe).facts()
    return facts | {"CPU threads": str(torch.get_num_threads())}
