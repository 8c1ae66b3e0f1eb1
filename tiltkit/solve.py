"""From a recipe and a file to a result file: the only place where all parts meet."""

from __future__ import annotations

import hashlib
import platform
import resource
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tiltkit.errors import UsageError
from tiltkit.files.result import ResultWriter, check_output
from tiltkit.sampling.certificate import data_fit, fisher, ladder_report, verdict
from tiltkit.sampling.draw import Draw
from tiltkit.sampling.outcome import Outcome
from tiltkit.sampling.run import run
from tiltkit.sampling.summary import Moments, Quantiles
from tiltkit.sampling.target import Target, chunk_size

if TYPE_CHECKING:
    from tiltkit.config import Recipe
    from tiltkit.plugins import Plugins
    from tiltkit.problem import Problem
    from tiltkit.protocols import Layout, Prior, Task
    from tiltkit.sampling.state import Info, Sampler, State

__all__ = [
    "Event", "LevelDone", "ScanDone", "SliceDone", "SliceStarted", "check_scan", "pick_device",
    "run_scan", "solve",
]  # fmt: skip

QUANTILES = (0.05, 0.5, 0.95)
DEFAULT_MEMORY_GB = 1.0


@dataclass(frozen=True, slots=True)
class SliceStarted:
    """A slice begins: its index in the file, and its place among those to do."""

    index: int
    position: int
    total: int


@dataclass(frozen=True, slots=True)
class LevelDone:
    """A noise level of a slice is finished."""

    index: int
    level: int
    n_levels: int
    noise_level: float
    ess: float
    seconds_left: float


@dataclass(frozen=True, slots=True)
class SliceDone:
    """A slice is in the result file."""

    index: int
    diagnostics: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ScanDone:
    """The result file is complete."""

    output: Path
    summary: Mapping[str, Any]


Event = SliceStarted | LevelDone | SliceDone | ScanDone


def solve(
    problem: Problem,
    sampler: Sampler,
    *,
    seed: Sequence[int],
    n: int,
    device: torch.device,
    memory_gb: float = DEFAULT_MEMORY_GB,
    index: int = 0,
) -> Iterator[LevelDone | Outcome]:
    """Sample the posterior of one slice; the last item is its `Outcome`."""
    start = time.perf_counter()
    target = Target(problem, n, chunk_size(problem.shape, n, memory_gb), device)
    draw = Draw(seed, n, device)
    particles, images, quantiles = Moments(), Moments(), Quantiles()
    infos: list[Info] = []
    total = len(sampler.levels(target))
    for level, (state, info) in enumerate(run(target, sampler, draw), start=1):
        infos.append(info)
        if info.final:
            x = sampler.images(target, state)
            particles.add(x)
            images.add(problem.to_image(x))
            quantiles.add(problem.to_image(x))
        left = (time.perf_counter() - start) / level * (total - level)
        yield LevelDone(index, level, total, info.noise_level, info.ess, left)
    diagnostics = _certificate(target, sampler, state, infos, particles, draw)
    diagnostics |= dict(problem.facts) | {
        "seconds": time.perf_counter() - start,
        "peak_memory_mb": _peak_memory_mb(device),
        "device": str(device),
        "seed": seed[0],
    }
    x = sampler.images(target, state)
    yield _outcome(problem, x, particles, images, quantiles, diagnostics)


def _certificate(
    target: Target,
    sampler: Sampler,
    state: State,
    infos: Sequence[Info],
    particles: Moments,
    draw: Draw,
) -> dict[str, Any]:
    """All diagnostics that do not depend on the machine."""
    report = ladder_report(infos, target.n, weighted=sampler.weighted)
    with torch.inference_mode():
        mean = particles.mean.to(target.dtype)
        samples = sampler.images(target, state)
        report |= data_fit(target, mean, samples, infos[-1].noise_level, draw)
        report["fisher"] = fisher(target, sampler, state)
    report |= {
        "network_calls": target.network_calls,
        "samples_averaged": particles.count,
        "verdict": verdict(report),
    }
    return report


