"""Random numbers: one generator per particle, so answers do not depend on how work is chunked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

__all__ = ["ParticleRng"]


class ParticleRng:
    """The randomness of one run.

    Args:
        seed: Any nonnegative integers; ``(seed, slice)`` gives slices their own stream, and
            ``(seed, slice, group)`` independent groups of particles.
        n: Number of particles.
        device: Where normal numbers are drawn.
    """

    def __init__(self, seed: Sequence[int], n: int, device: torch.device) -> None:
        states = np.random.SeedSequence(seed[0], spawn_key=seed[1:]).generate_state(
            n + 1, np.uint64
        )
        seeds = [int(state >> np.uint64(1)) for state in states]
        self._shared = torch.Generator().manual_seed(seeds[0])
        self._own = [torch.Generator(device).manual_seed(s) for s in seeds[1:]]
        self.device = device

    def normal(self, rows: slice, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Standard normal (particle, *shape), real, for the particles ``rows``."""
        own = self._own[rows]
        xi = torch.empty((len(own), *shape), dtype=dtype, device=self.device)
        for item, generator in zip(xi, own, strict=True):
            item.normal_(generator=generator)
        return xi

    def dump(self) -> Tensor:
        """The state of all generators (particle + 1, bytes), to go on with the same numbers."""
        states = [g.get_state() for g in (self._shared, *self._own)]
        width = max(len(state) for state in states)
        # The shared generator lives on the CPU, whose state is longer than that of a GPU.
        padded = [torch.nn.functional.pad(state, (0, width - len(state))) for state in states]
        return torch.stack(padded)

    def restore(self, states: Tensor) -> None:
        """Put back what `dump` gave."""
        # A copy: torch wants the state aligned, and that of a file may not be.
        for generator, state in zip((self._shared, *self._own), states, strict=True):
            generator.set_state(state[: len(generator.get_state())].cpu().clone())

    def uniform(self) -> float:
        """One number in [0, 1), shared by all particles."""
        return float(torch.rand((), generator=self._shared, dtype=torch.float64))
