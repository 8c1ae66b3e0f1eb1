"""Posterior moments of independent numbers with Gaussian priors, by quadrature."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Moments", "posterior_moments"]

# Log density below that of the mode at which integration ends: e^-12 of the mass is lost.
_DEPTH = 12.0
# Bisections of the end on a logarithmic scale, and the narrowest posterior, in standard deviations
# of the prior. The end is then known within a factor of 1.06.
_BISECTIONS, _NARROWEST = 8, 1e-6
# Nodes on each side of the mode: moments of a Gaussian are then exact to 1e-5.
_NODES = 12


class Moments(NamedTuple):
    """Mean and variance of independent numbers."""

    mean: Tensor
    variance: Tensor


def posterior_moments(
    potential: Callable[[Tensor], Tensor], mode: Tensor, mean: Tensor, variance: Tensor
) -> Moments:
    """Moments of the densities proportional to ``N(t; mean, variance) exp(-potential(t))``.

    Gauss-Legendre quadrature on each side of the mode, as far as the density is not negligible.
    Densities must fall on both sides of the mode.

    Args:
        potential: Elementwise function of tensors shaped as ``mean``.
        mode: Modes of the densities, float64.
        mean: Prior means.
        variance: Prior variances, positive; broadcast to ``mean``.
    """
    lowest = potential(mode) + (mode - mean).square() / (2 * variance)

    def depth(t: Tensor) -> Tensor:
        return potential(t) + (t - mean).square() / (2 * variance) - lowest

    ends = [sign * _width(depth, mode, sign, variance) for sign in (-1, 1)]
    zeroth, first, second = (torch.zeros_like(mode) for _ in range(3))
    for node, weight in _legendre(_NODES):
        for end in ends:
            offset = node * end
            mass = weight * end.abs() * (-depth(mode + offset)).exp()
            zeroth += mass
            first += mass * offset
            second += mass * offset.square()
    shift = first / zeroth
    return Moments(mode + shift, second / zeroth - shift.square())


def _width(depth: Callable[[Tensor], Tensor], mode: Tensor, sign: int, variance: Tensor) -> Tensor:
    """Distance from the mode to one side where ``depth`` is about `_DEPTH`."""
    high = (2 * _DEPTH * variance).sqrt().expand_as(mode).log()  # of the prior alone
    low = high + math.log(_NARROWEST)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        inside = depth(mode + sign * middle.exp()) < _DEPTH
        low, high = middle.where(inside, low), high.where(inside, middle)
    return high.exp()


@lru_cache(maxsize=1)
def _legendre(nodes: int) -> list[tuple[float, float]]:
    """Nodes and weights on [0, 1]."""
    x, w = np.polynomial.legendre.leggauss(nodes)
    return [(float((a + 1) / 2), float(b / 2)) for a, b in zip(x, w, strict=True)]
