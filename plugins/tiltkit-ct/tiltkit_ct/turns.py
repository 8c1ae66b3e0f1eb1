"""A A^H of scans in one plane, nearly diagonal after a Fourier transform over the directions.

Turning the object turns its projections: what projections at two angles have in common depends on
the difference of the angles alone, but for pixels being squares. For directions that are evenly
spaced over the circle ``A A^H`` is block-circulant then, one real symmetric matrix
(column, column) for each angular frequency. For that the rays of a fan beam are counted at the
angle of their own direction, not of the projection: a phase for each column. Angles that are not
evenly spaced are treated as if they were: good enough to precondition with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from tiltkit_ct.projector import Projector

__all__ = ["Turns", "full_turn", "turns_of"]

# Pixels whose projections are transformed at once.
_BATCH = 128
# Pixels of the image for each column of the detector that tell what projections have in common.
_PIXELS = 8


@dataclass(frozen=True, slots=True)
class Turns:
    """Eigenvectors and eigenvalues of what is most like ``A A^H`` among block-circulant matrices.

    Attributes:
        order: Projections in the order of their directions (n_angles,).
        back: Which of them, in that order, look from behind (n_angles,), bool.
        full: Directions cover the full circle; else the half, and the other is its mirror image.
        vectors: (frequency, column, eigen), orthogonal; columns padded around the axis.
        values: (frequency, eigen), not negative.
        diagonal: Of ``A A^H``, by column (column,).
        pad: Columns added on the left and on the right.
        phase: (frequency, column), complex; None where rays are parallel.
    """

    order: Tensor
    back: Tensor
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
            rows = torch.where(self.back[:, None], rows.flip(2), rows)
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
            rows = torch.where(self.back[:, None], rows.flip(2), rows)
        result = torch.empty_like(r)
        result[:, self.order] = rows[..., self.pad[0] : self.pad[0] + n_columns]
        return result


def turns_of(operator: Projector) -> Turns:
    """The block-circulant matrix nearest to ``A A^H`` for angles that are evenly spaced."""
    turn, full = operator.angles.double().remainder(2 * math.pi), full_turn(operator.angles)
    direction = turn if full else turn.remainder(math.pi)
    order = direction.argsort()
    pad = (0, 0) if full else _symmetric(operator)
    back = torch.zeros_like(order, dtype=torch.bool) if full else (turn >= math.pi)[order]
    phase = _phase(operator)
    matrices, diagonal = _averaged(
        operator if sum(pad) == 0 else _centred(operator, pad), order, back, full, phase
    )
    values, vectors = torch.linalg.eigh(matrices)
    diagonal = diagonal[pad[0] : pad[0] + operator.n_columns].clone()
    return Turns(order, back, full, vectors, values.clamp_min(0), diagonal, pad, phase)


def full_turn(angles: Tensor) -> bool:
    """Whether projections are all around."""
    turn = angles.double().remainder(2 * math.pi).sort().values
    return float(torch.cat([turn, turn[:1] + 2 * math.pi]).diff().max()) < math.pi / 2


def _phase(operator: Projector) -> Tensor | None:
    """What turns each column's ray into the direction of the middle one (frequency, column)."""
    if operator.bearings is None:
        return None
    m = torch.arange(len(operator.angles) // 2 + 1, device=operator.angles.device)
    turned = m[:, None] * operator.bearings
    return torch.polar(torch.ones_like(turned), turned).to(operator.angles.dtype.to_complex())


def _symmetric(operator: Projector) -> tuple[int, int]:
    """Columns to add so that the axis is in the middle of a pixel or between two."""
    offset = round(2 * operator.axis) - (operator.n_columns - 1)
    return max(0, -offset), max(0, offset)


def _centred(operator: Projector, pad: tuple[int, int]) -> Projector:
    """The scan with columns added so that the axis is in the middle, to half a column."""
    return type(operator)(
        operator.angles,
        operator.shape,
        operator.n_columns + sum(pad),
        pixel=operator.pixel,
        pitch=operator.pitch,
        matrix_bytes=operator.matrix_bytes,
    )


def _averaged(
    operator: Projector, order: Tensor, back: Tensor, full: bool, phase: Tensor | None
) -> tuple[Tensor, Tensor]:
    """``A A^H``, averaged over all turns of the image: its matrices (frequency, column, column).

    Over all, and none less: the mean over some, or one of them, has negative eigenvalues, and
    wrong ones where ``A A^H`` has next to none, which is what costs iterations. Few pixels are
    enough: turned by all angles they differ by their distance from the axis alone.

    Returns:
        The matrices, and the diagonal of ``A A^H`` (column,).
    """
    n = len(order) if full else 2 * len(order)
    n_columns, angles = operator.n_columns, operator.angles
    matrices = angles.new_zeros(n // 2 + 1, n_columns, n_columns)
    diagonal = angles.new_zeros(n_columns)
    pixels = _by_distance(operator)
    for first in range(0, len(pixels), _BATCH):
        rows = operator.seen(pixels[first : first + _BATCH])[order]
        if not full:
            rows = torch.where(back[:, None, None], rows.flip(1), rows)
            rows = torch.cat([rows, rows.flip(1)])  # lines look the same from behind, mirrored
        diagonal += rows.square().sum((0, 2))
        z = torch.fft.rfft(rows, dim=0)
        if phase is not None:
            z = z * phase.conj()[..., None]
        # The real part of z z^H: a turn to the left is one to the right.
        z = torch.cat([z.real, z.imag], 2)
        matrices.baddbmm_(z, z.mT)
    share = len(pixels) / math.prod(operator.shape) * n
    return matrices / (share if full else 2 * share), diagonal / share


def _by_distance(operator: Projector) -> Tensor:
    """Some pixels of the image, evenly over all distances from the axis (k,)."""
    ny, nx = operator.shape
    y, x = torch.arange(ny) - (ny - 1) / 2, torch.arange(nx) - (nx - 1) / 2
    distance = torch.hypot(y[:, None], x).flatten()
    step = max(len(distance) // (_PIXELS * operator.n_columns), 1)
    return distance.argsort(stable=True)[step // 2 :: step]
