"""``tiltkit check``: description of a run and its estimated cost, from a few steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tiltkit.errors import known_errors
from tiltkit.io.atomic import checkpoint_path
from tiltkit.io.nexus import image_bytes
from tiltkit.io.source import watched
from tiltkit.recon.recipe import resolve
from tiltkit.recon.scan import choose_devices, make_parts, open_scan
from tiltkit.recon.selection import choose_slices
from tiltkit.recon.slice import Parts
from tiltkit.recon.solve import cpu_threads, peak_memory_mb
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

# Largest factor between estimated and actual time, on the CPU, in the cases of benchmarks/check.py;
# the second one where growth with the number of particles was assumed.
UNCERTAINTY = 1.5
UNCERTAINTY_ASSUMED = 2.0
# Share of the estimated run that a start and a step of several particles may take.
_BUDGET = 0.03
# Part of the ladder whose steps cost what the last one does; the others cost what the first does.
_END = 1 / 6
# Time of one more particle over that of the first, where it is not measured. Measured: 0.2
# for tomography with a closed-form prior, 0.8 to 1 with networks.
_SLOPE = 0.8
# Score evaluations of some samples after the last level, for their distance from the training
# images; one evaluation of every particle is counted separately.
_CALLS_OF_SOME = 10


@dataclass(frozen=True, slots=True)
class Cost:
    """Estimated cost of sampling one problem with all particles.

    Attributes:
        seconds: Total time.
        uncertainty: Largest factor between the estimated and the actual time.
        call: Time of one score evaluation for all particles, in seconds.
        memory_mb: Peak memory in MB.
    """

    seconds: float
    uncertainty: float
    call: float
    memory_mb: float


class _TimedTarget(Target):
    """A target that adds up the time of its score evaluations.

    Attributes:
        spent: Time of all evaluations in seconds.
        scored: Number of images that were evaluated.
    """

    spent: float = 0.0
    scored: int = 0

    def score(self, x: Tensor, sigma: float) -> Tensor:
        seconds, score = _time(self.device, partial(super().score, x, sigma))
        self.spent, self.scored = self.spent + seconds, self.scored + len(x)
        result: Tensor = score
        return result

    def hold(self, n: int) -> None:
        """Set the number of particles, all of them in one chunk."""
        self.n = self.chunk = n


def check_scan(recipe: Recipe, plugins: Plugins, source: Path) -> dict[str, Any]:
    """Describe a run: figures of the scan, notes, and the estimated cost.

    Args:
        recipe: The settings.
        plugins: The plugins.
        source: The input file.

    Returns:
        Short values by label, in the order in which they are printed; ``notes`` has records
        of `tiltkit.problem.Note` as mappings. The cost is in ``estimated_seconds``,
        ``estimated_memory_gb`` and ``result_mb``, and in words in ``estimate``;
        ``estimate_took_seconds`` is the time that estimating it took.

    Raises:
        TiltkitError: As a run would.
    """
    start = time.perf_counter()
    recipe = resolve(recipe.model_dump(), plugins)
    devices = choose_devices(recipe)
    task, (prior,), sampler = make_parts(recipe, plugins, devices[:1])
    with (
        cpu_threads(recipe.threads),
        known_errors(),
        watched(source),
        open_scan(task, source, recipe) as scan,
    ):
        chosen = choose_slices(recipe.slices, scan.layout, source)
        label = plugins.owner("task", recipe.task["name"]).label
        path = checkpoint_path(source)
        parts = Parts(scan, [prior], sampler, devices[:1], recipe, path, label)
        opened = time.perf_counter()
        problem, tiles, memory = parts.first_problem(chosen[0])
        prepared = time.perf_counter() - opened
        n = -(-recipe.samples // recipe.runs)
        chunk = chunk_size(problem.shape, n, memory)
        levels = sampler.levels(Target(problem, n, chunk, devices[0]))
        before = time.perf_counter()
        cost = measure(problem, sampler, n, chunk, devices[0])
        took = time.perf_counter() - before
        lanes = min(len(devices), recipe.runs)
        seconds = tiles * len(chosen) * (prepared + cost.seconds * recipe.runs / lanes)
        seconds += opened - start
        whole = image_bytes(scan.layout, recipe.samples, problem)
        figures = {
            "estimated_seconds": seconds,
            "estimated_memory_gb": cost.memory_mb / 1e3,
            "result_mb": whole * len(chosen) / scan.layout.shape[0] / 1e6,
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
            "estimate": _in_words(figures, cost.uncertainty),
            "estimate_took_seconds": took,
        }


def measure(problem: Problem, sampler: Sampler, n: int, chunk: int, device: torch.device) -> Cost:
    """Estimate the cost of sampling a problem from single steps with few particles.

    A step of one particle is timed at the start of the ladder and at its end, between neighbouring
    levels as in a run: solving the measurement model takes longer between distant ones. A step of
    several particles shows how time grows with their number: linearly, with an offset. It is left
    out where it would take more than a small share of the run.

    Args:
        problem: The problem, on the device.
        sampler: The sampler.
        n: Number of particles of a run.
        chunk: Particles that are computed together.
        device: Device of the problem.

    Raises:
        TiltkitError: As the first steps of a run would.
    """
    target = _TimedTarget(problem, 1, 1, device)
    levels = list(sampler.levels(target))
    ladder = list(dict.fromkeys(levels))
    with torch.inference_mode():
        set_up, step = _time_pair(target, sampler, ladder[:2])
        last = _time_pair(target, sampler, ladder[-2:])[1] if len(ladder) > 2 else step
        of_one = (1 - _END) * step + _END * last
        of_one = of_one * (len(ladder) - 1) + last * (len(levels) - len(ladder))
        budget = _BUDGET * (set_up + of_one * (1 + (n - 1) * _SLOPE))
        several, slope = min(n, chunk, max(2, n // 2), int(budget / (2 * _SLOPE * step))), _SLOPE
        if device.type == "cuda":  # where time hardly grows with the number of particles
            several = chunk
        if several > 1:
            target.hold(several)
            _, grown = _time_pair(target, sampler, ladder[:2])
            slope = min(max((grown / step - 1) / (several - 1), 0.0), 1.0)
    call = target.spent / max(target.scored, 1) * n
    total = set_up + (n - 1) * slope * step + of_one * (1 + (n - 1) * slope)
    total += call * (1 + _CALLS_OF_SOME / n)
    measured = max(several, 1)
    tensors = (chunk - measured) * TENSORS_PER_PARTICLE + (n - measured) * TENSORS_KEPT
    memory = peak_memory_mb([device]) + tensors * prod(problem.shape) * 4 / 1e6
    sure = several > 1 or n == 1
    return Cost(total, UNCERTAINTY if sure else UNCERTAINTY_ASSUMED, call, memory)


def _time_pair(target: Target, sampler: Sampler, levels: Sequence[float]) -> tuple[float, float]:
    """Time, in seconds, the initial state at one level and the step to the next one.

    Where there is no next level, the initial state stands for both.
    """
    rng = ParticleRng([0], target.n, target.device)
    start, (state, _) = _time(target.device, partial(sampler.init, target, levels[0], rng))
    if len(levels) == 1:
        return start, start
    step = partial(sampler.step, target, state, levels[1], rng)
    return start, _time(target.device, step)[0]


def _time(device: torch.device, work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the time of a call on a device in seconds, and its return value."""
    start = time.perf_counter()
    result = work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start, result


def _in_words(figures: Mapping[str, float], uncertainty: float) -> str:
    return (
        f"about {_duration(figures['estimated_seconds'])} within a factor of {uncertainty:g},"
        f" {figures['estimated_memory_gb']:.2g} GB of memory; result file"
        f" {figures['result_mb']:.3g} MB"
    )


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.2g} min" if seconds < 6000 else f"{seconds / 3600:.2g} h"