def _outcome(
    problem: Problem,
    x: torch.Tensor,
    particles: Moments,
    images: Moments,
    quantiles: Quantiles,
    diagnostics: Mapping[str, Any],
) -> Outcome:
    def host(image: torch.Tensor) -> Any:
        return image.float().cpu().numpy()

    phase = problem.phase
    return Outcome(
        mean=host(images.mean),
        std=host(images.std),
        quantiles={q: host(image) for q, image in quantiles.at(QUANTILES).items()},
        samples=host(problem.to_image(x)),
        baseline=host(problem.baseline),
        phase=None if phase is None else host(phase(particles.mean.to(x.dtype))),
        diagnostics=diagnostics,
    )


def run_scan(
    recipe: Recipe,
    plugins: Plugins,
    source: Path,
    output: Path,
    *,
    resume: bool,
    overwrite: bool,
    command: str,
) -> Iterator[Event]:
    """Sample every chosen slice of a file into a result file, slice by slice.

    Closing the generator leaves the finished slices in ``OUTPUT.part`` for ``resume``.
    """
    check_output(output, overwrite=overwrite, resume=resume)
    start = time.perf_counter()
    device = pick_device(recipe.device)
    task, prior, sampler = _parts(recipe, plugins, device)
    with task.open(source) as scan:
        chosen = choose_slices(recipe.slices, scan.layout.shape[0])
        layout = _only(scan.layout, chosen)
        writer = ResultWriter.open(
            output,
            layout=layout,
            samples=recipe.samples,
            recipe=recipe.model_dump(),
            provenance=_provenance(source, plugins, recipe, command),
            resume=resume,
            overwrite=overwrite,
        )
        with writer:
            reports = []
            todo = [i for i in range(len(chosen)) if i not in writer.finished]
            for position, i in enumerate(todo):
                index = chosen[i]
                yield SliceStarted(index, position, len(todo))
                problem = scan.problem(index, prior, device)
                steps = solve(
                    problem,
                    sampler,
                    seed=(recipe.seed, index),
                    n=recipe.samples,
                    device=device,
                    memory_gb=recipe.memory_gb or DEFAULT_MEMORY_GB,
                    index=index,
                )
                for step in steps:
                    if isinstance(step, Outcome):
                        writer.write(i, step)
                        reports.append(step.diagnostics)
                        yield SliceDone(index, step.diagnostics)
                    else:
                        yield step
            writer.finish()
    yield ScanDone(output, _summary(reports, recipe, len(chosen), time.perf_counter() - start))


def check_scan(recipe: Recipe, plugins: Plugins, source: Path) -> dict[str, Any]:
    """What a run would do, without sampling: the scan's own facts, then the engine's."""
    device = pick_device(recipe.device)
    task, prior, sampler = _parts(recipe, plugins, device)
    with task.open(source) as scan:
        chosen = choose_slices(recipe.slices, scan.layout.shape[0])
        problem = scan.problem(chosen[0], prior, device)
        memory = recipe.memory_gb or DEFAULT_MEMORY_GB
        chunk = chunk_size(problem.shape, recipe.samples, memory)
        target = Target(problem, recipe.samples, chunk, device)
        seconds = _seconds_of_call(target, sampler)
        levels = sampler.levels(target)
        return dict(scan.describe()) | {
            "prior": f"{recipe.prior['name']}, noise {prior.sigma_range[0]:g} to"
            f" {prior.sigma_range[1]:g}, {prior.value_range}",
            "sampler": f"{recipe.sampler['name']}, {len(levels)} levels, {recipe.samples} samples",
            "slices to do": len(chosen),
            "device": str(device),
            "memory for particles": f"{chunk} side by side",
            "time per network call": f"{seconds:.2f} s for all samples",
        }


