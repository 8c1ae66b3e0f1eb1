"""Running estimate of the diagonal of a denoiser's Jacobian, per band of coordinates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from tiltkit.operators.bands import Bands

if TYPE_CHECKING:
    from torch import Tensor

    from tiltkit.sampling.target import Target

__all__ = ["JacobianDiagonal", "inner"]


class JacobianDiagonal:
    """Estimate of ``diag(J)`` per band from products ``J v``: ``<v, J v> / <v, v>`` in [0, 1].

    For white noise ``v`` this is Hutchinson's estimator of ``tr J / dim``. The Jacobian of an exact
    denoiser at noise level a is ``Cov[x0 | x_a] / a^2``, so its eigenvalues are not negative. The
    sums are kept per particle, so that the estimate does not depend on the chunk size.

    Args:
        target: The problem; gives the number of particles and the device.
        bands: Bands of the coordinates of ``v``; one band for all coordinates without it.
    """

    def __init__(self, target: Target, bands: Bands | None = None) -> None:
        self._bands = bands or Bands()
        shape = (2, target.n, self._bands.count)
        self._sums = torch.zeros(shape, dtype=torch.float64, device=target.device)

    def add(self, rows: slice, v: Tensor, jv: Tensor, scale: float = 1.0) -> None:
        """Set the sums of a chunk of particles.

        Args:
            rows: The particles of the chunk.
            v: Directions (particle, ...).
            jv: ``scale J v``, shaped as ``v``.
            scale: Length of the difference that ``jv`` was measured with.
        """
        self._sums[0, rows] = self._bands.inner(v, jv) / scale
        self._sums[1, rows] = self._bands.inner(v, v)

    @property
    def means(self) -> list[float]:
        """The estimate from the sums over all particles, per band; 0 for a band without sums."""
        products, squares = self._sums.sum(1)
        means: list[float] = _quotient(products, squares).tolist()
        return means

    @property
    def medians(self) -> list[float]:
        """The median over particles of the estimate from each particle, per band.

        A particle between two modes has a far larger Jacobian than one inside a mode, and would
        dominate the mean.
        """
        products, squares = self._sums
        medians: list[float] = _quotient(products, squares).median(0).values.tolist()
        return medians

    @property
    def mean(self) -> float:
        """The estimate of the only band: ``tr J / dim``."""
        return self.means[0]


def _quotient(products: Tensor, squares: Tensor) -> Tensor:
    return torch.where(squares > 0, products / squares, 0.0).clamp(0, 1)


def inner(a: Tensor, b: Tensor) -> Tensor:
    """Inner products of particles (particle, ...), float64 (particle,)."""
    return (a * b).flatten(1).sum(1, dtype=torch.float64)
