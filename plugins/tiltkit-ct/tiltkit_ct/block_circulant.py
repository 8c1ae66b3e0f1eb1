"""``A A^H`` of fan beams of a full turn as a block-circulant matrix, to precondition solves with.

Turning the object turns its projections: the correlation of projections at two angles depends on
the difference of the angles alone, except that pixels are squares. For directions that are evenly
spaced over the circle ``A A^H`` is therefore block-circulant, and a Fourier transform over the
directions leaves one real symmetric matrix (column, column) for each angular frequency. Each ray
of a fan beam is counted at the angle of its own direction, not of its projection: a phase for each
column. Angles that are not evenly spaced are treated as if they were, which is accurate enough
for a preconditioner.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

from tiltkit_ct.directions import circle_gaps

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["BlockCirculant", "PlanarScan", "block_circulant", "full_turn"]

# Pixels whose projections are transformed at once: bounds the memory.
_BATCH = 128
# Pixels of the image whose projections are averaged, for each column of the detector.
_PIXELS = 8


class PlanarScan(Protocol):
    """Geometry of a scan in one plane, and its projections of single pixels; see `FanBeam`."""

    angles: Tensor
    shape: tuple[int, int]
    n_columns: int

    @property
    def fan_angles(self) -> Tensor:
        """Directions of the rays of each column (column,)."""
        ...

    def pixel_projections(self, pixels: Tensor) -> Tensor:
        """Projections (angle, column, n) of single pixels (n,)."""
        ...


@dataclass(frozen=True, slots=True)
class BlockCirculant:
    """Eigenvectors and eigenvalues of the block-circulant matrix nearest to ``A A^H``.

    Attributes:
        order: Indices that sort projections by direction (n_angles,).
        vectors: (frequency, column, eigen), orthogonal.
        values: (frequency, eigen), nonnegative.
        diagonal: Diagonal of ``A A^H``, by column (column,).
        phase: (frequency, column), complex.
    """

    order: Tensor
    vectors: Tensor
    values: Tensor
    diagonal: Tensor
    phase: Tensor

    def apply(self, r: Tensor, function: Tensor) -> Tensor:
        """A function (frequency, eigen) of the matrix times measurements (n, angle, column)."""
        n, n_angles, _ = r.shape
        spectrum = torch.fft.rfft(r[:, self.order], dim=1) * self.phase.conj()
        z = torch.view_as_real(spectrum).permute(1, 3, 0, 2)
        z = z.reshape(len(z), 2 * n, -1) @ self.vectors
        z = (function[:, None] * z) @ self.vectors.mT
        z = z.reshape(len(z), 2, n, -1).permute(2, 0, 3, 1).contiguous()
        spectrum = torch.view_as_complex(z) * self.phase
        result = torch.empty_like(r)
        result[:, self.order] = torch.fft.irfft(spectrum, n=n_angles, dim=1)
        return result


def block_circulant(scan: PlanarScan) -> BlockCirculant:
    """The block-circulant matrix nearest to ``A A^H`` for angles that are evenly spaced."""
    order = scan.angles.double().remainder(2 * math.pi).argsort()
    phase = _phase(scan)
    matrices, diagonal = _averaged(scan, order, phase)
    values, vectors = torch.linalg.eigh(matrices)
    return BlockCirculant(order, vectors, values.clamp_min(0), diagonal, phase)


def full_turn(angles: Tensor) -> bool:
    """True where no gap between the projections around the circle exceeds 90 degrees."""
    return float(circle_gaps(angles, 2 * math.pi).max()) < math.pi / 2


def _phase(scan: PlanarScan) -> Tensor:
    """Phase (frequency, column) that turns the ray of a column into the direction of the middle."""
    m = torch.arange(len(scan.angles) // 2 + 1, device=scan.angles.device)
    turned = m[:, None] * scan.fan_angles
    return torch.polar(torch.ones_like(turned), turned).to(scan.angles.dtype.to_complex())


def _averaged(scan: PlanarScan, order: Tensor, phase: Tensor) -> tuple[Tensor, Tensor]:
    """``A A^H``, averaged over all turns of the image: its matrices (frequency, column, column).

    The mean over only some turns has negative eigenvalues, and wrong ones where those of
    ``A A^H`` are small, which costs iterations. Few pixels are enough: turned by all angles they
    differ by their distance from the axis alone.

    Returns:
        The matrices, and the diagonal of ``A A^H`` (column,).
    """
    n, n_columns, angles = len(order), scan.n_columns, scan.angles
    matrices = angles.new_zeros(n // 2 + 1, n_columns, n_columns)
    diagonal = angles.new_zeros(n_columns)
    pixels = _by_distance(scan)
    for first in range(0, len(pixels), _BATCH):
        rows = scan.pixel_projections(pixels[first : first + _BATCH])[order]
        diagonal += rows.square().sum((0, 2))
        z = torch.fft.rfft(rows, dim=0) * phase.conj()[..., None]
        # The real part of z z^H: a turn to the left is one to the right.
        z = torch.cat([z.real, z.imag], 2)
        matrices.baddbmm_(z, z.mT)
    share = len(pixels) / math.prod(scan.shape) * n
    return matrices / share, diagonal / share


def _by_distance(scan: PlanarScan) -> Tensor:
    """Some pixels of the image, evenly over all distances from the axis (k,)."""
    ny, nx = scan.shape
    y, x = torch.arange(ny) - (ny - 1) / 2, torch.arange(nx) - (nx - 1) / 2
    distance = torch.hypot(y[:, None], x).flatten()
    step = max(len(distance) // (_PIXELS * scan.n_columns), 1)
    return distance.argsort(stable=True)[step // 2 :: step]
