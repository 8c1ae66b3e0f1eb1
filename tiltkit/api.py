"""The Python door: reconstruct a scan, sample an own problem, load a result."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from tiltkit.config import as_table, validate, with_value
from tiltkit.errors import UsageError
from tiltkit.io.calibration import load_calibration
from tiltkit.io.stored import StoredInFile, StoredInMemory
from tiltkit.likelihoods import linear_gaussian
from tiltkit.plugins import load_plugins
from tiltkit.posterior.outcome import Outcome
from tiltkit.protocols import Axis, Layout
from tiltkit.recon.calibrate import CalibrationDone, Chosen, calibrate_scan
from tiltkit.recon.provenance import software
from tiltkit.recon.recipe import DEFAULT_SAMPLER, resolve
from tiltkit.recon.result import Result
from tiltkit.recon.scan import Event, SliceStarted, run_in_memory, run_scan
from tiltkit.recon.solve import DEFAULT_MEMORY_GB, cpu_threads, solve

if TYPE_CHECKING:
    from tiltkit.calibration.record import Calibration
    from tiltkit.config import Recipe
    from tiltkit.plugins import Plugins
    from tiltkit.problem import Problem
    from tiltkit.sampling.state import Sampler

__all__ = ["calibrate", "load_calibration", "load_result", "reconstruct", "sample"]

T = TypeVar("T")
Show = Callable[[Event], object]


def reconstruct(
    task: str | Mapping[str, Any],
    source: str | Path,
    *,
    output: str | Path | None = None,
    prior: str | Mapping[str, Any] | None = None,
    sampler: str | Mapping[str, Any] | None = None,
    quality: str | None = None,
    samples: int | None = None,
    runs: int | None = None,
    seed: int | None = None,
    slices: str | int | Sequence[int] | None = None,
    device: str | torch.device | None = None,
    memory_gb: float | None = None,
    threads: int | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: bool | Show = False,
    resume: bool = False,
    overwrite: bool = False,
    plugins: Plugins | None = None,
) -> Result:
    """Sample the posterior of a scan, as ``tiltkit run`` does.

    Args:
        task: Name of the task, such as ``"mri-recon"``, or its options with the name:
            ``{"name": "ct-recon", "axis": 296}``.
        source: The input file.
        output: Result file to write slice by slice. By default nothing is written: the result is
            in memory.
        prior: Name of the prior, or its options with the name; that of the task when None.
        sampler: Name of the sampler, or its options with the name.
        quality: ``"draft"``, ``"standard"`` or ``"high"``: the budget of the sampler.
        samples: Posterior samples per slice.
        runs: Independent runs that the samples are divided into; two or more give R-hat.
        seed: The same seed gives the same samples.
        slices: Slices to do: a number, numbers, or a text such as ``"0,3,5:9"``; all when None.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, or several as ``"cuda:0,cuda:1"``.
        memory_gb: Memory for samples handled side by side; what does not fit is done in tiles.
        threads: Threads of the CPU during the call; as many as torch uses otherwise when None.
        settings: Single settings by their keys: ``{"sampler.levels": 20, "task.crop": False}``.
        progress: True shows progress on standard error; a function is called with every event
            (`tiltkit.recon.scan.Event`).
        resume: Go on with a run into ``output`` that was stopped.
        overwrite: Replace an ``output`` that is there.
        plugins: From `tiltkit.load_plugins`; all that are installed when None.

    Raises:
        UsageError: A setting or name is wrong, or the output cannot be written.
        InputError: The scan is missing, damaged or cannot be used.
        TiltkitError: All other failures that a user can act on.
    """
    given = {
        "quality": quality, "samples": samples, "runs": runs, "seed": seed,
        "slices": _slices(slices), "device": None if device is None else str(device),
        "memory_gb": memory_gb, "threads": threads,
    }  # fmt: skip
    plugins, source = plugins or load_plugins(), Path(source)
    recipe = _recipe({"task": task, "prior": prior, "sampler": sampler}, settings, given, plugins)
    command = f"tiltkit.reconstruct({recipe.task['name']!r}, {str(source)!r}, ...)"
    if output is None:
        if resume or overwrite:
            raise UsageError("resume and overwrite need an output.", "name a file with output=.")
        in_memory = run_in_memory(recipe, plugins, source, command=command)
        with closing(in_memory), _shown(progress, source.name) as show:
            return Result(_last(in_memory, show))
    written = run_scan(
        recipe, plugins, source, Path(output),
        resume=resume, overwrite=overwrite, command=command,
    )  # fmt: skip
    with closing(written), _shown(progress, source.name) as show:
        _last(written, show)
    return load_result(output)


def calibrate(
    task: str | Mapping[str, Any],
    source: str | Path,
    *,
    output: str | Path | None = None,
    draws: int | None = None,
    images: str | Path | Sequence[str | Path] = (),
    image_units: Literal["prior", "scan"] = "prior",
    regions: str | Path | None = None,
    prior: str | Mapping[str, Any] | None = None,
    sampler: str | Mapping[str, Any] | None = None,
    quality: str | None = None,
    samples: int | None = None,
    seed: int | None = None,
    slices: str | int | Sequence[int] | None = None,
    device: str | torch.device | None = None,
    memory_gb: float | None = None,
    settings: Mapping[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    plugins: Plugins | None = None,
) -> Calibration:
    """Test the intervals of a scan with known images, as ``tiltkit calibrate`` does.

    Args:
        task: Name of the task, or its options with the name.
        source: The input file.
        output: Calibration file to write, draw by draw; None keeps all in memory.
        draws: Number of known images; 8, or all ``images``, when None.
        images: Files or folders of reference images; posterior samples of the scan when empty.
        image_units: ``prior`` scales reference images to the prior's range; ``scan`` takes values
            in the units of the result.
        regions: NumPy file with a whole number for each pixel; air, object and edges when None.
        prior: As for `reconstruct`, like all that follow.
        sampler: The sampler.
        quality: The budget of the sampler.
        samples: Posterior samples for each known image.
        seed: The same seed gives the same draws.
        slices: Slices that draws take in turn; the one nearest to the middle when None.
        device: Where to compute.
        memory_gb: Memory for samples handled side by side.
        settings: Single settings by their keys.
        resume: Go on with a calibration into ``output`` that was stopped.
        overwrite: Replace an ``output`` that is there.
        plugins: From `tiltkit.load_plugins`; all that are installed when None.

    Returns:
        The calibration; `Calibration.report` has the verdict and all figures.

    Raises:
        UsageError: A setting or name is wrong, or the output cannot be written.
        InputError: The scan or a reference image is missing, damaged or cannot be used.
        TiltkitError: All other failures that a user can act on.
    """
    given = {
        "quality": quality, "samples": samples, "seed": seed, "slices": _slices(slices),
        "device": None if device is None else str(device), "memory_gb": memory_gb,
    }  # fmt: skip
    plugins, source = plugins or load_plugins(), Path(source)
    recipe = _recipe({"task": task, "prior": prior, "sampler": sampler}, settings, given, plugins)
    files = [images] if isinstance(images, str | Path) else images
    chosen = Chosen(
        draws, tuple(map(Path, files)), image_units, None if regions is None else Path(regions)
    )
    command = f"tiltkit.calibrate({recipe.task['name']!r}, {str(source)!r}, ...)"
    events = calibrate_scan(
        recipe, plugins, source, None if output is None else Path(output), chosen,
        resume=resume, overwrite=overwrite, command=command,
    )  # fmt: skip
    with closing(events):
        *_, done = events
    assert isinstance(done, CalibrationDone)  # noqa: S101  (always the last event)
    return done.calibration


def _recipe(
    parts: Mapping[str, Any],
    settings: Mapping[str, Any] | None,
    given: Mapping[str, Any],
    plugins: Plugins,
) -> Recipe:
    """The resolved recipe of task, prior, sampler, settings by key, and arguments."""
    values = {name: as_table(part) for name, part in parts.items() if part is not None}
    for key, value in {**(settings or {}), **_without_none(given)}.items():
        values = with_value(values, key, _python(value))
    return resolve(values, plugins)


class _Numbers(BaseModel):
    """Numbers that `sample` takes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    n: int = Field(ge=1, le=100_000, description="posterior samples")
    seed: int = Field(ge=0, lt=2**63, description="the same seed gives the same samples")
    runs: int = Field(ge=1, le=1000, description="independent runs that share the samples")
    memory_gb: float = Field(
        gt=0, allow_inf_nan=False, description="memory for samples handled side by side"
    )


