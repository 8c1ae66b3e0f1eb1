"""Drive samplers down their levels: one group of particles, or several side by side.

`run` is a generator, so that progress bars, saving and statistics are loops around it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import torch

from tiltkit.errors import TiltkitError, UsageError
from tiltkit.sampling.checkpoint import CheckpointWriter, Progress, load
from tiltkit.sampling.particles.rng import ParticleRng
from tiltkit.sampling.problem_digest import digest_of
from tiltkit.sampling.settle import further_rounds

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from tiltkit.posterior.level import Info
    from tiltkit.sampling.state import Sampler, State
    from tiltkit.sampling.target import Target

__all__ = ["Group", "pick_devices", "run", "side_by_side"]

T = TypeVar("T")


@torch.inference_mode()  # for each level: between levels the caller's code runs as it did
def run(
    target: Target,
    sampler: Sampler,
    rng: ParticleRng,
    state: State | None = None,
    infos: Sequence[Info] = (),
) -> Iterator[tuple[State, Info]]:
    """Yield the state after every level.

    Args:
        target: The problem, made ready.
        sampler: The sampler.
        rng: Randomness.
        state: After the last of the levels that are done already; None to start.
        infos: Of these levels.

    Raises:
        TiltkitError: A prior or operator gave NaN or infinite values.
    """
    visited = list(infos)
    while (level := sampler.next_level(target, state, visited)) is not None:
        level = float(level)  # a numpy number would become part of records that are stored as JSON
        if state is None:
            state, info = sampler.init(target, level, rng)
        else:
            before = state.started_over
            state, info = sampler.step(target, state, level, rng)
            if state.started_over != before:
                visited.clear()
        visited.append(info)
        _check_finite(state, info)
        yield state, info


def _check_finite(state: State, info: Info) -> None:
    # A sum is finite only when all its terms are: one pass, one number back from the device.
    total = float(torch.dot(state.c.reshape(-1), state.score.reshape(-1)))
    if not math.isfinite(total + float(state.log_weight.sum())):
        raise TiltkitError(
            f"The samples became NaN or infinite at noise level {info.noise_level:.3g}.",
            "check that the prior fits this noise level and the data are scaled to its range,"
            " or use a smaller step.",
        )


@dataclass
class Group:
    """Particles that share their weights; other groups know nothing of them.

    Attributes:
        target: The problem, for the particles of this group.
        sampler: The sampler.
        seed: Of all randomness of the group.
        checkpoint: A file that is kept up to date, or None.
        progress: How far the group is.
    """

    target: Target
    sampler: Sampler
    seed: tuple[int, ...]
    checkpoint: Path | None
    progress: Progress = field(default_factory=Progress)

    @torch.inference_mode()
    def levels(self) -> Iterator[Group]:
        """Go down the ladder, from the checkpoint where there is one; yield after every level."""
        target, sampler = self.target, self.sampler
        rng = ParticleRng(self.seed, target.n, target.device)
        digest = digest_of(target, sampler, self.seed) if self.checkpoint else None
        if self.checkpoint and digest:
            self.progress = load(self.checkpoint, rng, digest) or self.progress
        progress = self.progress
        target.network_calls = progress.network_calls
        start = time.perf_counter() - progress.seconds
        with CheckpointWriter(self.checkpoint, progress, digest) as writer:
            for state, info in run(target, sampler, rng, progress.state, progress.infos):
                with writer.level():
                    self._take_in(state, info)
                    progress.seconds = time.perf_counter() - start
                    progress.rng = rng.dump()
                yield self
            writer.finished()

    @property
    def state(self) -> State:
        """After the last level.

        Raises:
            TiltkitError: There was none, or none that collected samples.
        """
        if self.progress.state is None:
            raise TiltkitError("The sampler visited no level.", "check the sampler's levels.")
        if not self.progress.particles.count:
            raise TiltkitError(
                "The sampler collected no samples.", "set sampler.collect to 1 or more."
            )
        return self.progress.state

    def particles(self) -> Tensor:
        """Particles of the last target (particle, channel, *space), in the prior's value range."""
        return self.sampler.images(self.target, self.state)

    def samples(self) -> Tensor:
        """The particles as samples that meet the problem's constraint, shaped as `particles`."""
        return self.target.finish(self.particles())

    def _take_in(self, state: State, info: Info) -> None:
        """Add a level, and its samples where it has some, to the progress."""
        progress, constraint = self.progress, self.target.problem.constraint
        if progress.state is not None and state.started_over != progress.state.started_over:
            progress.start_over()
        if (denoised := state.denoised_mean) is not None and self.target.averages_denoised:
            progress.mean.add_denoised_mean(denoised)
        if info.final:
            if further_rounds(self.sampler, self.target, [*progress.infos, info]):
                progress.restart_samples()  # the rounds before had not settled
            rounds = sum(info.final for info in progress.infos)
            late = 2 * rounds >= _rounds(self.sampler)
            free = self.sampler.images(self.target, state)
            x = self.target.finish(free)
            to_image = self.target.problem.to_image
            images = to_image(x)
            progress.particles.add(x)
            progress.halves[late].add(images)
            progress.quantiles.add(images)
            if constraint is not None and constraint.nonnegative:
                progress.mean.add_samples(to_image(free), images)
            else:
                progress.mean.add_samples(images)
        progress.state, progress.network_calls = state, self.target.network_calls
        progress.infos.append(info)


def _rounds(sampler: Sampler) -> int:
    """Rounds that a sampler collects, as its options say; 0 where they do not."""
    return int(getattr(getattr(sampler, "options", None), "collect", 0))


def side_by_side(lanes: Sequence[Iterator[T]]) -> Iterator[T]:
    """Yield what any lane yields, as it comes; a single lane runs in the caller's own thread.

    Kernels of several GPUs run at the same time as long as each has a thread that starts them. A
    lane that raises, or a caller who stops early, closes all lanes after their current item.
    """
    if len(lanes) == 1:
        yield from lanes[0]
        return
    with ThreadPoolExecutor(len(lanes)) as pool:
        running = {pool.submit(next, lane, None): lane for lane in lanes}
        try:
            while running:
                for done in wait(running, return_when=FIRST_COMPLETED).done:
                    lane, item = running.pop(done), done.result()
                    if item is not None:
                        running[pool.submit(next, lane, None)] = lane
                        yield item
        finally:
            wait(running)
            for lane in lanes:
                if isinstance(lane, Generator):
                    lane.close()


def pick_devices(names: str) -> list[torch.device]:
    """The devices of a name, or of several ones with commas; ``auto`` is the fastest there is.

    Raises:
        UsageError: No such device here.
    """
    return [_device(name.strip()) for name in names.split(",")]


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.zeros(1, device=name, dtype=torch.float64)
    except TypeError as error:  # Apple's GPUs
        raise UsageError(
            f"The device {name!r} has no double precision, which weights and statistics need.",
            "use the device cpu.",
        ) from error
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(f"There is no device {name!r} here.", "use the device auto.") from error
    return torch.device(name)
