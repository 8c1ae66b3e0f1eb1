"""Fan-beam projections: a point source and a flat detector, the middle plane of a cone beam."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from tiltkit.errors import UsageError
from tiltkit_ct.block_circulant import BlockCirculant, block_circulant, full_turn
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
        """Directions of the rays of each column (column,), radians from the middle, float64.

        They are counted as angles of projections are.
        """
        column = torch.arange(self.n_columns, device=self.angles.device).double() - self.axis
        reach = self.source_distance + self.detector_distance
        return -torch.atan(column * self.pitch / reach)

    def data_preconditioner(
        self, variance: Tensor, c: float | Tensor
    ) -> Callable[[Tensor], Tensor] | None:
        """Approximate inverse of ``diag(variance) + A C A^H``; see `PreconditionedOperator`.

        With one variance for all measurements only `BlockCirculant` is approximate; unequal
        variances scale it so that its diagonal is right.
        A ``C`` that differs between frequencies is replaced by its mean, weighted by one over the
        frequency as in ``A^H A``; treating each frequency by itself saved next to no iterations.
        """
        circulant = self._circulant
        if circulant is None:
            return None
        if isinstance(c, torch.Tensor):
            c = _mean_over_frequencies(c)
        # A high quantile: too large a variance only damps data that no image explains. Not the
        # maximum, which dead rays would set.
        common = variance.quantile(0.9)
        correct = ((common + c * circulant.diagonal) / (variance + c * circulant.diagonal)).sqrt()
        inverse = 1 / (common + c * circulant.values)

        def apply(r: Tensor) -> Tensor:
            return correct * circulant.apply(correct * r, inverse)

        return apply

    @cached_property
    def _circulant(self) -> BlockCirculant | None:
        """Preconditioner of all slices; None where it needs more than ``matrix_bytes``.

        None also for less than a full turn, which no symmetry completes.
        """
        size = 4 * len(self.angles) * self.n_columns**2 * self.angles.element_size()
        if size > self.matrix_bytes or not full_turn(self.angles):
            return None
        return block_circulant(self)

    def pixel_projections(self, pixels: Tensor) -> Tensor:
        """Projections of single pixels, counted along the rows of the image: (angle, column, n)."""
        every = torch.arange(len(pixels), device=self.angles.device)
        rows = self.angles.new_zeros(len(self.angles), self.n_columns + 1, len(pixels))
        for row, (columns, means) in zip(rows, self.spreads(pixels=pixels), strict=True):
            row[columns, every] = means
        return rows[:, :-1]

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


def _mean_over_frequencies(c: Tensor) -> float:
    """Mean over frequencies (ny, nx), weighted by one over the frequency, as ``A^H A`` is."""
    cycles = [torch.fft.fftfreq(n, device=c.device) for n in c.shape]
    weight = 1 / torch.hypot(cycles[0][:, None], cycles[1]).clamp_min(0.5 / max(c.shape))
    return float((c * weight).sum() / weight.sum())
