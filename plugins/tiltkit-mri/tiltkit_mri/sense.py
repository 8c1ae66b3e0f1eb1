"""Forward operator of Cartesian MRI with several coils and any points of k-space measured."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from tiltkit.errors import UsageError
from tiltkit.operators.cg import conjugate_gradient

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["MaskedSense"]

# Bytes of coil images that are transformed at once: bounds the memory, and fits caches.
_BLOCK_BYTES = 2**24


class MaskedSense:
    """Several coils, any points of k-space measured: ``M F S``.

    ``S`` multiplies the image by the coil sensitivities, ``F`` is the unitary Fourier transform and
    ``M`` picks the measured points. No transform diagonalises ``A^H A`` for such masks, so that
    systems are solved by conjugate gradients; where whole columns are measured,
    `tiltkit_mri.operators.CartesianSense` is faster.

    Args:
        maps: Coil sensitivities (coil, ny, nx), complex.
        mask: Measured points, bool (ny, nx), with the centre of k-space at ``ny // 2, nx // 2``.

    Images are (n, 2, ny, nx), measurements complex (n, coil, points) in row-major order of the
    points.
    """

    def __init__(self, maps: Tensor, mask: Tensor) -> None:
        if maps.ndim != 3 or not maps.is_complex():
            raise UsageError(
                f"Sensitivity maps have shape {tuple(maps.shape)} and type {maps.dtype}.",
                "give complex maps (coil, ny, nx).",
            )
        if mask.shape != maps.shape[1:] or mask.dtype != torch.bool or not bool(mask.any()):
            raise UsageError(
                f"The sampling mask has shape {tuple(mask.shape)}, type {mask.dtype} and"
                f" {int(mask.count_nonzero())} points; the maps have {tuple(maps.shape[1:])}"
                " pixels.",
                "give a bool mask of the shape of the maps with at least one point.",
            )
        self.maps, self.mask = maps, mask
        # The transforms below have their origin in the corner: everything is shifted once here.
        self._maps = torch.fft.ifftshift(maps, dim=(-2, -1))
        corner = torch.arange(mask.numel(), device=maps.device).view(mask.shape)
        self._points = torch.fft.fftshift(corner)[mask.to(maps.device)]

    def forward(self, x: Tensor) -> Tensor:
        """Measured points (n, coil, points)."""
        image = torch.fft.ifftshift(torch.complex(x[:, 0], x[:, 1]), dim=(-2, -1))[:, None]
        y: Tensor = self._maps.new_empty(len(x), len(self._maps), len(self._points))
        for coils in self._blocks(len(x)):
            kspace = torch.fft.fft2(self._maps[coils] * image, norm="ortho").flatten(-2)
            y[:, coils] = kspace.index_select(-1, self._points)
        return y

    def adjoint(self, y: Tensor) -> Tensor:
        """Zero-filled images, combined over coils."""
        _, ny, nx = self._maps.shape
        image = y.new_zeros(len(y), ny, nx)
        for coils in self._blocks(len(y)):
            part = y[:, coils]
            kspace = y.new_zeros(*part.shape[:2], ny * nx).index_copy_(-1, self._points, part)
            images = torch.fft.ifft2(kspace.view(*part.shape[:2], ny, nx), norm="ortho")
            image += images.mul_(self._maps[coils].conj()).sum(1)
        parts = torch.stack([image.real, image.imag], dim=1)
        shifted: Tensor = torch.fft.fftshift(parts, dim=(-2, -1))
        return shifted

    def normal(self, x: Tensor) -> Tensor:
        """``A^H A x``."""
        return self.adjoint(self.forward(x))

    def solve(self, alpha: float, beta: float, b: Tensor) -> Tensor:
        """``(alpha I + beta A^H A)^-1 b`` by batched conjugate gradients."""
        return conjugate_gradient(self.normal, b, alpha, beta)[0]

    def _blocks(self, n: int) -> Iterator[slice]:
        """Coils whose images are transformed together, for a batch of ``n``."""
        n_coils, ny, nx = self._maps.shape
        step = max(1, _BLOCK_BYTES // (n * ny * nx * self._maps.element_size()))
        return (slice(first, first + step) for first in range(0, n_coils, step))
