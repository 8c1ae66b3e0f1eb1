"""One group of particles from its start to its samples: levels, statistics, a checkpoint."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tiltkit.errors import TiltkitError
from tiltkit.sampling.draw import Draw
from tiltkit.sampling.progress import Keeper, Progress, load
from tiltkit.sampling.run import run

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from tiltkit.sampling.state import Sampler, State
    from tiltkit.sampling.target import Target

__all__ = ["Group"]


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

    def levels(self) -> Iterator[Group]:
        """Go down the ladder, from the checkpoint where there is one; yield after every level."""
        target, sampler = self.target, self.sampler
        draw = Draw(self.seed, target.n, target.device)
        key = f"{type(sampler).__name__} {list(self.seed)} {target.n} {target.problem.shape}"
        progress = (load(self.checkpoint, draw, key) if self.checkpoint else None) or self.progress
        self.progress = progress
        target.network_calls = progress.network_calls
        start = time.perf_counter() - progress.seconds
        collected = _rounds(sampler)
        with Keeper(self.checkpoint, progress, key) as keeper:
            for state, info in run(target, sampler, draw, progress.state, progress.infos):
                if state.expected is not None:
                    progress.mean.expect(state.expected)
                if info.final:
                    rounds = sum(info.final for info in progress.infos)
                    self._take_in(sampler.images(target, state), late=2 * rounds >= collected)
                progress.state, progress.network_calls = state, target.network_calls
                progress.infos.append(info)
                progress.seconds = time.perf_counter() - start
                progress.draw = draw.dump()
                keeper.level_done()
                yield self
            keeper.finished()

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

    def samples(self) -> Tensor:
        """The particles at the end (particle, channel, *space), as the prior sees them."""
        return self.sampler.images(self.target, self.state)

    def _take_in(self, x: Tensor, *, late: bool) -> None:
        """Add samples (particle, channel, *space) to the statistics."""
        images = self.target.problem.to_image(x)
        self.progress.particles.add(x)
        self.progress.halves[late].add(images)
        self.progress.quantiles.add(images)
        self.progress.mean.collect(images)


def _rounds(sampler: Sampler) -> int:
    """Rounds that a sampler collects, as its options say; 0 where they do not."""
    return int(getattr(getattr(sampler, "options", None), "collect", 0))
