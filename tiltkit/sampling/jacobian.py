"""Ratios of sums over all particles: how much a network bends, measured on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from tiltkit.operators.bands import Bands

if TYPE_CHECKING:
    from torch import Tensor

    from tiltkit.sampling.target import Target

__all__ = ["JacobianDiagonal", "inner"]


class JacobianDiagonal:
    """``sum <a, b> / (scale sum <a, a>)`` over all particles, in each band, clamped to [0, 1].

    With ``b = J a`` for a Jacobian of a denoiser that is its mean diagonal, weighted by ``a^2``.
    The sums of particles are added in the same order for any chunk size.

    Args:
        target: Whose particles they are.
        bands: Of the coordinates of ``a`` and ``b``.
    """

    def __init__(self, target: Target, bands: Bands | None = None) -> None:
        self._bands = bands or Bands()
        shape = (2, target.n, self._bands.count)
        self._sums = torch.zeros(shape, dtype=torch.float64, device=target.device)

    def add(self, rows: slice, a: Tensor, b: Tensor, scale: float = 1.0) -> None:
        """Take in a chunk of particles."""
        self._sums[0, rows] = self._bands.inner(a, b) / scale
        self._sums[1, rows] = self._bands.inner(a, a)

    @property
    def values(self) -> list[float]:
        """The ratio in each band; 0 where nothing was taken in."""
        top, bottom = self._sums.sum(1)
        ratios: list[float] = torch.where(bottom > 0, top / bottom, 0.0).clamp(0, 1).tolist()
        return ratios

    @property
    def typical(self) -> list[float]:
        """The median over particles of the ratio of each, in each band.

        Particles between two modes bend by much, and would outweigh all that have found theirs.
        """
        top, bottom = self._sums
        ratios = torch.where(bottom > 0, top / bottom, 0.0).clamp(0, 1)
        medians: list[float] = ratios.median(0).values.tolist()
        return medians

    @property
    def value(self) -> float:
        """The ratio of all where there is one band."""
        return self.values[0]


def inner(a: Tensor, b: Tensor) -> Tensor:
    """Inner products of particles (particle, ...), float64 (particle,)."""
    return (a * b).flatten(1).sum(1, dtype=torch.float64)