def pick_device(name: str) -> torch.device:
    """The device of a name; ``auto`` is the fastest there is.

    Raises:
        UsageError: No such device here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(f"There is no device {name!r} here.", "use --device auto.") from error
    return torch.device(name)


def choose_slices(text: str | None, total: int) -> list[int]:
    """Slice numbers of ``"0,3,5:9"``; all when None. Ranges leave out their end, as in Python.

    Raises:
        UsageError: Not such a list, or a slice that is not there.
    """
    if not text:
        return list(range(total))
    chosen: list[int] = []
    try:
        for part in text.split(","):
            first, colon, last = part.partition(":")
            chosen += range(int(first or 0), int(last or total)) if colon else [int(first)]
    except ValueError:
        raise UsageError(
            f"The slices {text!r} are not a list like 0,3,5:9.", "use numbers and FIRST:END."
        ) from None
    wrong = [i for i in chosen if not 0 <= i < total]
    if wrong or not chosen:
        raise UsageError(
            f"The slices {text!r} are not all in the file, which has {total}.",
            f"choose among 0 to {total - 1}.",
        )
    return sorted(set(chosen))


def _parts(recipe: Recipe, plugins: Plugins, device: torch.device) -> tuple[Task, Prior, Sampler]:
    """Task, prior and sampler of a recipe, made by the plugins that bring them."""
    task = plugins.create("task", *_named(recipe.task))
    prior = plugins.create("prior", *_named(recipe.prior))
    sampler = plugins.create("sampler", *_named(recipe.sampler))
    return task, prior.to(device), sampler


def _named(table: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    return table["name"], {key: value for key, value in table.items() if key != "name"}


def _only(layout: Layout, chosen: Sequence[int]) -> Layout:
    """The layout of a result that holds just the chosen slices."""
    slices = layout.axes[0]
    kept = replace(slices, coordinates=[slices.coordinates[i] for i in chosen])
    return replace(layout, axes=(kept, *layout.axes[1:]))


def _provenance(source: Path, plugins: Plugins, recipe: Recipe, command: str) -> dict[str, Any]:
    """Where a result comes from: the input, the software, the weights and the command."""
    stat = source.stat()
    packages = ("tiltkit", "torch", "numpy", "h5py")
    prior = plugins.get("prior", recipe.prior["name"])
    return {
        "command": command,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "raw_file": source.name,
        "raw_size": stat.st_size,
        "raw_modified": datetime.fromtimestamp(stat.st_mtime, UTC).isoformat(timespec="seconds"),
        "raw_sha256": _digest(source),
        "weights_sha256": getattr(prior, "sha256", ""),
        "versions": {name: version(name) for name in packages} | {"python": sys.version.split()[0]},
        "plugins": {p.distribution: p.version for p in plugins.plugins if p.status == "ok"},
        "platform": platform.platform(),
    }


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _summary(
    reports: Sequence[Mapping[str, Any]], recipe: Recipe, slices: int, seconds: float
) -> dict[str, Any]:
    """Figures of a whole scan for the last line: the worst ESS, the mean fit, the first worry."""

    def values(name: str) -> list[float]:
        return [float(report[name]) for report in reports if name in report]

    summary: dict[str, Any] = {
        "slices": slices,
        "samples": recipe.samples,
        "seconds": seconds,
        "verdict": next((r["verdict"] for r in reports if r["verdict"] != "ok"), "ok"),
    }
    if values("ess_min"):
        summary["ess_min"] = min(values("ess_min"))
    for name in ("chi2", "chi2_expected"):
        if values(name):
            summary[name] = sum(values(name)) / len(values(name))
    return summary


def _seconds_of_call(target: Target, sampler: Sampler) -> float:
    """Time of one network call for all particles, measured on one chunk."""
    rows = next(target.chunks())
    x = torch.zeros((rows.stop - rows.start, *target.problem.shape), device=target.device)
    sigma = target.problem.prior.sigma_range[1]
    target.score(x, sigma)  # the first call also warms caches up
    start = time.perf_counter()
    target.score(x, sigma)
    return (time.perf_counter() - start) * target.n / len(x)


def _peak_memory_mb(device: torch.device) -> float:
    """Peak memory of the process so far: on the GPU where one is used, of the host elsewhere."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
