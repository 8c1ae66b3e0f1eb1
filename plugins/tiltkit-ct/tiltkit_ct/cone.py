"""Cone-beam projections: a point source and a flat detector of many rows on a circular orbit."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from tiltkit.operators.cg import conjugate_gradient
from tiltkit_ct.fan import FanBeam
from tiltkit_ct.projector import MATRIX_BYTES

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ConeBeam"]

# Pairs of voxel column and detector row that are handled at once: bounds the memory.
_AT_ONCE = 2**22


@dataclass(frozen=True, slots=True)
class Footprints:
    """Separable footprints of some voxel columns in one projection.

    Attributes:
        columns: Detector columns in the footprint (k, pixel); ``n_columns`` for one that is not on
            the detector.
        means: Mean chord length over each of these (k, pixel).
        axial: Pairs: a plane of the volume that each detector row covers (row, pixel), int64; the
            covered share of the row times the slant of the ray (row, pixel).
    """

    columns: Tensor
    means: Tensor
    axial: tuple[tuple[Tensor, Tensor], ...]


class ConeBeam:
    """Line integrals of volumes along rays from a point source to a flat detector, and the adjoint.

    In the plane of a row it is `FanBeam`, whose shadow of a pixel is that of the voxel. Along the
    rotation axis the footprint of a voxel is a rectangle, magnified as its column is; inclined rays
    are longer by one over the cosine (separable footprints SF-TR with amplitude A1: Long,
    Fessler and Balter, IEEE Trans. Med. Imaging 29, 2010). The adjoint is the transpose of the
    same numbers. Where they do not fit into ``memory_bytes`` they are computed again for every
    projection.

    Args:
        angles: Angles of the projections (n_angles,) in radians, any spacing and range; device
            and number type of the operator are theirs.
        shape: Shape of the volume (nz, ny, nx).
        n_rows: Pixels of the detector along the rotation axis.
        n_columns: Pixels of the detector across it.
        source_distance: From source to rotation axis, the unit of ``pixel``.
        detector_distance: From rotation axis to detector, the unit of ``pixel``.
        axis: Detector column onto which the rotation axis projects; None for the middle.
        level: Detector row level with the source; None for the middle.
        plane: Plane of the volume level with the source; None for the middle.
        pixel: Side of a voxel, in the unit of length that volumes are densities in.
        pitch: Side of a detector pixel; None for the voxel's times the magnification of the axis.
        memory_bytes: Memory for kept values, at most.

    Volumes are (n, 1, nz, ny, nx), projections (n, angle, row, column). Voxel (k, i, j) is at the
    height ``(k - plane) pixel`` over the plane of the source, and in it where pixel (i, j)
    of `FanBeam` is.
    """

    def __init__(
        self,
        angles: Tensor,
        shape: tuple[int, int, int],
        n_rows: int,
        n_columns: int,
        *,
        source_distance: float,
        detector_distance: float,
        axis: float | None = None,
        level: float | None = None,
        plane: float | None = None,
        pixel: float = 1.0,
        pitch: float | None = None,
        memory_bytes: int = MATRIX_BYTES,
    ) -> None:
        self._fan = FanBeam(
            angles,
            shape[1:],
            n_columns,
            source_distance=source_distance,
            detector_distance=detector_distance,
            axis=axis,
            pixel=pixel,
            pitch=pitch,
        )
        self.angles, self.shape, self.memory_bytes = angles, shape, memory_bytes
        self.n_rows, self.n_columns = n_rows, n_columns
        self.level = (n_rows - 1) / 2 if level is None else float(level)
        self.plane = (shape[0] - 1) / 2 if plane is None else float(plane)

    def forward(self, x: Tensor) -> Tensor:
        """Line integrals (n, angle, row, column), each the mean over a detector pixel."""
        volume = x.flatten(3).flatten(1, 2)
        out = x.new_zeros(len(x), len(self.angles), self.n_rows, self.n_columns)
        for pixels, projections in self._footprint_blocks():
            part = volume[:, :, pixels]
            for k, footprints in enumerate(projections):
                lines = x.new_zeros(len(x), self.n_rows, len(pixels))
                for height, weight in footprints.axial:
                    lines.addcmul_(part.gather(1, height.expand(len(x), -1, -1)), weight)
                row = self._fan.project(lines.flatten(0, 1), footprints.columns, footprints.means)
                out[:, k] += row.view(len(x), self.n_rows, -1)
        return out

    def adjoint(self, y: Tensor) -> Tensor:
        """Back-projections (n, 1, nz, ny, nx)."""
        nz, ny, nx = self.shape
        out = y.new_zeros(len(y), nz, ny * nx)
        padded = torch.nn.functional.pad(y, (0, 1))
        for pixels, projections in self._footprint_blocks():
            part = y.new_zeros(len(y), nz, len(pixels))
            for k, footprints in enumerate(projections):
                lines = y.new_zeros(len(y), self.n_rows, len(pixels))
                for column, mean in zip(footprints.columns, footprints.means, strict=True):
                    lines.addcmul_(padded[:, k, :, column], mean)
                for height, weight in footprints.axial:
                    part.scatter_add_(1, height.expand(len(y), -1, -1), lines * weight)
            out[:, :, pixels] = part
        return out.view(len(y), 1, nz, ny, nx)

    def normal(self, x: Tensor) -> Tensor:
        """``A^H A x``."""
        return self.adjoint(self.forward(x))

    def solve(self, alpha: float, beta: float, b: Tensor) -> Tensor:
        """``(alpha I + beta A^H A)^-1 b`` by conjugate gradients."""
        return conjugate_gradient(self.normal, b, alpha, beta, max_iter=1000)[0]

    def _footprint_blocks(self) -> Iterable[tuple[Tensor, Iterable[Footprints]]]:
        """Blocks of voxel columns, and their footprints in every projection."""
        return self._stored or ((pixels, self._footprints(pixels)) for pixels in self._blocks())

    @cached_property
    def _stored(self) -> list[tuple[Tensor, list[Footprints]]] | None:
        """Footprints of all voxel columns; None where they do not fit into ``memory_bytes``."""
        _, ny, nx = self.shape
        pairs = len(self.angles) * ny * nx * self.n_rows
        # A row covers parts of three voxels of a column at most magnifications.
        if 3 * pairs * (8 + self.angles.element_size()) > self.memory_bytes:
            return None
        return [(pixels, list(self._footprints(pixels))) for pixels in self._blocks()]

    def _blocks(self) -> Sequence[Tensor]:
        """Voxel columns in blocks of bounded memory."""
        _, ny, nx = self.shape
        every = torch.arange(ny * nx, device=self.angles.device)
        return torch.split(every, max(1, _AT_ONCE // self.n_rows))

    def _footprints(self, pixels: Tensor) -> Iterator[Footprints]:
        for angle, spread in zip(self.angles, self._fan.spreads(pixels=pixels), strict=True):
            yield Footprints(*spread, tuple(self._axial(angle, pixels)))

    def _axial(self, angle: Tensor, pixels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Planes and weights along the rotation axis; see `Footprints.axial`."""
        fan, nz = self._fan, self.shape[0]
        away, across = (part.to(self.angles) for part in fan.place(angle, pixels))
        # A detector row at the place of a column, in voxels.
        step = away * (fan.pitch / (fan.source_distance + fan.detector_distance) / fan.pixel)
        row = torch.arange(self.n_rows, device=step.device)[:, None] - self.level
        slant = (1 + (row * step * fan.pixel / torch.hypot(away, across)).square()).sqrt()
        low = (row - 0.5) * step + self.plane + 0.5
        first = low.floor()
        for j in range(math.ceil(float(step.max())) + 1):
            bottom = torch.maximum(low, first + j)
            covered = (torch.minimum(low + step, first + j + 1) - bottom).clamp_min(0) / step
            height = (first + j).long()
            inside = (height >= 0) & (height < nz)
            yield height.clamp(0, nz - 1), torch.where(inside, covered * slant, 0.0)
