"""``tiltkit check``: description of a run and its estimated cost, from a few steps."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tiltkit.errors import known_errors
from tiltkit.io.atomic import checkpoint_path
from tiltkit.io.nexus import image_bytes, outline
from tiltkit.io.source import watched
from tiltkit.problem import CoarseScan
from tiltkit.protocols import SpectralOperator
from tiltkit.recon.provenance import provenance
from tiltkit.recon.recipe import resolve
from tiltkit.recon.scan import choose_devices, make_parts, open_scan
from tiltkit.recon.selection import choose_slices, select_slices
from tiltkit.recon.slice import Parts
from tiltkit.recon.solve import cpu_threads, peak_memory_mb
from tiltkit.recon.tiles import TENSORS_KEPT
from tiltkit.sampling.particles.rng import ParticleRng
from tiltkit.sampling.target import TENSORS_PER_PARTICLE, Target, chunk_size

if TYPE_CHECKING:
    from pathlib import Path

    from tiltkit.config import Recipe
    from tiltkit.plugins import Plugins
    from tiltkit.problem import Problem, Scan
    from tiltkit.protocols import Prior
    from tiltkit.sampling.state import Sampler, State

__all__ = ["check_scan"]

ShowPictures = Callable[[Mapping[str, Any]], None]

# Largest factor between estimated and actual time, on the CPU, in the cases of benchmarks/check.py.
UNCERTAINTY = 1.5
# Values of all images of a trial, and seconds of the timed network calls, about. Chosen so that
# neither takes a second with the shipped network on one core.
_TRIAL_VALUES = 2**18
_NETWORK_SECONDS = 0.4
# Images of more values than the first number are tried at a coarser resolution, with about the
# second number of values.
_LARGE, _COARSE = 2**18, 2**17
# Largest factor between estimated and actual time from a coarser resolution.
UNCERTAINTY_COARSE = 3.0
# Seconds of a run from which on coarser ones are proposed, and their factors.
_LONG, _FACTORS = 3600, (2, 4)
# Time of one more particle over that of the first, without the prior's share. Measured: 0.2 to 0.3
# for tomography and for MRI with several coils.
_SLOPE = 0.3
# Network calls of a score that is differentiated: forward, and twice as much back.
_CALLS_OF_GRADIENT = 3
# Score evaluations of some samples after the last level, for their distance from the training
# images; one evaluation of every particle is counted separately.
_CALLS_OF_SOME = 10


@dataclass(frozen=True, slots=True)
class Cost:
    """Estimated cost of sampling one problem with all particles.

    Attributes:
        seconds: Total time.
        call: Time of one score evaluation for all particles, in seconds.
        memory_mb: Peak memory in MB.
        kept_mb: Part of it that all particles take while they wait, in MB.
    """

    seconds: float
    call: float
    memory_mb: float
    kept_mb: float


@dataclass(frozen=True, slots=True)
class _Work:
    """Work of steps of a sampler.

    Attributes:
        seconds: Time without score evaluations.
        calls: Score evaluations per particle.
    """

    seconds: float
    calls: float

    def __add__(self, other: _Work) -> _Work:
        return _Work(self.seconds + other.seconds, self.calls + other.calls)

    def __mul__(self, times: float) -> _Work:
        return _Work(self.seconds * times, self.calls * times)


class _TrialTarget(Target):
    """A target whose prior is a standard Gaussian; score evaluations are counted.

    Steps with it do what steps of the run do, but for the evaluations of the network.
    """

    def score(self, x: Tensor, sigma: float) -> Tensor:
        self.network_calls += len(x) / self.n * (_CALLS_OF_GRADIENT if x.requires_grad else 1)
        return x / -(1 + sigma**2)

    def prior_mean(self, level: float) -> Tensor:
        self.network_calls += 1 / self.n
        return torch.zeros((1, *self.problem.shape), dtype=self.dtype, device=self.device)


def check_scan(
    recipe: Recipe,
    plugins: Plugins,
    source: Path,
    show: ShowPictures | None = None,
    accept: Callable[[Path], None] | None = None,
) -> dict[str, Any]:
    """Describe a run: figures of the scan, notes, and the estimated cost.

    Args:
        recipe: The settings.
        plugins: The plugins.
        source: The input file.
        show: Called with the pictures of the scan, see `Layout.metadata`.
        accept: As for `tiltkit.recon.scan.run_scan`.

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
        if show is not None:
            show(scan.layout.metadata.get("pictures", {}))
        if accept is not None:
            origin = provenance(source, chosen, plugins, recipe, "tiltkit check")
            layout, name = select_slices(scan.layout, chosen), f"{source.stem}.posterior.h5"
            with outline(name, layout, recipe.model_dump(), origin) as empty:
                accept(empty)
        label = plugins.owner("task", recipe.task["name"]).label
        path = checkpoint_path(source)
        parts = Parts(scan, [prior], sampler, devices[:1], recipe, path, label)
        opened = time.perf_counter()
        problem, tiles, memory = parts.first_problem(chosen[0])
        prepared = time.perf_counter() - opened
        n = -(-recipe.samples // recipe.runs)
        chunk = chunk_size(problem.shape, n, memory)
        whole = image_bytes(scan.layout, recipe.samples, problem)
        result_mb = whole * len(chosen) / scan.layout.shape[0] / 1e6
        work = {
            "slices to do": f"{len(chosen)}, each in {tiles} tiles" if tiles > 1 else len(chosen),
            "device": str(devices[0]),
        }
        notes = [asdict(note) for note in problem.notes]
        if recipe.baseline_only:
            seconds = opened - start + tiles * len(chosen) * prepared
            return {
                **scan.describe(),
                **work,
                "notes": notes,
                "estimated_seconds": seconds,
                "estimated_memory_gb": peak_memory_mb(devices[:1]) / 1e3,
                "result_mb": result_mb,
                "estimate": f"about {_duration(seconds)}, without a prior and without samples",
                "estimate_took_seconds": 0.0,
            }
        levels = sampler.levels(Target(problem, n, chunk, devices[0]))
        before = time.perf_counter()
        coarse = _coarse(scan, chosen[0], problem, prior, devices[0])
        cost = measure(problem, sampler, n, chunk, devices[0], coarse)
        took = time.perf_counter() - before
        lanes = min(len(devices), recipe.runs)
        seconds = tiles * len(chosen) * (prepared + cost.seconds * recipe.runs / lanes)
        seconds += opened - start
        figures = {
            "estimated_seconds": seconds,
            "estimated_memory_gb": cost.memory_mb / 1e3,
            "result_mb": result_mb,
        }
        return dict(scan.describe()) | {
            "prior": f"{recipe.prior['name']}, noise {prior.sigma_range[0]:g} to"
            f" {prior.sigma_range[1]:g}, {prior.value_range}",
            "sampler": f"{recipe.sampler['name']}, {len(levels)} levels, {recipe.samples} samples"
            + (f" in {recipe.runs} independent runs" if recipe.runs > 1 else ""),
            **work,
            "CPU threads": torch.get_num_threads(),
            "samples computed together": chunk,
            "time per network call": f"{cost.call:.2g} s for {n} samples",
            "notes": notes,
            **figures,
            "estimate": _in_words(figures, UNCERTAINTY if coarse is None else UNCERTAINTY_COARSE),
            **_proposals(scan, seconds, cost, coarse),
            "estimate_took_seconds": took,
        }


def _coarse(
    scan: Scan, index: int, problem: Problem, prior: Prior, device: torch.device
) -> Problem | None:
    """A coarser version of a large problem; None where there is none."""
    values = prod(problem.shape)
    if values <= _LARGE or not isinstance(scan, CoarseScan):
        return None
    return scan.coarse(index, prior, device, math.ceil(math.sqrt(values / _COARSE)))


def _proposals(scan: Scan, seconds: float, cost: Cost, coarse: Problem | None) -> dict[str, str]:
    """Options of shorter runs, with time and memory, for a run of ``seconds`` that takes hours."""
    if seconds < _LONG or coarse is None or not isinstance(scan, CoarseScan):
        return {}
    texts = []
    for factor in _FACTORS:
        memory = cost.memory_mb - cost.kept_mb * (1 - 1 / factor**2)
        duration = _duration(seconds / factor**2)
        texts.append(f"{scan.coarser(factor)}: about {duration}, {memory / 1e3:.2g} GB")
    return {"shorter runs": "; ".join(texts)}


def measure(
    problem: Problem,
    sampler: Sampler,
    n: int,
    chunk: int,
    device: torch.device,
    coarse: Problem | None = None,
) -> Cost:
    """Estimate the cost of sampling a problem from single steps and single network calls.

    The prior's score is timed for a few images. Steps of few particles count score evaluations and
    are timed without them. Their time grows linearly with the number of particles, with an offset.

    Args:
        problem: The problem, on the device.
        sampler: The sampler.
        n: Number of particles of a run.
        chunk: Particles that are computed together.
        device: Device of the problem.
        coarse: The same problem at a coarser resolution, to measure in its place. Time is taken as
            proportional to the number of values of an image.

    Raises:
        TiltkitError: As the first steps of a run would.
    """
    tried = coarse or problem
    ratio = prod(problem.shape) / prod(tried.shape)
    # Time on a GPU hardly grows with the number of particles.
    affordable = min(n // 4, _TRIAL_VALUES // prod(tried.shape))
    few = chunk if device.type == "cuda" else min(max(affordable, 1), chunk)
    target = _TrialTarget(tried, few, few, device)
    with torch.inference_mode():
        score, together = _time_score(Target(tried, n, chunk, device))
        work = _try_steps(target, sampler)
    score, work = ratio * score, _Work(work.seconds * ratio, work.calls)
    grown = (n + (1 / _SLOPE - 1)) / (few + (1 / _SLOPE - 1))
    total = work.seconds * grown + score * (n * (work.calls + 1) + _CALLS_OF_SOME)
    image_mb = prod(problem.shape) * 4 / 1e6
    kept = (n - few / ratio) * TENSORS_KEPT * image_mb
    together_mb = (chunk - together / ratio) * TENSORS_PER_PARTICLE * image_mb
    return Cost(total, score * n, peak_memory_mb([device]) + together_mb + kept, kept)


def _time_score(target: Target) -> tuple[float, int]:
    """Time a score evaluation: seconds per image, and the number of images in one evaluation."""
    level, most, n = target.problem.prior.sigma_range[1], min(target.n, target.chunk), 1
    while True:
        x = level * torch.ones((n, *target.problem.shape), dtype=target.dtype, device=target.device)
        seconds, _ = _time(target.device, partial(target.score, x, level))
        affordable = most if target.device.type == "cuda" else int(_NETWORK_SECONDS * n / seconds)
        if n >= min(affordable, most):
            return seconds / n, n
        n = min(affordable, most)


def _try_steps(target: _TrialTarget, sampler: Sampler) -> _Work:
    """Work of all levels of a sampler, from steps at the start and at the end of its ladder.

    The steps that are timed are between neighbouring levels, as in a run: solving the measurement
    model takes longer between distant ones. Their time is taken as linear along the ladder.
    """
    levels = list(sampler.levels(target))
    ladder = list(dict.fromkeys(levels))
    rng = ParticleRng([0], target.n, target.device)
    state: State | None = None

    def work(level: float) -> _Work:
        nonlocal state
        before = target.network_calls
        step = partial(sampler.init, target, level, rng)
        if state is not None:
            step = partial(sampler.step, target, state, level, rng)
        seconds, (state, _) = _time(target.device, step)
        return _Work(seconds, target.network_calls - before)

    total = work(ladder[0])
    if len(ladder) == 1:
        return total * len(levels)
    rounds = len(levels) - levels.index(ladder[-1]) - 1
    between = len(levels) - rounds - 2
    if between:
        first = late = work(ladder[1])
        if len(ladder) > 4 and not isinstance(target.linear.operator, SpectralOperator):
            work(ladder[-3])
            late = work(ladder[-2])
        total += (first + late) * (between / 2)
    total += work(ladder[-1])
    return total + work(ladder[-1]) * rounds if rounds else total


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
