"""Ratios of sums over all particles: how much a network bends, measured on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from tiltkit.sampling.target import Target

__all__ = ["Ratio", "inner"]


class Ratio:
    """``sum <a, b> / (scale sum <a, a>)`` over all particles, clamped to [0, 1].

    With ``b = J a`` for a Jacobian of a denoiser that is its mean diagonal, weighted by ``a^2``.
    The sums of particles are added in the same order for any chunk size.
    """

    def __init__(self, target: Target) -> None:
        self._sums = torch.zeros((2, target.n), dtype=torch.float64, device=target.device)

    def add(self, rows: slice, a: Tensor, b: Tensor, scale: float = 1.0) -> None:
        """Take in a chunk of particles."""
        self._sums[0, rows] = inner(a, b) / scale
        self._sums[1, rows] = inner(a, a)

    @property
    def value(self) -> float:
        """The ratio; 0 where nothing was taken in."""
        top, bottom = self._sums.sum(1).tolist()
        return min(max(top / bottom, 0.0), 1.0) if bottom > 0 else 0.0


def inner(a: Tensor, b: Tensor) -> Tensor:
    """Inner products of particles (particle, ...), float64 (particle,)."""
    return (a * b).flatten(1).sum(1, dtype=torch.float64)
