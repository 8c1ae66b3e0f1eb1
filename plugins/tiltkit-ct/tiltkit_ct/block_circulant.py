"""``A A^H`` of scans in one plane as a block-circulant matrix, to precondition solves with.

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
from typing import TYPE_CHECKING, Protocol, Self

import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["BlockCirculant", "PlanarScan", "block_circulant", "full_turn"]

# Pixels whose projections are transformed at once: bounds the memory.
_BATCH = 128
# Pixels of the image whose projections are averaged, for each column of the detector.
_PIXELS = 8


class PlanarScan(Protocol):
    """Geometry of a scan in one plane, and its projections of single pixels; see `Projector`."""

    angles: Tensor
    shape: tuple[int, int]
    n_columns: int
    axis: float

    @property
    def fan_angles(self) -> Tensor | None:
        """Directions of the rays of each column (column,); None for parallel rays."""
        ...

    def pixel_projections(self, pixels: Tensor) -> Tensor:
        """Projections (angle, column, n) of single pixels (n,)."""
        ...

    def centred(self, pad: tuple[int, int]) -> Self:
        """The scan with columns added on both sides and the axis in their middle."""
        ...


@dataclass(frozen=True, slots=True)
class BlockCirculant:
    """Eigenvectors and eigenvalues of the block-circulant matrix nearest to ``A A^H``.

    Attributes:
        order: Indices that sort projections by direction (n_angles,).
        opposite: True for sorted projections at 180 degrees or more, bool (n_angles,).
        full: Directions cover the full circle; else half of it, and opposite views mirror it.
        vectors: (frequency, column, eigen), orthogonal; columns padded around the axis.
        values: (frequency, eigen), nonnegative.
        diagonal: Diagonal of ``A A^H``, by column (column,).
        pad: Columns added on the left and on the right.
        phase: (frequency, column), complex; None where rays are parallel.
    """

    order: Tensor
    opposite: Tensor
    full: bool
    vectors: Tensor
    values: Tensor
    diagonal: Tensor
    pad: tuple[int, int]
    phase: Tensor | None = None

    def apply(self, r: Tensor, function: Tensor) -> Tensor:
        """A function (frequency, eigen) of the matrix times measurements (n, angle, column)."""
        n, n_angles, n_columns = r.shape
        rows = torch.nn.functional.pad(r[:, self.order], self.pad)
        if not self.full:
            rows = torch.where(self.opposite[:, None], rows.flip(2), rows)
            rows = torch.cat([rows, rows.flip(2)], 1)
        spectrum = torch.fft.rfft(rows, dim=1)
        if self.phase is not None:
            spectrum = spectrum * self.phase.conj()
        z = torch.view_as_real(spectrum).permute(1, 3, 0, 2)
        z = z.reshape(len(z), 2 * n, -1) @ self.vectors
        z = (function[:, None] * z) @ self.vectors.mT
        z = z.reshape(len(z), 2, n, -1).permute(2, 0, 3, 1).contiguous()
        spectrum = torch.view_as_complex(z)
        if self.phase is not None:
            spectrum = spectrum * self.phase
        rows = torch.fft.irfft(spectrum, n=rows.shape[1], dim=1)[:, :n_angles]
        if not self.full:
            rows = torch.where(self.opposite[:, None], rows.flip(2), rows)
        result = torch.empty_like(r)
        result[:, self.order] = rows[..., self.pad[0] : self.pad[0] + n_columns]
        return result


def block_circulant(scan: PlanarScan) -> BlockCirculant:
    """The block-circulant matrix nearest to ``A A^H`` for angles that are evenly spaced."""
    turn, full = scan.angles.double().remainder(2 * math.pi), full_turn(scan.angles)
    direction = turn if full else turn.remainder(math.pi)
    order = direction.argsort()
    pad = (0, 0) if full else _symmetric_padding(scan)
    opposite = torch.zeros_like(order, dtype=torch.bool) if full else (turn >= math.pi)[order]
    phase = _phase(scan)
    matrices, diagonal = _averaged(
        scan if sum(pad) == 0 else scan.centred(pad), order, opposite, full, phase
    )
    values, vectors = torch.linalg.eigh(matrices)
    diagonal = diagonal[pad[0] : pad[0] + scan.n_columns].clone()
    return BlockCirculant(order, opposite, full, vectors, values.clamp_min(0), diagonal, pad, phase)


def full_turn(angles: Tensor) -> bool:
    """True where no gap between the projections around the circle exceeds 90 degrees."""
    turn = angles.double().remainder(2 * math.pi).sort().values
    return float(torch.cat([turn, turn[:1] + 2 * math.pi]).diff().max()) < math.pi / 2


def _phase(scan: PlanarScan) -> Tensor | None:
    """Phase (frequency, column) that turns the ray of a column into the direction of the middle."""
    if scan.fan_angles is None:
        return None
    m = torch.arange(len(scan.angles) // 2 + 1, device=scan.angles.device)
    turned = m[:, None] * scan.fan_angles
    return torch.polar(torch.ones_like(turned), turned).to(scan.angles.dtype.to_complex())


def _symmetric_padding(scan: PlanarScan) -> tuple[int, int]:
    """Columns to add so that the axis is in the middle of a pixel or between two."""
    offset = round(2 * scan.axis) - (scan.n_columns - 1)
    return max(0, -offset), max(0, offset)


def _averaged(
    scan: PlanarScan, order: Tensor, opposite: Tensor, full: bool, phase: Tensor | None
) -> tuple[Tensor, Tensor]:
    """``A A^H``, averaged over all turns of the image: its matrices (frequency, column, column).

    The mean over only some turns has negative eigenvalues, and wrong ones where those of
    ``A A^H`` are small, which costs iterations. Few pixels are enough: turned by all angles they
    differ by their distance from the axis alone.

    Returns:
        The matrices, and the diagonal of ``A A^H`` (column,).
    """
    n = len(order) if full else 2 * len(order)
    n_columns, angles = scan.n_columns, scan.angles
    matrices = angles.new_zeros(n // 2 + 1, n_columns, n_columns)
    diagonal = angles.new_zeros(n_columns)
    pixels = _by_distance(scan)
    for first in range(0, len(pixels), _BATCH):
        rows = scan.pixel_projections(pixels[first : first + _BATCH])[order]
        if not full:
            rows = torch.where(opposite[:, None, None], rows.flip(1), rows)
            rows = torch.cat([rows, rows.flip(1)])  # opposite views are mirror images
        diagonal += rows.square().sum((0, 2))
        z = torch.fft.rfft(rows, dim=0)
        if phase is not None:
            z = z * phase.conj()[..., None]
        # The real part of z z^H: a turn to the left is one to the right.
        z = torch.cat([z.real, z.imag], 2)
        matrices.baddbmm_(z, z.mT)
    share = len(pixels) / math.prod(scan.shape) * n
    return matrices / (share if full else 2 * share), diagonal / share


def _by_distance(scan: PlanarScan) -> Tensor:
    """Some pixels of the image, evenly over all distances from the axis (k,)."""
    ny, nx = scan.shape
    y, x = torch.arange(ny) - (ny - 1) / 2, torch.arange(nx) - (nx - 1) / 2
    distance = torch.hypot(y[:, None], x).flatten()
    step = max(len(distance) // (_PIXELS * scan.n_columns), 1)
    return distance.argsort(stable=True)[step // 2 :: step]
