"""A run: from a recipe and an input file to a result, slice by slice."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tiltkit.config import split_table
from tiltkit.errors import InputError, UsageError, known_error, known_errors
from tiltkit.io.atomic import checkpoint_path, clear_checkpoints, is_complete
from tiltkit.io.nexus import outline
from tiltkit.io.opening import swmr_reading
from tiltkit.io.reading import read_slice_diagnostics
from tiltkit.io.result import ResultWriter, check_output
from tiltkit.io.resume import same_run
from tiltkit.io.source import Stamp, check_unchanged, watched
from tiltkit.io.stored import StoredInMemory
from tiltkit.operators.memory import run_memory
from tiltkit.recon.calibrated import use_calibration
from tiltkit.recon.provenance import provenance
from tiltkit.recon.recipe import resolve
from tiltkit.recon.selection import choose_slices, select_slices
from tiltkit.recon.slice import Parts, Sink, sample_slice
from tiltkit.recon.solve import LevelDone, cpu_threads
from tiltkit.recon.summary import summarize
from tiltkit.sampling.run import pick_devices

if TYPE_CHECKING:
    from tiltkit.config import Recipe
    from tiltkit.plugins import Plugins
    from tiltkit.problem import Scan, Task
    from tiltkit.protocols import Layout, Prior
    from tiltkit.sampling.state import Sampler

__all__ = [
    "Event", "Job", "LevelDone", "ScanDone", "SliceDone", "SliceStarted", "choose_devices",
    "make_parts", "open_job", "open_scan", "run_in_memory", "run_scan",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class SliceStarted:
    """A slice begins: its index in the input, its position among the slices to do, their number."""

    index: int
    position: int
    total: int


@dataclass(frozen=True, slots=True)
class SliceDone:
    """A slice is stored in the result."""

    index: int
    diagnostics: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ScanDone:
    """The result is complete.

    Attributes:
        output: Result file; None for a result in memory.
        summary: Figures of the result, as `tiltkit.recon.summary.summarize` returns them.
        sampled: True if this call sampled it, false if it was complete before.
    """

    output: Path | None
    summary: Mapping[str, Any]
    sampled: bool


Event = SliceStarted | LevelDone | SliceDone | ScanDone


def run_scan(
    recipe: Recipe,
    plugins: Plugins,
    source: Path,
    output: Path,
    *,
    resume: bool,
    overwrite: bool,
    command: str,
    accept: Callable[[Path], None] | None = None,
) -> Generator[Event, None, None]:
    """Sample every chosen slice of a file into a result file, slice by slice.

    Closing the generator keeps the finished slices in ``OUTPUT.part`` for ``resume``, and unlocks
    that file. Use ``contextlib.closing`` for a loop that may end early::

        with closing(run_scan(...)) as events:
            for event in events:
                ...

    If the result is complete already, `ScanDone` is the only event.

    Args:
        recipe: The settings; those that are not set take the defaults of its quality.
        plugins: The plugins.
        source: The input file.
        output: The result file.
        resume: Continue a run that was stopped.
        overwrite: Replace an existing result.
        command: Command line, for the provenance.
        accept: Called before sampling with the path of a result without finished slices, see
            `tiltkit.io.nexus.outline`. Its errors end the run.

    Raises:
        TiltkitError: The run failed; the kind of the error has the cause.
    """
    start = time.perf_counter()
    recipe = resolve(recipe.model_dump(), plugins)
    complete = resume and is_complete(output)
    check_output(output, overwrite=overwrite or complete, resume=resume, keep=[source])
    with open_job(recipe, plugins, source, command, checkpoint_path(output)) as job:
        settings = recipe.model_dump()
        if complete:
            complete = same_run(
                output, job.layout.shape, settings, job.origin, refuse=not overwrite
            )
        if not complete:
            if accept is not None:
                with outline(output.name, job.layout, settings, job.origin) as empty:
                    accept(empty)
            writer = ResultWriter.open(
                output, layout=job.layout, samples=recipe.samples, recipe=settings,
                provenance=job.origin, resume=resume, overwrite=overwrite,
            )  # fmt: skip
            yield from _sample_into_file(job, writer)
    reports = [read_slice_diagnostics(output, i) for i in range(len(job.chosen))]
    summary = summarize(reports, recipe.samples, time.perf_counter() - start)
    yield ScanDone(output, summary, sampled=not complete)


def run_in_memory(
    recipe: Recipe, plugins: Plugins, source: Path, *, command: str
) -> Generator[Event, None, StoredInMemory]:
    """Sample every chosen slice of a file into arrays; the generator returns them.

    Nothing is written, so a stopped run cannot be continued. Arguments and errors are those of
    `run_scan`.
    """
    start = time.perf_counter()
    recipe = resolve(recipe.model_dump(), plugins)
    with open_job(recipe, plugins, source, command, None) as job:
        result = StoredInMemory.empty(job.layout, recipe.samples, recipe.model_dump(), job.origin)
        yield from _sample_slices(job, result)
        job.check()
    reports = [result.diagnostics(i) for i in range(len(job.chosen))]
    summary = summarize(reports, recipe.samples, time.perf_counter() - start)
    yield ScanDone(None, summary, sampled=True)
    return result


@dataclass(frozen=True, slots=True)
class Job:
    """An open input, with everything that its slices have in common.

    Attributes:
        parts: Scan, prior, sampler and settings.
        chosen: Indices of the slices to do, in the input.
        layout: Axes of the result.
        origin: Provenance of the result.
        check: Raises an error if the input has changed since it was opened.
    """

    parts: Parts
    chosen: Sequence[int]
    layout: Layout
    origin: Mapping[str, Any]
    check: Callable[[], None]


@contextmanager
def open_job(
    recipe: Recipe,
    plugins: Plugins,
    source: Path,
    command: str,
    checkpoint: Path | None,
    choose: Callable[[str | None, Layout, Path], list[int]] = choose_slices,
) -> Iterator[Job]:
    """Open an input for a resolved recipe.

    Args:
        recipe: The settings.
        plugins: The plugins.
        source: The input file.
        command: Command line, for the provenance.
        checkpoint: File for the state of the current slice; None for no checkpoints.
        choose: Indices of slices, from the recipe's list, the layout and the input file.
    """
    with ExitStack() as stack:
        stack.enter_context(cpu_threads(recipe.threads))
        devices = choose_devices(recipe)
        task, priors, sampler = make_parts(recipe, plugins, devices)
        stack.enter_context(known_errors())
        before = stack.enter_context(watched(source))
        scan = stack.enter_context(open_scan(task, source, recipe))
        before = Stamp() if recipe.swmr else before  # it may change
        chosen = choose(recipe.slices, scan.layout, source)
        origin = provenance(source, chosen, plugins, recipe, command)
        check_unchanged(source, before)
        label = plugins.owner("task", recipe.task["name"]).label
        calibrated = use_calibration(recipe, origin["weights_sha256"])
        if calibrated:
            origin["calibration"] = calibrated.citation(origin["raw_sha256"])
        parts = Parts(scan, priors, sampler, devices, recipe, checkpoint, label, calibrated)
        check = partial(check_unchanged, source, before, origin["raw_sha256"])
        layout = select_slices(scan.layout, chosen)
        if recipe.baseline_only:
            layout = replace(layout, title=f"{layout.title} (without a prior)".lstrip())
        yield Job(parts, chosen, layout, origin, check)


def _sample_into_file(job: Job, writer: ResultWriter) -> Iterator[Event]:
    """Sample into a file, and rename it at the end if the input has not changed."""
    # Checkpoints go first: the writer keeps an unfinished file that has one beside it.
    with writer, _cleared_on_error(writer.path):
        for event in _sample_slices(job, writer):
            if isinstance(event, SliceDone):
                clear_checkpoints(writer.path)
            yield event
        try:
            job.check()
        except InputError:
            writer.discard()
            raise
        writer.finish()


def _sample_slices(job: Job, sink: Sink) -> Iterator[Event]:
    """Sample the slices that are not finished."""
    todo = [i for i in range(len(job.chosen)) if i not in sink.finished]
    for position, i in enumerate(todo):
        index = job.chosen[i]
        yield SliceStarted(index, position, len(todo))
        for step in sample_slice(job.parts, index, i, sink):
            yield step if isinstance(step, LevelDone) else SliceDone(index, step)


@contextmanager
def _cleared_on_error(output: Path) -> Iterator[None]:
    """Remove checkpoints after an error; those of a transient error are kept."""
    try:
        yield
    except Exception as error:
        known = known_error(error)
        if not (known and known.transient):
            clear_checkpoints(output)
        raise


@contextmanager
def open_scan(task: Task, source: Path, recipe: Recipe) -> Iterator[Scan]:
    """Open a scan with its task, in SWMR mode and with the memory that the recipe has."""
    with ExitStack() as stack:
        with swmr_reading(recipe.swmr), run_memory(recipe.memory_gb):
            scan = stack.enter_context(task.open(source))
        yield scan


def choose_devices(recipe: Recipe) -> list[torch.device]:
    """Choose the devices for the runs.

    Raises:
        UsageError: No such device, or more devices than independent runs.
    """
    devices = pick_devices(recipe.device)
    if len(devices) > recipe.runs:
        raise UsageError(
            f"There are {len(devices)} devices, but only {recipe.runs} independent runs.",
            f"add --runs {len(devices)}, or name fewer devices.",
        )
    return devices


@known_errors()
def make_parts(
    recipe: Recipe, plugins: Plugins, devices: Sequence[torch.device]
) -> tuple[Task, list[Prior], Sampler]:
    """Create task, sampler, and one prior per device."""
    task = plugins.create("task", *split_table(recipe.task))
    priors = [plugins.create("prior", *split_table(recipe.prior)).to(device) for device in devices]
    sampler = plugins.create("sampler", *split_table(recipe.sampler))
    return task, priors, sampler