def sample(
    problem: Problem,
    *,
    sampler: str | Sampler = DEFAULT_SAMPLER,
    options: Mapping[str, Any] | None = None,
    n: int = 16,
    seed: int = 0,
    dtype: torch.dtype | None = None,
    runs: int = 1,
    test_shares: bool = False,
    device: str | torch.device | None = None,
    memory_gb: float = DEFAULT_MEMORY_GB,
    progress: bool | Show = False,
    plugins: Plugins | None = None,
) -> Result:
    """Sample the posterior of an own problem.

    Args:
        problem: Prior, likelihood and image shape; its tensors are on one device.
        sampler: Name of the sampler, or a sampler.
        options: Options of a sampler that is named: ``{"levels": 20}``.
        n: Number of samples.
        seed: The same seed gives the same samples.
        dtype: Real type of the samples, ``torch.float32`` or ``torch.float64``; that of the
            measurement when None. Prior and operator must take images of this type.
        runs: Independent runs that the samples are divided into; two or more give R-hat.
        test_shares: Test the shares of separate explanations among the samples by posterior
            simulation-based calibration, which costs 32 further runs.
        device: Where the problem's tensors are; that of the measurement when None.
        memory_gb: Memory for samples handled side by side.
        progress: True shows progress on standard error; a function is called with every event.
        plugins: From `tiltkit.load_plugins`; all that are installed when None.

    Returns:
        A result of one slice.

    Raises:
        UsageError: An argument or an option of the sampler is wrong.
        TiltkitError: Prior, operator and measurement do not fit each other.
    """
    given = {"n": n, "seed": seed, "runs": runs, "memory_gb": memory_gb}
    numbers = validate(_Numbers, {name: _python(value) for name, value in given.items()}, "")
    if runs > n:
        raise UsageError(f"{runs} runs cannot share {n} samples.", "ask for more samples.")
    plugins = plugins or load_plugins()
    if isinstance(sampler, str):
        made: Sampler = plugins.create("sampler", sampler, options or {})
        name = sampler
    elif options:
        raise UsageError(
            f"The sampler is a {type(sampler).__name__}, which has its options already.",
            "give options only with the name of a sampler.",
        )
    else:
        made, name = sampler, type(sampler).__name__
    y = getattr(linear_gaussian(problem.likelihood), "y", None)
    real = torch.float32 if y is None else y.real.dtype
    place = torch.device("cpu" if y is None else y.device) if device is None else device
    steps = solve(
        [problem], made, seed=(numbers.seed, 0), n=numbers.n, devices=[torch.device(place)],
        runs=numbers.runs, memory_gb=numbers.memory_gb, dtype=dtype or real,
        test_shares=test_shares,
    )  # fmt: skip
    with cpu_threads(None), closing(steps), _shown(progress, name) as show:
        show(SliceStarted(0, 0, 1))
        for step in steps:
            if isinstance(step, Outcome):
                outcome = step
            else:
                show(step)
    settings = {
        "sampler": {"name": name, **_options(made)},
        "samples": numbers.n, "runs": numbers.runs, "seed": numbers.seed,
        "memory_gb": numbers.memory_gb, "dtype": str(dtype or real).removeprefix("torch."),
        "prior": {"name": type(problem.prior).__name__},
    }  # fmt: skip
    date = datetime.now(UTC).isoformat(timespec="seconds")
    origin = {"command": "tiltkit.sample(...)", "date": date, **software(plugins)}
    return Result(StoredInMemory.single(_layout(outcome.mean.shape), outcome, settings, origin))


