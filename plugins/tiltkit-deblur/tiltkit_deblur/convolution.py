"""Convolution with a point spread function on a periodic grid, diagonal in a real transform."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from tiltkit.errors import UsageError
from tiltkit.operators.hartley import frequencies, hartley
from tiltkit.operators.spectral import Diagonalised

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

__all__ = ["Convolution"]


class Convolution(Diagonalised):
    """Periodic convolution of every image with the same kernel.

    ``A^T A`` is a convolution with an even kernel, and so diagonal in the Hartley transform, which
    is real, orthogonal and its own inverse: one value per pixel, white noise stays white.

    Args:
        kernel: Odd sides, its middle element is the position of the point; (z, y, x) or (y, x).
        shape: Shape of the images, ``space``; at least that of the kernel.

    Images and measurements are (n, 1, *space), spectral coordinates (n, 1, *space).
    """

    def __init__(self, kernel: Tensor, shape: Sequence[int]) -> None:
        if len(shape) != kernel.ndim or any(
            k % 2 == 0 or k > n for k, n in zip(kernel.shape, shape, strict=False)
        ):
            raise UsageError(
                f"A kernel of {tuple(kernel.shape)} does not fit images of {tuple(shape)}.",
                "give a kernel of as many axes, with odd sides no longer than the image's.",
            )
        self.shape = tuple(shape)
        self._axes = tuple(range(-len(shape), 0))
        padded = kernel.new_zeros(self.shape)
        padded[tuple(slice(k) for k in kernel.shape)] = kernel
        centred = padded.roll([-(k // 2) for k in kernel.shape], self._axes)
        self._otf = torch.fft.rfftn(centred, dim=self._axes)
        full = torch.fft.fftn(centred, dim=self._axes)
        self.eigenvalues = full.real.square() + full.imag.square()
        self.frequency = frequencies(self.shape).to(kernel.device)

    def forward(self, x: Tensor) -> Tensor:
        """Blurred images."""
        return self._filter(x, self._otf)

    def adjoint(self, y: Tensor) -> Tensor:
        """Images blurred with the mirrored kernel."""
        return self._filter(y, self._otf.conj())

    def to_spectral(self, x: Tensor) -> Tensor:
        """Hartley coordinates."""
        return hartley(x, self._axes)

    def from_spectral(self, coordinates: Tensor) -> Tensor:
        """Back to images: the transform is its own inverse."""
        return hartley(coordinates, self._axes)

    def data_preconditioner(
        self, variance: Tensor, c: float | Tensor
    ) -> Callable[[Tensor], Tensor]:
        """``D^-1 (I + c A A^T / v)^-1 D^-1`` with ``D^2`` the variances and ``v`` a typical one.

        Exact for uniform noise; else exact at frequencies that the blur removes.
        """
        spread = variance.sqrt()
        typical = 1 / (1 / variance).mean()
        gain = 1 / (1 + c / typical * self.eigenvalues)

        def solve(r: Tensor) -> Tensor:
            return self.from_spectral(gain * self.to_spectral(r / spread)) / spread

        return solve

    def _filter(self, x: Tensor, response: Tensor) -> Tensor:
        spectrum = torch.fft.rfftn(x, dim=self._axes)
        filtered: Tensor = torch.fft.irfftn(spectrum.mul_(response), s=self.shape, dim=self._axes)
        return filtered
