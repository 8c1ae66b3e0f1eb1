"""Random numbers: one generator per particle, so answers do not depend on how work is chunked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

__all__ = ["Draw"]


class Draw:
    """The randomness of one run.

    Args:
        seed: Any nonnegative integers; ``(seed, slice)`` gives slices their own stream.
        n: Number of particles.
        device: Where normal numbers are drawn.
    """

    def __init__(self, seed: Sequence[int], n: int, device: torch.device) -> None:
        states = np.random.SeedSequence(list(seed)).generate_state(n + 1, np.uint64)
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

    def uniform(self) -> float:
        """One number in [0, 1), shared by all particles."""
        return float(torch.rand((), generator=self._shared, dtype=torch.float64))