def load_result(path: str | Path) -> Result:
    """A result file; its images are read when they are used.

    Raises:
        InputError: It is missing, damaged, no result, or not all of its slices are finished.
    """
    return Result(StoredInFile(Path(path)))


def _slices(slices: str | int | Sequence[int] | None) -> str | None:
    """Slices as a recipe writes them."""
    if slices is None or isinstance(slices, str):
        return slices
    numbers = np.atleast_1d(np.asarray(slices))
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu" or not numbers.size:
        raise UsageError(
            f"The slices {slices!r} are no list of numbers.", "write for example [0, 3] or '0,5:9'."
        )
    return ",".join(map(str, numbers.tolist()))


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _python(value: Any) -> Any:
    """Numbers of NumPy as those of Python, which settings are made of."""
    return value.item() if isinstance(value, np.generic) else value


def _options(sampler: Sampler) -> dict[str, Any]:
    """Options of a sampler, where it keeps them."""
    options = getattr(sampler, "options", None)
    return options.model_dump() if isinstance(options, BaseModel) else {}


def _layout(image: Sequence[int]) -> Layout:
    """Axes of one slice of an own problem: pixels, by their numbers."""
    names = ("z", "y", "x")[-len(image) :] if len(image) <= 3 else ()
    names = names or tuple(f"axis_{k}" for k in range(len(image)))
    sizes = zip(names if image else (), image, strict=True)
    axes = [Axis(name, range(size), "px") for name, size in sizes]
    return Layout((Axis("slice", range(1)), *axes), title="own problem")


def _last(events: Generator[Event, None, T], show: Show) -> T:
    """Show all events; what the generator returns."""
    while True:
        try:
            event = next(events)
        except StopIteration as end:
            result: T = end.value
            return result
        show(event)


@contextmanager
def _shown(progress: bool | Show, name: str) -> Iterator[Show]:
    """A function that shows events as the caller of the run wishes."""
    if callable(progress):
        yield progress
    elif progress:
        from tiltkit.cli.progress import Progress

        with Progress(name) as bar:
            yield bar.show
    else:
        yield lambda event: None
