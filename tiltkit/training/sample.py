"""Images drawn from a prior alone, without data: what it believes in."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

from tiltkit.priors.denoiser import DenoiserPrior
from tiltkit.sampling.ladder import ladder

__all__ = ["unconditional"]


def unconditional(
    prior: DenoiserPrior, shape: tuple[int, ...], seed: int, device: torch.device, levels: int = 64
) -> Tensor:
    """Images (batch, channel, row, column) by the prior's reverse kernel down the noise ladder.

    From level a to b < a: mean ``x + (a^2 - b^2) score(x, a)``, variance
    ``b^2 (a^2 - b^2) / a^2``, as particles move in the samplers when nothing was measured.
    """
    low, high = prior.sigma_range
    generator = torch.Generator().manual_seed(seed)
    steps = ladder(high, low, levels)

    def noise() -> Tensor:
        return torch.randn(shape, generator=generator).to(device)

    x = high * noise()
    for a, b in pairwise(steps):
        gap = a**2 - b**2
        x = x + gap * prior.score(x, a) + b / a * math.sqrt(gap) * noise()
    return x + low**2 * prior.score(x, low)
