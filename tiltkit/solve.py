"""Sample the posterior of one problem: images, statistics and certificate of one slice."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from tiltkit.errors import TiltkitError, UsageError
from tiltkit.sampling.certificate import data_fit, fisher, ladder_report, verdict
from tiltkit.sampling.draw import Draw
from tiltkit.sampling.outcome import Outcome
from tiltkit.sampling.progress import Keeper, Progress, load
from tiltkit.sampling.run import run
from tiltkit.sampling.target import Target, chunk_size

if TYPE_CHECKING:
    from pathlib import Path

    from tiltkit.problem import Problem
    from tiltkit.sampling.state import Sampler, State

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
    checkpoint: Path | None = None,
) -> Iterator[LevelDone | Outcome]:
    """Sample the posterior of one slice; the last item is its `Outcome`.

    Args:
        problem: The slice.
        sampler: The sampler.
        seed: Of all randomness; the same seed gives the same samples on the same kind of device.
        n: Number of samples.
        device: Where to compute.
        memory_gb: For particles handled side by side.
        index: Number of the slice, for messages.
        checkpoint: A file that is kept up to date; where it is there already, of the same slice
            and seed, the run goes on from it.
    """
    target = Target(problem, n, chunk_size(problem.shape, n, memory_gb), device)
    draw = Draw(seed, n, device)
    key = f"{type(sampler).__name__} {list(seed)} {n} {problem.shape}"
    progress = (load(checkpoint, draw, key) if checkpoint else None) or Progress()
    target.network_calls = progress.network_calls
    start = time.perf_counter() - progress.seconds
    total = len(sampler.levels(target))
    with Keeper(checkpoint, progress, key) as keeper:
        for state, info in run(target, sampler, draw, progress.state, progress.infos):
            _take_in(progress, problem, sampler.images(target, state) if info.final else None)
            progress.state, progress.network_calls = state, target.network_calls
            progress.infos.append(info)
            progress.seconds = time.perf_counter() - start
            progress.draw = draw.dump()
            keeper.level_done()
            done = len(progress.infos)
            left = progress.seconds / done * max(total - done, 0)
            yield LevelDone(index, done, max(total, done), info.noise_level, info.ess, left)
    if not progress.particles.count:
        raise TiltkitError("The sampler collected no samples.", "set sampler.collect to 1 or more.")
    diagnostics = _certificate(target, sampler, progress)
    diagnostics |= dict(problem.facts) | {
        "seconds": time.perf_counter() - start,
        "peak_memory_mb": _peak_memory_mb(device),
        "device": str(device),
        "seed": seed[0],
    }
    yield _outcome(problem, sampler.images(target, _last(progress)), progress, diagnostics)


def _take_in(progress: Progress, problem: Problem, x: torch.Tensor | None) -> None:
    """Add samples (n, channel, *space) to the statistics."""
    if x is not None:
        progress.particles.add(x)
        progress.images.add(problem.to_image(x))
        progress.quantiles.add(problem.to_image(x))


def _last(progress: Progress) -> State:
    if progress.state is None:
        raise TiltkitError("The sampler visited no level.", "check the sampler's levels.")
    return progress.state


def _certificate(target: Target, sampler: Sampler, progress: Progress) -> dict[str, Any]:
    """All diagnostics that do not depend on the machine."""
    infos, state = progress.infos, _last(progress)
    report = ladder_report(infos, target.n, weighted=sampler.weighted)
    with torch.inference_mode():
        mean = progress.particles.mean.to(target.dtype)
        samples = sampler.images(target, state)
        report |= data_fit(target, mean, samples)
        divergence = fisher(target, sampler, state)
    if divergence is not None:
        report["fisher"] = divergence
    report |= {
        "network_calls": target.network_calls,
        "samples_averaged": progress.particles.count,
        "verdict": verdict(report),
    }
    return report


def _outcome(
    problem: Problem, x: torch.Tensor, progress: Progress, diagnostics: Mapping[str, Any]
) -> Outcome:
    def host(image: torch.Tensor) -> Any:
        return image.float().cpu().numpy()

    phase = problem.phase
    return Outcome(
        mean=host(progress.images.mean),
        std=host(progress.images.std),
        quantiles={q: host(image) for q, image in progress.quantiles.at(QUANTILES).items()},
        samples=host(problem.to_image(x)),
        baseline=host(problem.baseline),
        phase=None if phase is None else host(phase(progress.particles.mean.to(x.dtype))),
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
