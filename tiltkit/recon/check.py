"""``tiltkit check``: description of a run and its estimated cost, from a few steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any

import torch

from tiltkit.errors import known_errors
from tiltkit.io.atomic import checkpoint_path
from tiltkit.io.nexus import image_bytes
from tiltkit.io.source import watched
from tiltkit.recon.recipe import resolve
from tiltkit.recon.scan import choose_devices, make_parts, open_scan
from tiltkit.recon.selection import choose_slices
from tiltkit.recon.slice import Parts
from tiltkit.recon.solve import peak_memory_mb
from tiltkit.recon.tiles import TENSORS_KEPT
from tiltkit.sampling.particles.rng import ParticleRng
from tiltkit.sampling.target import TENSORS_PER_PARTICLE, Target, chunk_size

if TYPE_CHECKING:
    from pathlib import Path

    from tiltkit.config import Recipe
    from tiltkit.plugins import Plugins
    from tiltkit.problem import Problem
    from tiltkit.sampling.state import Sampler

__all__ = ["check_scan"]

# Largest factor between estimated and actual time, for three tasks and two priors on the CPU.
UNCERTAINTY = 1.5
# Score evaluations of some samples after the last level, for their distance from the training
# images; one evaluation of every particle is counted separately.
_CALLS_OF_SOME = 10
# Steps of single particles in a run from which on one more step is a negligible cost.
_LONG = 200


@dataclass(frozen=True, slots=True)
class Cost:
    """Estimated cost of sampling one problem with all particles.

    Attributes:
        seconds: Total time.
        call: Time of one score evaluation for all particles, in seconds.
        memory_mb: Peak memory in MB.
    """

    seconds: float
    call: float
    memory_mb: float


def check_scan(recipe: Recipe, plugins: Plugins, source: Path) -> dict[str, Any]:
    """Describe a run: figures of the scan, notes, and the estimated cost.

    Args:
        recipe: The settings.
        plugins: The plugins.
        source: The input file.

    Returns:
        Short values by label, in the order in which they are printed; ``notes`` has records
        of `tiltkit.problem.Note` as mappings. The cost is in ``estimated_seconds``,
        ``estimated_memory_gb`` and ``result_mb``, and in words in ``estimate``.

    Raises:
        TiltkitError: As a run would.
    """
    start = time.perf_counter()
    recipe = resolve(recipe.model_dump(), plugins)
    devices = choose_devices(recipe)
    task, (prior,), sampler = make_parts(recipe, plugins, devices[:1])
    with known_errors(), watched(source), open_scan(task, source, recipe) as scan:
        chosen = choose_slices(recipe.slices, scan.layout, source)
        parts = Parts(scan, [prior], sampler, devices[:1], recipe, checkpoint_path(source))
        opened = time.perf_counter()
        problem, tiles, memory = parts.first_problem(chosen[0])
        prepared = time.perf_counter() - opened
        n = -(-recipe.samples // recipe.runs)
        chunk = chunk_size(problem.shape, n, memory)
        levels = sampler.levels(Target(problem, n, chunk, devices[0]))
        cost = measure(problem, sampler, n, chunk, devices[0])
        lanes = min(len(devices), recipe.runs)
        seconds = tiles * len(chosen) * (prepared + cost.seconds * recipe.runs / lanes)
        seconds += opened - start
        shape = scan.layout.shape
        figures = {
            "estimated_seconds": seconds,
            "estimated_memory_gb": cost.memory_mb / 1e3,
            "result_mb": image_bytes(scan.layout, recipe.samples) * len(chosen) / shape[0] / 1e6,
        }
        return dict(scan.describe()) | {
            "prior": f"{recipe.prior['name']}, noise {prior.sigma_range[0]:g} to"
            f" {prior.sigma_range[1]:g}, {prior.value_range}",
            "sampler": f"{recipe.sampler['name']}, {len(levels)} levels, {recipe.samples} samples"
            + (f" in {recipe.runs} independent runs" if recipe.runs > 1 else ""),
            "slices to do": f"{len(chosen)}, each in {tiles} tiles" if tiles > 1 else len(chosen),
            "device": str(devices[0]),
            "CPU threads": torch.get_num_threads(),
            "samples computed together": chunk,
            "time per network call": f"{cost.call:.2g} s for {n} samples",
            "notes": [asdict(note) for note in problem.notes],
            **figures,
            "estimate": _in_words(figures),
        }


def measure(problem: Problem, sampler: Sampler, n: int, chunk: int, device: torch.device) -> Cost:
    """Estimate the cost of sampling a problem from single steps with few particles.

    Steps of one particle at the start, in the middle and at the end of the ladder are timed,
    because solving the measurement model takes longer at some noise levels than at others. A step
    of several particles shows how time grows with their number: linearly, with an offset.

    Args:
        problem: The problem, on the device.
        sampler: The sampler.
        n: Number of particles of a run.
        chunk: Particles that are computed together.
        device: Device of the problem.

    Raises:
        TiltkitError: As the first steps of a run would.
    """
    several = chunk if device.type == "cuda" else min(n, chunk, max(2, n // 2))
    one, more = (Target(problem, count, count, device) for count in (1, several))
    levels = list(sampler.levels(one))
    ladder = list(dict.fromkeys(levels))
    rounds = len(levels) - len(ladder)
    inner = ladder[1:-1]
    path = [ladder[0], *_spread(inner, 2 if n * len(levels) > _LONG else 1), *ladder[1:][-1:]]
    with torch.inference_mode():
        (first,) = _time_steps(one, sampler, ladder[:1])
        seconds = _time_steps(one, sampler, [*path, ladder[-1]] if rounds else path)
        grown = _time_steps(more, sampler, path[:2])[-1]
        x = torch.zeros((several, *problem.shape), device=device)
        call, _ = _time(device, partial(more.score, x, ladder[-1]))
    call *= n / several
    of_one = seconds[0] + (seconds[len(path) - 1] if len(path) > 1 else 0.0)
    of_one += sum(seconds[1 : len(path) - 1]) / max(len(path) - 2, 1) * len(inner)
    of_one += sum(seconds[len(path) :]) * rounds
    slope = (grown / seconds[:2][-1] - 1) / max(several - 1, 1)
    set_up = max(first - seconds[0], 0.0)  # what a run computes once shows in the first step
    total = set_up + of_one * (1 + (n - 1) * min(max(slope, 0.0), 1.0))
    total += call * (1 + _CALLS_OF_SOME / n)
    image_mb = prod(problem.shape) * 4 / 1e6
    tensors = (chunk - several) * TENSORS_PER_PARTICLE + (n - several) * TENSORS_KEPT
    return Cost(total, call, peak_memory_mb([device]) + tensors * image_mb)


def _spread(levels: Sequence[float], count: int) -> list[float]:
    """Select up to ``count`` of the levels, evenly spaced."""
    count = min(count, len(levels))
    return [levels[(2 * k + 1) * len(levels) // (2 * count)] for k in range(count)]


def _time_steps(target: Target, sampler: Sampler, levels: Sequence[float]) -> list[float]:
    """Time, in seconds, the initial state at the first level and the step to every other level."""
    rng = ParticleRng([0], target.n, target.device)
    spent, (state, _) = _time(target.device, partial(sampler.init, target, levels[0], rng))
    seconds = [spent]
    for level in levels[1:]:
        step = partial(sampler.step, target, state, level, rng)
        spent, (state, _) = _time(target.device, step)
        seconds.append(spent)
    return seconds


def _time(device: torch.device, work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the time of a call on a device in seconds, and its return value."""
    start = time.perf_counter()
    result = work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start, result


def _in_words(figures: Mapping[str, float]) -> str:
    return (
        f"about {_duration(figures['estimated_seconds'])} within a factor of {UNCERTAINTY:g},"
        f" {figures['estimated_memory_gb']:.2g} GB of memory; result file"
        f" {figures['result_mb']:.3g} MB"
    )


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.2g} min" if seconds < 6000 else f"{seconds / 3600:.2g} h"
