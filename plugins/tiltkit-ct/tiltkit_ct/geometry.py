"""Geometry of a scan and its operator: axis, image size, direction of the rays."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from tiltkit_ct.parallel import ParallelBeam
from tiltkit_ct.projector import MATRIX_BYTES

if TYPE_CHECKING:
    from torch import Tensor

    from tiltkit_ct.cone import ConeBeam
    from tiltkit_ct.projector import Projector

__all__ = ["Geometry", "image_size"]

# An axis off the middle by less than this share of the detector is no reason for a larger image.
_SLACK = 0.05


@dataclass(frozen=True, slots=True)
class Geometry:
    """Geometry of the projection of slices.

    Attributes:
        angles: Radians (angle,).
        columns: Pixels of the detector across the rotation axis.
        axis: Column of the rotation axis.
        size: Pixels of each side of the region that is modelled.
        pitch: Side of a detector pixel at the sample, in the unit of length that images use.
        source: Distance from source to rotation axis in that unit; infinite for parallel rays.
        detector: Distance from rotation axis to detector.
        rows: Detector rows of a cone beam, all reconstructed together; None for single slices.
        level: Detector row level with the source; None for the middle.
        shown: Pixels of each side of the image, the middle of the region; None for all of it.
        seen: Radius in pixels of the circle that all projections see, where the sample is wider
            than the detector; None where it is not.
        matrix_bytes: Largest size of the matrices of the operator.
    """

    angles: Tensor
    columns: int
    axis: float
    size: int
    pitch: float
    source: float = math.inf
    detector: float = 0.0
    rows: int | None = None
    level: float | None = None
    shown: int | None = None
    seen: float | None = None
    matrix_bytes: int = MATRIX_BYTES

    @property
    def image_size(self) -> int:
        """Pixels of each side of the image."""
        return self.shown or self.size

    def crop(self, x: Tensor) -> Tensor:
        """The image (..., y, x) in the middle of the region."""
        margin = (self.size - self.image_size) // 2
        return x[..., margin : self.size - margin, margin : self.size - margin]

    def field_of_view(self) -> Tensor | None:
        """Mask of the image (y, x), true for pixels that all projections see; None for all."""
        if self.seen is None:
            return None
        grid = torch.arange(self.image_size) - (self.image_size - 1) / 2
        return torch.hypot(grid[:, None], grid) <= self.seen

    def operator(self, device: torch.device) -> Projector | ConeBeam:
        """The projector; image pixels are as large as detector pixels at the sample."""
        angles = self.angles.to(device, torch.float32)
        shape = (self.size, self.size)
        if math.isinf(self.source):
            return ParallelBeam(
                angles,
                shape,
                self.columns,
                axis=self.axis,
                pixel=self.pitch,
                matrix_bytes=self.matrix_bytes,
            )
        place: dict[str, Any] = {
            "axis": self.axis,
            "pixel": self.pitch,
            "source_distance": self.source,
            "detector_distance": self.detector,
        }
        if self.rows is None:
            from tiltkit_ct.fan import FanBeam

            return FanBeam(angles, shape, self.columns, matrix_bytes=self.matrix_bytes, **place)
        from tiltkit_ct.cone import ConeBeam

        place |= {"level": self.level, "plane": self.level}  # planes are as high as rows there
        place["memory_bytes"] = self.matrix_bytes
        return ConeBeam(angles, (self.rows, *shape), self.rows, self.columns, **place)


def image_size(columns: int, axis: float) -> int:
    """Side of the image that holds all rays of a detector in a turn around an axis."""
    reach = math.ceil(2 * max(axis, columns - 1 - axis) + 1)
    return columns if reach <= (1 + _SLACK) * columns else reach + reach % 2
