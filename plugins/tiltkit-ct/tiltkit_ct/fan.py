"""Fan-beam projections: a point source and a flat detector, the middle plane of a cone beam."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from tiltkit.errors import UsageError
from tiltkit_ct.footprint import Shadow
from tiltkit_ct.projector import MATRIX_BYTES, Projector

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["FanBeam"]


class FanBeam(Projector):
    """Line integrals along rays from a point source to a flat detector; see `Projector`.

    The source is at ``source_distance`` from the rotation axis, the detector at
    ``detector_distance`` behind it, at right angles to the ray through the axis, which meets it
    in column ``axis``. At angle 0 that ray points along y. The point ``(x, y)`` projects onto
    column ``axis + magnification (x cos(angle) + y sin(angle)) / pitch`` with
    ``magnification = (source_distance + detector_distance) / (source_distance + along)`` and
    ``along = y cos(angle) - x sin(angle)``: `ParallelBeam` for a source far away.

    The shadow of a pixel is the trapezoid between its projected corners, as high as its chord
    along the ray through its centre (Long, Fessler and Balter, IEEE Trans. Med. Imaging 29, 2010).

    Args:
        angles: As for `Projector`.
        shape: As for `Projector`.
        n_columns: As for `Projector`.
        source_distance: From source to rotation axis, the unit of ``pixel``.
        detector_distance: From rotation axis to detector, the unit of ``pixel``.
        axis: As for `Projector`.
        pixel: As for `Projector`.
        pitch: As for `Projector`; None for the pixel size times the magnification of the axis.
        matrix_bytes: As for `Projector`.
    """

    def __init__(
        self,
        angles: Tensor,
        shape: tuple[int, int],
        n_columns: int,
        *,
        source_distance: float,
        detector_distance: float,
        axis: float | None = None,
        pixel: float = 1.0,
        pitch: float | None = None,
        matrix_bytes: int = MATRIX_BYTES,
    ) -> None:
        corner = pixel * float(torch.tensor(shape).double().norm()) / 2
        if not corner < source_distance < float("inf"):
            raise UsageError(
                f"The source is {source_distance} away from the rotation axis, the corners of"
                f" the image are {corner:g}.",
                "give distances and pixel size in the same unit, or a smaller image.",
            )
        if not 0 <= detector_distance < float("inf"):
            raise UsageError(
                f"The detector is {detector_distance} behind the rotation axis.",
                "give the distance from the axis to the detector, not negative.",
            )
        self.source_distance = float(source_distance)
        self.detector_distance = float(detector_distance)
        if pitch is None:
            pitch = pixel * self.magnification
        super().__init__(
            angles,
            shape,
            n_columns,
            axis=axis,
            pixel=pixel,
            pitch=pitch,
            matrix_bytes=matrix_bytes,
        )

    @property
    def magnification(self) -> float:
        """Magnification of the rotation axis on the detector."""
        return (self.source_distance + self.detector_distance) / self.source_distance

    @property
    def fan_angles(self) -> Tensor:
        """Directions of the rays of each column (column,), float64; see `Projector`."""
        column = torch.arange(self.n_columns, device=self.angles.device).double() - self.axis
        reach = self.source_distance + self.detector_distance
        return -torch.atan(column * self.pitch / reach)

    def place(self, angle: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Distances of pixels from the source along and across the central ray, float64."""
        return self._distances(angle.double(), *self.centres(pixels))

    def _distances(self, angle: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        cos, sin = angle.cos(), angle.sin()
        return self.source_distance + y * cos - x * sin, x * cos + y * sin

    def _shadow(self, angle: Tensor, x: Tensor, y: Tensor) -> Shadow:
        cos, sin, half = angle.cos(), angle.sin(), self.pixel / 2
        away, across = self._distances(angle, x, y)
        scale = (self.source_distance + self.detector_distance) / self.pitch
        corners = torch.stack(
            [
                (across + half * (i * cos + j * sin)) / (away + half * (j * cos - i * sin))
                for i in (-1, 1)
                for j in (-1, 1)
            ]
        )
        # Direction of the ray through the centre, and the longer of its steps along x and y.
        length = torch.hypot(away, across)
        along_x = (across * cos - away * sin).abs()
        along_y = (across * sin + away * cos).abs()
        height = self.pixel * length / torch.maximum(along_x, along_y)
        return Shadow(self.axis + scale * corners.sort(0).values, height)

    @property
    def _n_overlaps(self) -> float:
        # On average over directions a square is 4 / pi wide; one side of the axis is magnified
        # more than the other.
        ny, nx = self.shape
        width = 4 / torch.pi * self.pixel * self.magnification / self.pitch
        return len(self.angles) * ny * nx * (1 + 1.1 * width)
