"""A prior's own way from noise to images, by its denoiser alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Generator, Tensor

from tiltkit.priors.score import score_of
from tiltkit.protocols import Prior

__all__ = ["along", "ancestral", "denoised", "step_down"]


def denoised(prior: Prior, x: Tensor, sigma: float) -> Tensor:
    """Posterior mean of clean images, by Tweedie's formula.

    Raises:
        TiltkitError: As `score_of`: what a run refuses is no prior here, either.
    """
    return x + sigma**2 * score_of(prior, x, sigma)


def step_down(x: Tensor, clean: Tensor, high: float, low: float, xi: Tensor) -> Tensor:
    """Images at noise ``low`` given those at ``high``: the reverse kernel of the prior.

    ``x_low`` is Gaussian given ``x_high`` and the clean image; the posterior mean stands for the
    clean image, so the mean of ``x_low`` is exact and its variance lacks that of the clean image.
    """
    keep = (low / high) ** 2
    spread = low * math.sqrt(1 - keep)
    return keep * x + (1 - keep) * clean + spread * xi


def ancestral(
    prior: Prior, shape: Sequence[int], *, steps: int, generator: Generator, device: str = "cpu"
) -> Tensor:
    """Unconditional samples (batch, channel, h, w) by steps down a geometric ladder."""
    low, high = prior.sigma_range
    sigmas = torch.logspace(math.log10(high), math.log10(low), steps, dtype=torch.float64).tolist()
    return along(prior, shape, sigmas, generator=generator, device=device)


def along(
    prior: Prior,
    shape: Sequence[int],
    sigmas: Sequence[float],
    *,
    generator: Generator,
    device: str = "cpu",
) -> Tensor:
    """Unconditional samples (batch, channel, h, w) by steps down given noise levels.

    The last one is the posterior mean at the last of them.
    """
    x = sigmas[0] * torch.randn(tuple(shape), generator=generator).to(device)
    for a, b in pairwise(sigmas):
        xi = torch.randn(tuple(shape), generator=generator).to(device)
        x = step_down(x, denoised(prior, x, a), a, b, xi)
    return denoised(prior, x, sigmas[-1])
