"""Sample the posterior of one problem: images, statistics and certificate of one slice."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from tiltkit.errors import UsageError
from tiltkit.sampling.certificate import data_fit, fisher, ladder_report, verdict
from tiltkit.sampling.draw import Draw
from tiltkit.sampling.outcome import Outcome
from tiltkit.sampling.run import run
from tiltkit.sampling.summary import Moments, Quantiles
from tiltkit.sampling.target import Target, chunk_size

if TYPE_CHECKING:
    from tiltkit.problem import Problem
    from tiltkit.sampling.state import Info, Sampler, State

__all__ = ["DEFAULT_MEMORY_GB", "LevelDone", "pick_device", "solve"]

QUANTILES = (0.05, 0.5, 0.95)
DEFAULT_MEMORY_GB = 1.0


@dataclass(frozen=True, slots=True)
class LevelDone:
    """A noise level of a slice is finished."""

    index: int
    level: int
    n_levels: int
    noise_level: float
    ess: float
    seconds_left: float


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


def _peak_memory_mb(device: torch.device) -> float:
    """Peak memory of the process so far: on the GPU where one is used, of the host elsewhere."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
