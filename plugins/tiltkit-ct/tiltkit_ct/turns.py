"""A A^H of parallel-beam scans, nearly diagonal after a Fourier transform over the directions.

Turning the object turns its projections: what projections at two angles have in common depends on
the difference of the angles alone, but for pixels being squares. For directions that are evenly
spaced over the circle ``A A^H`` is block-circulant then, one real symmetric matrix
(column, column) for each angular frequency. Others are treated as if they were evenly spaced:
good enough to precondition with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from tiltkit_ct.parallel import ParallelBeam

__all__ = ["Turns", "turns_of"]

# Projections of unit pixels of the detector that are computed at once.
_BATCH = 16


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
    """

    order: Tensor
    back: Tensor
    full: bool
    vectors: Tensor
    values: Tensor
    diagonal: Tensor
    pad: tuple[int, int]

    def apply(self, r: Tensor, function: Tensor) -> Tensor:
        """A function (frequency, eigen) of the matrix times measurements (n, angle, column)."""
        n, n_angles, n_columns = r.shape
        rows = torch.nn.functional.pad(r[:, self.order], self.pad)
        if not self.full:
            rows = torch.where(self.back[:, None], rows.flip(2), rows)
            rows = torch.cat([rows, rows.flip(2)], 1)
        z = torch.view_as_real(torch.fft.rfft(rows, dim=1)).permute(1, 3, 0, 2)
        z = z.reshape(len(z), 2 * n, -1) @ self.vectors
        z = (function[:, None] * z) @ self.vectors.mT
        z = z.reshape(len(z), 2, n, -1).permute(2, 0, 3, 1).contiguous()
        rows = torch.fft.irfft(torch.view_as_complex(z), n=rows.shape[1], dim=1)[:, :n_angles]
        if not self.full:
            rows = torch.where(self.back[:, None], rows.flip(2), rows)
        result = torch.empty_like(r)
        result[:, self.order] = rows[..., self.pad[0] : self.pad[0] + n_columns]
        return result


def turns_of(operator: ParallelBeam) -> Turns:
    """The block-circulant matrix whose first blocks are those of one projection of the scan."""
    turn = operator.angles.double().remainder(2 * math.pi)
    gaps = torch.cat([turn.sort().values, turn.min()[None] + 2 * math.pi]).diff()
    full = float(gaps.max()) < math.pi / 2
    direction = turn if full else turn.remainder(math.pi)
    order = direction.argsort()
    pad = (0, 0) if full else _symmetric(operator)
    # Squares look most like themselves turned by any angle where they stand neither on a side
    # nor on a corner.
    lean = (direction[order].remainder(math.pi / 2) - math.pi / 8).abs()
    chosen = int(lean.argmin())
    back = torch.zeros_like(order, dtype=torch.bool) if full else (turn >= math.pi)[order]
    blocks = _blocks(operator if sum(pad) == 0 else _centred(operator, pad), order, chosen)
    if not full:
        blocks = torch.where(back[:, None, None], blocks.flip(1), blocks)
        blocks = blocks.flip(2) if bool(back[chosen]) else blocks
        # Lines look the same from behind, mirrored.
        blocks = (blocks + blocks.flip(1, 2)) / 2
        blocks = torch.cat([blocks, blocks.flip(1)])
    blocks = blocks.roll(-chosen, 0)
    blocks = (blocks + blocks.roll(-1, 0).flip(0)) / 2  # the same for a turn to the left or right
    blocks = (blocks + blocks.mT) / (2 if full else 4)  # of the two halves each is one half
    values, vectors = torch.linalg.eigh(torch.fft.rfft(blocks, dim=0).real)
    diagonal = blocks[0].diagonal() * (1 if full else 2)
    diagonal = diagonal[pad[0] : pad[0] + operator.n_columns].clone()
    return Turns(order, back, full, vectors, values.clamp_min(0), diagonal, pad)


def _symmetric(operator: ParallelBeam) -> tuple[int, int]:
    """Columns to add so that the axis is in the middle of a pixel or between two."""
    offset = round(2 * operator.axis) - (operator.n_columns - 1)
    return max(0, -offset), max(0, offset)


def _centred(operator: ParallelBeam, pad: tuple[int, int]) -> ParallelBeam:
    """The scan with columns added so that the axis is in the middle, to half a column."""
    return type(operator)(
        operator.angles,
        operator.shape,
        operator.n_columns + sum(pad),
        pixel=operator.pixel,
        pitch=operator.pitch,
        matrix_bytes=operator.matrix_bytes,
    )


def _blocks(operator: ParallelBeam, order: Tensor, chosen: int) -> Tensor:
    """What the chosen projection has in common with each (angle in order, column, column)."""
    n_angles, n_columns = len(order), operator.n_columns
    blocks = operator.angles.new_empty(n_angles, n_columns, n_columns)
    for first in range(0, n_columns, _BATCH):
        columns = torch.arange(first, min(first + _BATCH, n_columns), device=order.device)
        unit = operator.angles.new_zeros(len(columns), n_angles, n_columns)
        unit[columns - first, order[chosen], columns] = 1
        seen = operator.forward(operator.adjoint(unit))[:, order].permute(1, 2, 0)
        blocks[:, :, first : first + _BATCH] = seen
    return blocks
