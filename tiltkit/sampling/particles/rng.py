"""Random numbers: one generator per particle, so that samples do not depend on the chunk size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

__all__ = ["ParticleRng"]


class ParticleRng:
    """Random generators of one run: one per particle, and one that all particles share.

    Args:
        seed: Nonnegative integers, at least one. ``(seed, slice)`` gives each slice its own stream,
            ``(seed, slice, group)`` each independent group of particles.
        n: Number of particles.
        device: Device of the normal numbers; a CPU and a GPU give different ones.
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
        """Real standard normal numbers (particle, *shape) for the particles ``rows``."""
        own = self._own[rows]
        xi = torch.empty((len(own), *shape), dtype=dtype, device=self.device)
        for item, generator in zip(xi, own, strict=True):
            item.normal_(generator=generator)
        return xi

    def dump(self) -> Tensor:
        """States of all generators (particle + 1, bytes) uint8, for `restore`."""
        states = [g.get_state() for g in (self._shared, *self._own)]
        width = max(len(state) for state in states)
        # The shared generator is a CPU one, whose state is longer than that of a GPU.
        padded = [torch.nn.functional.pad(state, (0, width - len(state))) for state in states]
        return torch.stack(padded)

    def restore(self, states: Tensor) -> None:
        """Set all generators to the states that `dump` returned."""
        # A copy, since torch needs aligned memory and tensors of a file may not be aligned.
        for generator, state in zip((self._shared, *self._own), states, strict=True):
            generator.set_state(state[: len(generator.get_state())].cpu().clone())

    def uniform(self) -> float:
        """One uniform number in [0, 1) for all particles."""
        return float(torch.rand((), generator=self._shared, dtype=torch.float64))
