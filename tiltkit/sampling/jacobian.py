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
        self._scale = 1.0

    def add(self, rows: slice, v: Tensor, jv: Tensor, scale: float = 1.0) -> None:
        """Set the sums of a chunk of particles.

        Args:
            rows: The particles of the chunk.
            v: Directions (particle, ...).
            jv: ``scale J v``, shaped as ``v``.
            scale: Length of the difference that ``jv`` was measured with; the same for all chunks.
        """
        both = self._bands.coefficients(torch.stack([jv, v]))
        sums = self._bands.sums((both * both[1]).flatten(0, 1))
        self._sums[:, rows] = sums.view(2, *self._sums[0, rows].shape)
        self._scale = scale

    @property
    def means(self) -> Tensor:
        """The estimate from the sums over all particles, (band,); 0 for a band without sums."""
        return self._quotient(self._sums.sum(1))

    @property
    def medians(self) -> Tensor:
        """The median over particles of the estimate from each particle, (band,).

        A particle between two modes has a far larger Jacobian than one inside a mode, and would
        dominate the mean.
        """
        return self._quotient(self._sums).median(0).values

    def _quotient(self, sums: Tensor) -> Tensor:
        products, squares = sums
        # Without sums both are 0, and so is the quotient.
        quotient: Tensor = products / squares.clamp_min(1e-300)
        return quotient.div_(self._scale).clamp_(0, 1)


def inner(a: Tensor, b: Tensor) -> Tensor:
    """Inner products of particles (particle, ...), float64 (particle,)."""
    return (a * b).flatten(1).sum(1, dtype=torch.float64)
