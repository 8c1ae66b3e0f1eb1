"""Forward operator of Cartesian MRI with several coils and any points of k-space measured."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from tiltkit.errors import UsageError
from tiltkit.operators.cg import conjugate_gradient
from tiltkit_mri.folded import fold
from tiltkit_mri.images import check_maps, to_complex, to_real

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
        maps: Coil sensitivities (coil, ny, width), complex.
        mask: Measured points, bool (ny, nx), with the centre of k-space at ``ny // 2, nx // 2``.
        at: Column of the field of view of each column of the maps (width,), where the object is
            wider than it; see `tiltkit_mri.operators.CartesianSense`.

    Images are (n, 2, ny, width), measurements complex (n, coil, points) in row-major order of the
    points.
    """

    def __init__(self, maps: Tensor, mask: Tensor, at: Tensor | None = None) -> None:
        check_maps(maps)
        shape = maps.shape[1:] if at is None else (maps.shape[1], mask.shape[-1])
        if mask.shape != shape or mask.dtype != torch.bool or not bool(mask.any()):
            raise UsageError(
                f"The sampling mask has shape {tuple(mask.shape)}, type {mask.dtype} and"
                f" {int(mask.count_nonzero())} points; the maps have {tuple(maps.shape[1:])}"
                " pixels.",
                "give a bool mask of the shape of the maps with at least one point.",
            )
        self.maps, self.mask = maps, mask
        # The transforms below have their origin in the corner: everything is shifted once here.
        # Folded columns are shifted by their places.
        self._shifted = (-2, -1) if at is None else (-2,)
        self._maps = torch.fft.ifftshift(maps, dim=self._shifted)
        nx = mask.shape[1]
        self._at = None if at is None else ((at - nx // 2) % nx).to(maps.device)
        corner = torch.arange(mask.numel(), device=maps.device).view(mask.shape)
        self._points = torch.fft.fftshift(corner)[mask.to(maps.device)]

    def forward(self, x: Tensor) -> Tensor:
        """Measured points (n, coil, points)."""
        image = torch.fft.ifftshift(to_complex(x), dim=self._shifted)[:, None]
        y: Tensor = self._maps.new_empty(len(x), len(self._maps), len(self._points))
        for coils in self._blocks(len(x)):
            folded = fold(self._maps[coils] * image, self.mask.shape[1], self._at)
            kspace = torch.fft.fft2(folded, norm="ortho").flatten(-2)
            y[:, coils] = kspace.index_select(-1, self._points)
        return y

    def adjoint(self, y: Tensor) -> Tensor:
        """Zero-filled images, combined over coils."""
        ny, nx = self.mask.shape
        image = y.new_zeros(len(y), *self._maps.shape[1:])
        for coils in self._blocks(len(y)):
            part = y[:, coils]
            kspace = y.new_zeros(*part.shape[:2], ny * nx).index_copy_(-1, self._points, part)
            images = torch.fft.ifft2(kspace.view(*part.shape[:2], ny, nx), norm="ortho")
            images = images if self._at is None else images[..., self._at]
            image += images.mul_(self._maps[coils].conj()).sum(1)
        shifted: Tensor = torch.fft.fftshift(to_real(image), dim=self._shifted)
        return shifted

    def normal(self, x: Tensor) -> Tensor:
        """``A^H A x``."""
        return self.adjoint(self.forward(x))

    def normal_diagonal(self) -> Tensor:
        """Diagonal of ``A^H A`` (ny, width)."""
        return self.maps.abs().square().sum(0) * self.mask.double().mean().to(self.maps.real)

    def solve(self, alpha: float, beta: float, b: Tensor) -> Tensor:
        """``(alpha I + beta A^H A)^-1 b`` by batched conjugate gradients."""
        return conjugate_gradient(self.normal, b, alpha, beta)[0]

    def _blocks(self, n: int) -> Iterator[slice]:
        """Coils whose images are transformed together, for a batch of ``n``."""
        n_coils, ny, nx = self._maps.shape
        step = max(1, _BLOCK_BYTES // (n * ny * nx * self._maps.element_size()))
        return (slice(first, first + step) for first in range(0, n_coils, step))
