"""Running estimate of the diagonal of a denoiser's Jacobian, per band of coordinates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from tiltkit.operators.bands import Bands

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from tiltkit.sampling.target import Target

__all__ = ["JacobianDiagonal", "joined"]

# Smallest divisor: where squares are 0, products are 0 and so is the estimate.
TINY = 1e-300


class JacobianDiagonal:
    """Estimate of ``diag(J)`` per band from products ``J v``: ``<v, J v> / <v, v>`` in [0, 1].

    For white noise ``v`` this is Hutchinson's estimator of ``tr J / dim``. The Jacobian of an exact
    denoiser at noise level a is ``Cov[x0 | x_a] / a^2``, so its eigenvalues are not negative. The
    sums are kept per particle, so that the estimate does not depend on the chunk size.

    Args:
        target: The problem; gives the device.
        bands: Bands of the coordinates of ``v``; one band for all coordinates without it.
    """

    def __init__(self, target: Target, bands: Bands | None = None) -> None:
        self._bands, self._device = bands or Bands(), target.device
        self._parts: dict[int, Tensor] = {}  # (product or square, particle, band), by chunk
        self._scale = 1.0

    def add(self, rows: slice, v: Tensor, jv: Tensor, scale: float = 1.0) -> Tensor:
        """Set the sums of a chunk of particles.

        Args:
            rows: The particles of the chunk.
            v: Directions (particle, ...).
            jv: ``scale J v``, shaped as ``v``.
            scale: Length of the difference that ``jv`` was measured with; the same for all chunks.

        Returns:
            ``<v, jv>`` and ``<v, v>`` by band, (2, particle, band) float64.
        """
        return self.add_pair(rows, torch.stack([jv, v]), scale)

    def add_pair(self, rows: slice, pair: Tensor, scale: float = 1.0) -> Tensor:
        """As `add`, with ``jv`` and ``v`` in one tensor (2, particle, ...)."""
        pair = self._bands.coefficients(pair)
        sums = self._bands.sums((pair * pair[1]).flatten(0, 1)).view(2, -1, self._bands.count)
        self._parts[rows.start], self._scale = sums, scale
        return sums

    @property
    def means(self) -> list[float]:
        """The estimate from the sums over all particles, per band; 0 for a band without sums.

        One copy from the device, which has to be ready.
        """
        return self.means_of(self.sums.cpu().numpy())

    def means_of(self, sums: NDArray[np.float64]) -> list[float]:
        """The `means` from a copy of the `sums` on the host."""
        products, squares = sums.sum(1)
        quotient = products / np.maximum(squares, TINY) / self._scale
        means: list[float] = quotient.clip(0, 1).tolist()
        return means

    def mean_of(self, sums: NDArray[np.float64]) -> float:
        """The estimate for all bands together, ``tr J / dim``, from a copy of the `sums`."""
        return self.means_of(sums.sum(2, keepdims=True))[0]

    def scaled_means(self, factor: float) -> Tensor:
        """``factor`` times the `means`, (band,) float64, on the device."""
        return self._quotient(self.sums.sum(1)).mul_(factor / self._scale)

    @property
    def medians(self) -> Tensor:
        """The median over particles of the estimate from each particle, (band,), on the device.

        A particle between two modes has a far larger Jacobian than one inside a mode, and would
        dominate the mean.
        """
        medians = self._quotient(self.sums).median(0).values
        return medians if self._scale == 1 else medians / self._scale

    @property
    def sums(self) -> Tensor:
        """``<v, jv>`` and ``<v, v>`` by particle and band, (2, particle, band) float64."""
        if not self._parts:
            return torch.zeros(2, 1, self._bands.count, dtype=torch.float64, device=self._device)
        return joined([self._parts[start] for start in sorted(self._parts)], 1)

    def _quotient(self, sums: Tensor) -> Tensor:
        """The estimate times the scale."""
        products, squares = sums
        quotient: Tensor = products / squares.clamp_min(TINY)
        return quotient.clamp_(0, self._scale)


def joined(parts: Sequence[Tensor], axis: int = 0) -> Tensor:
    """Tensors of all chunks in one; that of a single chunk is not copied."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), axis)
