"""Unconditional samples of a prior by ancestral sampling down its noise levels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Generator, Tensor

from tiltkit.priors.score import reverse_variance, score_of
from tiltkit.protocols import Prior

__all__ = ["along", "ancestral", "denoised", "step_down"]


def denoised(prior: Prior, x: Tensor, sigma: float) -> Tensor:
    """Posterior mean of clean images, by Tweedie's formula.

    Raises:
        PluginError: The prior fails, or returns no score; see `score_of`.
    """
    return x + sigma**2 * score_of(prior, x, sigma)


def step_down(x: Tensor, clean: Tensor, high: float, low: float, xi: Tensor) -> Tensor:
    """Images at noise level ``low`` given those at ``high``, from the prior's reverse kernel.

    ``x_low`` is Gaussian given ``x_high`` and the clean image; here the posterior mean replaces
    the clean image, so the mean of ``x_low`` is exact and its variance lacks that of the clean
    image (DDPM's ancestral sampling, arXiv:2006.11239).
    """
    keep = (low / high) ** 2
    return keep * x + (1 - keep) * clean + math.sqrt(reverse_variance(high, low)) * xi


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

    The last step returns the posterior mean at the lowest level.
    """
    x = sigmas[0] * torch.randn(tuple(shape), generator=generator).to(device)
    for a, b in pairwise(sigmas):
        xi = torch.randn(tuple(shape), generator=generator).to(device)
        x = step_down(x, denoised(prior, x, a), a, b, xi)
    return denoised(prior, x, sigmas[-1])
