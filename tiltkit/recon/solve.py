"""Sampling of one problem: samples, statistics and certificate of one slice."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Collection, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tiltkit.likelihoods import GaussianLikelihood
from tiltkit.posterior.average import StreamingMean
from tiltkit.posterior.certificate import data_fit, ladder_report, training_distance_report
from tiltkit.posterior.further import further_images
from tiltkit.posterior.moments import Moments, Quantiles
from tiltkit.posterior.outcome import QUANTILES, FurtherImage, Outcome
from tiltkit.posterior.rhat import independent_samples, merge_levels, split_rhat
from tiltkit.posterior.separation import separation_report
from tiltkit.posterior.stein import stein_report
from tiltkit.posterior.verdict import find_verdict
from tiltkit.posterior.warnings import find_warnings
from tiltkit.priors.wrapper import fallback_of
from tiltkit.recon.baseline import to_host, without_prior
from tiltkit.recon.pixels import find_pixel_map
from tiltkit.recon.shares import with_shares_tested
from tiltkit.sampling.run import Group, side_by_side
from tiltkit.sampling.settle import further_rounds
from tiltkit.sampling.target import Target, chunk_size

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from tiltkit.problem import Problem
    from tiltkit.sampling.state import Sampler

__all__ = ["DEFAULT_MEMORY_GB", "LevelDone", "cpu_threads", "peak_memory_mb", "solve"]

DEFAULT_MEMORY_GB = 1.0
# Far from the numbers of independent runs, which are parts of seeds too.
SHARES_SEED = 1_000_000


@dataclass(frozen=True, slots=True)
class LevelDone:
    """A noise level of a slice is finished; ``seconds_left`` is the estimated remaining time."""

    index: int
    level: int
    n_levels: int
    noise_level: float
    ess: float
    seconds_left: float


# The process that imported this module; its forks have other numbers.
_PROCESS = os.getpid()


@contextmanager
def cpu_threads(number: int | None) -> Iterator[None]:
    """Set the number of CPU threads of torch within a block.

    A forked process always uses one thread: after computations with several threads in its parent,
    OpenMP would wait for threads that do not exist in the fork.

    Args:
        number: Number of threads; None leaves torch's setting.
    """
    number = number if os.getpid() == _PROCESS else 1
    before = torch.get_num_threads()
    if number:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        if number:
            torch.set_num_threads(before)


def solve(
    problems: Sequence[Problem],
    sampler: Sampler,
    *,
    seed: tuple[int, ...],
    n: int,
    devices: Sequence[torch.device],
    runs: int = 1,
    memory_gb: float = DEFAULT_MEMORY_GB,
    index: int = 0,
    checkpoint: Path | None = None,
    dtype: torch.dtype = torch.float32,
    test_shares: bool = False,
) -> Generator[LevelDone | Outcome, None, None]:
    """Sample the posterior of one slice; the last item is its `Outcome`.

    Args:
        problems: The problem of the slice, once per device.
        sampler: The sampler.
        seed: Seed of all random numbers; the same seed and number of runs give the same samples on
            the same kind of device, for any number of devices.
        n: Number of samples.
        devices: Devices; the runs are distributed over them.
        runs: Independent groups that the samples are divided into, at most ``n``.
        memory_gb: Memory for particles that are computed together on a device.
        index: Number of the slice, for messages.
        checkpoint: File with the current state; every run but the first adds its number to the
            name. If it exists, with the same slice and seed, the run continues from it.
        dtype: Real type of the particles and of the images in the outcome.
        test_shares: Test the shares of separate explanations: see `with_shares_tested`.
    """
    start = time.perf_counter()
    groups = []
    for run in range(runs):
        problem, device = problems[run % len(problems)], devices[run % len(devices)]
        share = n // runs + (run < n % runs)
        singles_gb = memory_gb * torch.float32.itemsize / dtype.itemsize
        chunk = chunk_size(problem.shape, share, singles_gb)
        target = Target(problem, share, chunk, device, dtype)
        own = _checkpoint(checkpoint, run)
        groups.append(Group(target, sampler, (*seed, run) if run else seed, own))
    total = runs * len(sampler.levels(groups[0].target))
    lanes = [
        _one_after_another(groups[lane :: len(devices)]) for lane in range(min(len(devices), runs))
    ]
    for group in side_by_side(lanes):
        done = sum(len(one.progress.infos) for one in groups)
        seconds = sum(one.progress.seconds for one in groups) / len(lanes)
        info = group.progress.infos[-1]
        left = seconds / done * max(total - done, 0)
        yield LevelDone(index, done, max(total, done), info.noise_level, info.ess, left)
    outcome = _outcome(groups, seed, start)
    if test_shares:

        def again(problem: Problem, number: int) -> Iterator[LevelDone | Outcome]:
            # Further runs have seeds of their own; numbers may be negative.
            own = (*seed, SHARES_SEED + number)
            return solve([problem], sampler, seed=own, n=n, devices=devices[:1], runs=runs,
                         memory_gb=memory_gb, index=index, dtype=dtype)  # fmt: skip

        outcome = with_shares_tested(outcome, problems[0], again, seed[0])
    yield outcome


def _checkpoint(first: Path | None, run: int) -> Path | None:
    return first.with_name(f"{first.name}.{run}") if first and run else first


def _one_after_another(groups: Sequence[Group]) -> Iterator[Group]:
    """Compute all levels of one group, then those of the next."""
    for group in groups:
        yield from group.levels()


def _outcome(groups: Sequence[Group], seed: Sequence[int], start: float) -> Outcome:
    """Combine images and certificates of all groups."""
    device = groups[0].target.device
    problem = groups[0].target.problem
    with torch.inference_mode():
        x = torch.cat([group.samples().to(device) for group in groups])
        images = reduce(Moments.merged, (group.progress.images for group in groups))
        particles = reduce(Moments.merged, (group.progress.particles for group in groups))
        quantiles = reduce(Quantiles.merged, (group.progress.quantiles for group in groups))
        shares = [g.progress.mean.image.to(device) * (g.target.n / len(x)) for g in groups]
        mean, std = torch.stack(shares).sum(0), images.std(len(x))
        # The written mean is judged; where it is of magnitudes, that of the samples instead.
        pixels, mean_particle = find_pixel_map(problem, x), particles.mean.to(x)
        mean_particle = pixels.particle(mean, mean_particle) if pixels else mean_particle
        diagnostics = _certificate(groups, x, mean_particle)
        further = further_images(problem, mean, std, x, particles.mean)
    view = problem.field_of_view
    if view is not None:
        further = {name: _within(one, view.cpu().numpy()) for name, one in further.items()}
    diagnostics = (
        dict(problem.facts)
        | diagnostics
        | {
            "seconds": _seconds(groups, start),
            "peak_memory_mb": peak_memory_mb({group.target.device for group in groups}),
            "device": ", ".join(dict.fromkeys(str(group.target.device) for group in groups)),
            "seed": seed[0],
            "notes": problem.notes,
        }
    )

    def host(image: torch.Tensor) -> Any:
        return to_host(image.to(groups[0].target.dtype), problem)

    phase = problem.phase
    spread = 1.0 if len(x) > 1 else torch.nan  # one sample has none
    return Outcome(
        mean=host(mean),
        std=host(std),
        quantiles={q: host(image * spread) for q, image in quantiles.at(QUANTILES).items()},
        samples=host(problem.to_image(x)),
        baseline=host(without_prior(problem, x[:1])),
        phase=None if phase is None else host(phase(particles.mean.to(x.dtype))),
        diagnostics=diagnostics,
        particles=x.to(groups[0].target.dtype).cpu().numpy(),
        further=further,
    )


def _within(image: FurtherImage, view: NDArray[np.bool_]) -> FurtherImage:
    """A further image with NaN outside of the field of view."""
    return replace(image, values=np.where(view, image.values, np.nan).astype(image.values.dtype))


def _certificate(groups: Sequence[Group], x: torch.Tensor, mean: torch.Tensor) -> dict[str, Any]:
    """Diagnostics that do not depend on the computer.

    Args:
        groups: All groups.
        x: Their samples (n, channel, *space).
        mean: Posterior mean (channel, *space) in the prior's units.
    """
    first, sampler = groups[0].target, groups[0].sampler
    problem, sizes = first.problem, [group.target.n for group in groups]
    infos = merge_levels([group.progress.infos for group in groups])
    shared_ancestry = max(group.state.shared_ancestry for group in groups)
    independent = sum(independent_samples(n, shared_ancestry) for n in sizes)
    # A sampler without weights may have started over with them.
    weighted = sampler.weighted or any(group.state.started_over for group in groups)
    report = ladder_report(infos, len(x), weighted=weighted)
    report["settling_rounds"] = max(
        further_rounds(sampler, group.target, group.progress.infos) for group in groups
    )
    report["prior_noise_min"] = float(problem.prior.sigma_range[0])
    report |= data_fit(problem.likelihood, mean, x, first.chunk, independent)
    report |= separation_report(problem.likelihood, x, first.chunk)
    report |= training_distance_report(problem.prior, x)
    free = torch.cat([group.particles().to(x.device) for group in groups])
    report |= stein_report(
        problem, free, _scores(groups, x), independent, first.chunk, _round_ratios(groups)
    )
    halves = [group.progress.halves for group in groups]
    report |= split_rhat(halves, sizes, shared_ancestry)
    shares = [n / len(x) for n in sizes]
    report |= {
        "approximated": not isinstance(problem.likelihood, GaussianLikelihood),
        "network_calls": sum(
            share * group.target.network_calls for share, group in zip(shares, groups, strict=True)
        ),
    }
    fallback = fallback_of(problem.prior)
    return report | find_verdict(report).figures() | {"warnings": find_warnings(report, fallback)}


def _scores(groups: Sequence[Group], x: torch.Tensor) -> torch.Tensor | None:
    """Scores of the prior at the samples of all groups; None where the sampler has no target."""
    scores = [group.sampler.scores(group.target, group.state) for group in groups]
    known = [score.to(x.device) for score in scores if score is not None]
    return torch.cat(known) if len(known) == len(groups) else None


def _round_ratios(groups: Sequence[Group]) -> tuple[torch.Tensor, tuple[int, ...]] | None:
    """Variance of the samples over rounds, over that of the last round, by frequency band.

    Averaged over groups, with the shape of an image; None where a group has a single sample or
    round.
    """
    if any(group.target.n < 2 or group.progress.particles.count == group.target.n
           for group in groups):  # fmt: skip
        return None
    ratios: list[torch.Tensor] = []
    for group in groups:
        last, images = StreamingMean(), group.target.problem.to_image(group.samples())
        last.add(images, torch.ones(len(images), dtype=torch.float64))
        ratio = group.progress.mean.round_scatter / last.scatter.clamp_min(1e-300)
        ratios.append(torch.where(last.scatter > 0, ratio, 1.0).cpu())
    return torch.stack(ratios).mean(0), tuple(images.shape[1:])


def _seconds(groups: Sequence[Group], start: float) -> float:
    """Computing time of the slice in seconds, including that of earlier, stopped runs."""
    here = time.perf_counter() - start
    lanes = len({group.target.device for group in groups})
    return max(here, sum(group.progress.seconds for group in groups) / lanes)


def peak_memory_mb(devices: Collection[torch.device]) -> float:
    """Peak memory of the process so far: on the GPUs where they are used, of the host elsewhere.

    NaN on systems that do not measure it, such as Windows.
    """
    if all(device.type == "cuda" for device in devices):
        return sum(torch.cuda.max_memory_allocated(device) for device in devices) / 1e6
    try:
        import resource
    except ImportError:
        return math.nan
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
