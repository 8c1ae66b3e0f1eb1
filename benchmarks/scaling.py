"""How the engine's time and memory grow with particles, pixels, levels and coils.

The problem is that of engine.py (several coils, undersampled columns), one thing growing at a time
from 8 particles, 128x128, 4 levels, 8 coils. Two tables are printed.

Time: the exponent k of ``seconds ~ size^k``, fitted to the fastest of some runs, for whole runs
with the shipped network, for the engine by itself (the same run with a prior that costs next to
nothing), and for the eigendecomposition that a problem needs once. 1 is linear; an image row of
nx pixels costs nx^2 in the algebra of several coils, so that 1.5 in pixels is what to expect of
the engine; the algebra knows no coils, so that 0 is what to expect there.

Memory at 256x256: the peak of a process that runs the sampler, less that of one that prepares the
same problem and only calls the network on one chunk, which is the network's own need. The
difference is given per particle, in tensors of the size of an image (2 channels, float32); the
target is at most 12. In one chunk, temporaries exist for all particles at a time.

    python benchmarks/scaling.py --sampler twisted
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache
from math import prod

import numpy as np
import torch
from engine import problem_of, shipped_prior

from tiltkit.problem import Problem
from tiltkit.sampling.particles.rng import ParticleRng
from tiltkit.sampling.run import run
from tiltkit.sampling.samplers.twisted import Twisted, TwistedOptions
from tiltkit.sampling.samplers.walmc import Walmc, WalmcOptions
from tiltkit.sampling.state import Sampler
from tiltkit.sampling.target import Target

SAMPLERS: dict[str, Callable[[int], Sampler]] = {
    "twisted": lambda levels: Twisted(TwistedOptions(levels=levels, collect=0)),
    "walmc": lambda levels: Walmc(WalmcOptions(levels=levels, collect=0, start_moves=1)),
}
AXES = {
    "particles": (4, 8, 16, 32),
    "side": (64, 96, 128, 192, 256),
    "levels": (4, 8, 16, 32),
    "coils": (2, 4, 8, 16, 32),
}
MOST_TENSORS = 12


@dataclass(frozen=True)
class Size:
    """Of a run; ``chunk`` particles are handled side by side."""

    particles: int = 8
    side: int = 128
    levels: int = 4
    coils: int = 8
    chunk: int = 4


class FreePrior:
    """A standard normal: its score costs one multiplication per pixel."""

    channels, sigma_range, value_range = 2, (0.01, 10.0), ""

    def score(self, x: torch.Tensor, sigma: float) -> torch.Tensor:
        """See `Prior`."""
        return x * (-1 / (1 + sigma**2))


def sampled(problem: Problem, size: Size, sampler: str) -> float:
    """Seconds of a run."""
    start = time.perf_counter()
    target = Target(problem, size.particles, size.chunk)
    for _ in run(
        target, SAMPLERS[sampler](size.levels), ParticleRng([0], size.particles, target.device)
    ):
        pass
    return time.perf_counter() - start


def exponent(sizes: list[int], seconds: list[float]) -> float:
    """Slope of a straight line through the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def times(prior: object, size: Size, sampler: str, repeats: int) -> tuple[float, float]:
    """Seconds of the fastest run, and of the eigendecomposition."""
    problem, decomposition = problem_of(prior, size.side, size.coils)
    return min(sampled(problem, size, sampler) for _ in range(repeats)), decomposition


def time_table(sampler: str, repeats: int, precision: str) -> None:
    """Print one line per axis and kind of work."""
    print("grows      time of            exponent   seconds at each size", flush=True)
    for axis, values in AXES.items():
        name = "pixels" if axis == "side" else axis
        sizes = [value**2 if axis == "side" else value for value in values]
        rows: dict[str, list[float]] = {"network run": [], "engine": [], "eigendecomposition": []}
        for value in values:
            size = replace(Size(), **{axis: value})
            seconds, _ = times(shipped_prior(precision), size, sampler, repeats)
            rows["network run"].append(seconds)
            seconds, once = times(FreePrior(), size, sampler, 2 * repeats)
            rows["engine"].append(seconds)
            rows["eigendecomposition"].append(once)
        if axis in ("particles", "levels"):
            del rows["eigendecomposition"]
        for work, seconds in rows.items():
            cells = "  ".join(f"{n}: {s:.3g}" for n, s in zip(sizes, seconds, strict=True))
            print(f"{name:10} {work:18} {exponent(sizes, seconds):8.2f}   {cells}", flush=True)


@cache
def peak(size: Size, sampler: str, precision: str) -> float:
    """Peak memory in bytes of a new process that runs, or (no sampler) only calls the network."""
    what = json.dumps({"size": asdict(size), "sampler": sampler, "precision": precision})
    command = [sys.executable, __file__, "--job", what]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def job(size: Size, sampler: str, precision: str) -> None:
    """What such a process does; it prints its peak."""
    problem, _ = problem_of(shipped_prior(precision), size.side, size.coils)
    if sampler:
        sampled(problem, size, sampler)
    else:
        with torch.inference_mode():
            problem.prior.score(torch.randn(size.chunk, *problem.shape), 1.0)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def memory_table(sampler: str, precision: str, particles: list[int]) -> None:
    """Print one line per number of particles, in chunks and in one go."""
    image = prod((2, 256, 256)) * 4
    print(
        f"\nparticles  chunk  run MB  network alone MB  image tensors/particle (<= {MOST_TENSORS})"
    )
    for whole in (False, True):
        peaks = []
        for n in particles:
            size = Size(n, 256, 3, 8, n if whole else 4)
            peaks.append(peak(size, sampler, precision))
            alone = peak(replace(size, particles=size.chunk), "", precision)
            print(f"{n:9} {size.chunk:6} {peaks[-1] / 1e6:7.0f} {alone / 1e6:17.0f}"
                  f" {(peaks[-1] - alone) / n / image:23.1f}", flush=True)  # fmt: skip
        if not whole:
            more = (peaks[-1] - peaks[0]) / (particles[-1] - particles[0])
            print(f"from {particles[0]} to {particles[-1]} particles, chunks of 4:"
                  f" {more / image:.1f} image tensors for each more", flush=True)  # fmt: skip


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sampler", choices=SAMPLERS, default="twisted")
    parser.add_argument("--precision", choices=["auto", "float32", "bfloat16"], default="auto")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--particles", type=int, nargs="+", default=[16, 32, 64],
                        help="of the table of memory")  # fmt: skip
    parser.add_argument("--no-time", action="store_true", help="leave out the table of time")
    parser.add_argument("--no-memory", action="store_true", help="leave out that of memory")
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.job:
        job(Size(**args.job["size"]), args.job["sampler"], args.job["precision"])
        return
    print(f"sampler {args.sampler}")
    if not args.no_time:
        time_table(args.sampler, args.repeats, args.precision)
    if not args.no_memory:
        memory_table(args.sampler, args.precision, args.particles)


if __name__ == "__main__":
    main()
