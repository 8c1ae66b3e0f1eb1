"""Forward operators of Cartesian MRI whose normal operator is diagonalised once."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import torch

from tiltkit.errors import UsageError
from tiltkit.operators.hartley import frequencies
from tiltkit.operators.spectral import Diagonalised
from tiltkit_mri.folded import fold
from tiltkit_mri.fourier import fft, ifft
from tiltkit_mri.images import check_maps, to_complex, to_real

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["CartesianSense", "MaskedFourier"]

# Bytes of blocks that are built and diagonalised at once: bounds the memory.
_BLOCK_BYTES = 2**26
# Eigenvalues below this share of the largest are 0 in single precision, and the squares of
# eigenvectors below this are, too.
_SINGULAR, _ROUNDING = 1e-6, 1e-4


class CartesianSense(Diagonalised):
    """Several coils, k-space undersampled along its columns only.

    The rows of k-space (the readout) are complete, so after an inverse FFT along them every image
    row is a separate problem: ``A^H A`` splits into one Hermitian ``nx x nx`` block for each of
    the ``ny`` rows. The blocks are diagonalised on first use; after that every function of
    ``A^H A`` costs two batched matrix products, and no FFT.

    An object that is wider than the field of view folds over: image columns one field of view
    apart add up. Then the image is wider than k-space, and ``at`` is the column of the field of
    view where each of its columns appears.

    Args:
        maps: Coil sensitivities (coil, ny, width), complex.
        columns: Measured columns of k-space, bool (nx,).
        at: Integers (width,) from 0 to nx - 1; None where width is nx and columns are in order.

    Images are (n, 2, ny, width), measurements complex (n, coil, ny, measured columns), spectral
    coordinates complex (n, ny, width).
    """

    def __init__(self, maps: Tensor, columns: Tensor, at: Tensor | None = None) -> None:
        check_maps(maps)
        width = columns.numel() if at is None else at.numel()
        if columns.ndim != 1 or maps.shape[-1] != width or not bool(columns.any()):
            raise UsageError(
                f"The sampling has {int(columns.sum())} of {columns.numel()} columns,"
                f" the maps have {maps.shape[-1]} columns.",
                "give one bool per column, at least one of them true.",
            )
        self.maps = maps
        self.at = None if at is None else at.to(maps.device)
        self.n_columns = columns.numel()
        self.columns = columns.nonzero().squeeze(1).to(maps.device)

    def forward(self, x: Tensor) -> Tensor:
        """Measured k-space (n, coil, ny, measured columns)."""
        image = to_complex(x)
        # One coil after the other: memory does not grow with the number of coils.
        folded = (fold(maps * image, self.n_columns, self.at) for maps in self.maps)
        coils = [fft(one)[..., self.columns] for one in folded]
        return torch.stack(coils, dim=1)

    def adjoint(self, y: Tensor) -> Tensor:
        """Zero-filled images, combined over coils."""
        n_coils, ny, width = self.maps.shape
        image = y.new_zeros(len(y), ny, width)
        for c in range(n_coils):
            full = y.new_zeros(len(y), ny, self.n_columns)
            full[..., self.columns] = y[:, c]
            image += self.maps[c].conj() * self._unfold(ifft(full))
        return to_real(image)

    def _unfold(self, image: Tensor) -> Tensor:
        """The adjoint of `tiltkit_mri.folded.fold`."""
        return image if self.at is None else image[..., self.at]

    @property
    def eigenvalues(self) -> Tensor:  # type: ignore[override]  # computed on first use
        """Eigenvalues of the blocks (ny, width), nonnegative."""
        return self._eigen[0]

    def to_spectral(self, x: Tensor) -> Tensor:
        """(n, 2, ny, width) to complex (n, ny, width)."""
        return torch.bmm(to_complex(x).transpose(0, 1), self._eigen[1]).transpose(0, 1)

    def from_spectral(self, coordinates: Tensor) -> Tensor:
        """Complex (n, ny, width) to (n, 2, ny, width)."""
        # U c as conj(conj(U) conj(c)): the large matrices are never conjugated.
        rows = torch.bmm(coordinates.conj().transpose(0, 1), self._eigen[1].mT)
        return to_real(rows.conj().transpose(0, 1))

    def spectral_white(self, xi: Tensor) -> Tensor:
        """White noise stays white under the blocks' unitary matrices: a view of ``xi``."""
        n, _, ny, nx = xi.shape
        return torch.view_as_complex(xi.reshape(n, ny, nx, 2))

    @cached_property
    def _eigen(self) -> tuple[Tensor, Tensor]:
        """Eigenvalues (ny, width) and conjugate eigenvectors ``conj(U)`` (ny, width, width).

        Conjugate, since images are transformed to spectral coordinates more often than back.
        """
        _, ny, width = self.maps.shape
        values = torch.empty(ny, width, dtype=self.maps.real.dtype, device=self.maps.device)
        vectors = self.maps.new_empty(ny, width, width)
        spread = self._point_spread()
        step = max(1, _BLOCK_BYTES // (width**2 * self.maps.element_size()))
        for first in range(0, ny, step):
            rows = slice(first, first + step)
            s = self.maps[:, rows].transpose(0, 1)  # (row, coil, width)
            # Eigenvectors of the conjugate block are conjugate ones of the block. On a CPU this
            # driver (divide and conquer, single precision) is the fastest: relatively robust
            # representations take twice, double precision three times, QR four times as long. On a
            # GPU it is done there; whether the CPU would be faster was not measured.
            values[rows], vectors[rows] = torch.linalg.eigh(spread.conj() * (s.mT @ s.conj()))
        return values.clamp_min_(0), vectors

    def normal_diagonal(self) -> Tensor:
        """Diagonal of ``A^H A`` (ny, nx)."""
        return self.maps.abs().square().sum(0) * (len(self.columns) / self.n_columns)

    def inverse_diagonal(self) -> Tensor:
        """Diagonal of ``(A^H A)^-1`` (ny, nx).

        Infinite where the data do not determine a pixel: where eigenvectors with an eigenvalue of 0
        hold more than rounding errors of it.
        """
        return self._inverse_diagonal

    @cached_property
    def _inverse_diagonal(self) -> Tensor:
        values, vectors = self._eigen
        weights = vectors.abs().square()  # (row, column, eigenvalue)
        singular = values <= _SINGULAR * values.max()
        inverse = torch.where(singular, 0.0, 1 / values)
        diagonal = (weights @ inverse[..., None]).squeeze(-1)
        unknown = (weights @ singular.to(weights)[..., None]).squeeze(-1)
        return diagonal.where(unknown < _ROUNDING, torch.inf)

    def _point_spread(self) -> Tensor:
        """``F^H M F`` of one row (width, width): the point spread function of undersampling."""
        identity = torch.eye(self.n_columns, dtype=self.maps.dtype, device=self.maps.device)
        transform = self._unfold(fft(identity, (0,))[self.columns])
        return transform.mH @ transform


class MaskedFourier(Diagonalised):
    """One coil with even sensitivity, any points of k-space measured.

    Args:
        mask: Measured points, bool (ny, nx).

    Images are (n, 2, ny, nx), measurements complex (n, points) in row-major order, spectral
    coordinates are the k-space (n, ny, nx).
    """

    def __init__(self, mask: Tensor) -> None:
        if mask.ndim != 2 or mask.dtype != torch.bool or not bool(mask.any()):
            raise UsageError(
                f"The sampling mask has shape {tuple(mask.shape)}, type {mask.dtype} and"
                f" {int(mask.count_nonzero())} points.",
                "give a bool mask (ny, nx) with at least one point.",
            )
        self.mask = mask
        self.eigenvalues = mask.to(torch.float32)
        self.frequency = torch.fft.fftshift(frequencies(mask.shape)).to(mask.device)

    def forward(self, x: Tensor) -> Tensor:
        """Measured points (n, points)."""
        return self.to_spectral(x)[:, self.mask]

    def adjoint(self, y: Tensor) -> Tensor:
        """Zero-filled images."""
        full = y.new_zeros(len(y), *self.mask.shape)
        full[:, self.mask] = y
        return self.from_spectral(full)

    def normal_diagonal(self) -> Tensor:
        """Diagonal of ``A^H A`` (ny, nx): the share of measured points."""
        return self.eigenvalues.mean().expand(self.mask.shape)

    def inverse_diagonal(self) -> Tensor:
        """Diagonal of ``(A^H A)^-1`` (ny, nx): 1, or infinite where any point is missing."""
        value = 1.0 if bool(self.mask.all()) else torch.inf
        return torch.full_like(self.eigenvalues, value)

    def to_spectral(self, x: Tensor) -> Tensor:
        """(n, 2, ny, nx) to complex (n, ny, nx)."""
        return fft(to_complex(x))

    def from_spectral(self, coordinates: Tensor) -> Tensor:
        """Complex (n, ny, nx) to (n, 2, ny, nx)."""
        return to_real(ifft(coordinates))

    def spectral_white(self, xi: Tensor) -> Tensor:
        """White noise stays white under a unitary Fourier transform: a view of ``xi``."""
        return torch.view_as_complex(xi.reshape(len(xi), *self.mask.shape, 2))
