"""Parallel-beam projections: synchrotrons, electron microscopes, rebinned fan beams."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from tiltkit_ct.footprint import Shadow
from tiltkit_ct.projector import Projector

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ParallelBeam"]


class ParallelBeam(Projector):
    """Exact strip integrals of square pixels along parallel rays; see `Projector`.

    The point ``(x, y)`` projects onto column ``axis + (x cos(angle) + y sin(angle)) / pitch``.
    """

    def _shadow(self, angle: Tensor, x: Tensor, y: Tensor) -> Shadow:
        cos, sin = angle.cos(), angle.sin()
        wide, narrow = torch.maximum(cos.abs(), sin.abs()), torch.minimum(cos.abs(), sin.abs())
        centre = self.axis + (x * cos + y * sin) / self.pitch
        outer, inner = (wide + narrow) / 2, (wide - narrow) / 2
        edges = torch.stack([-outer, -inner, inner, outer]) * (self.pixel / self.pitch)
        return Shadow(centre + edges[:, None], self.pixel / wide)

    @property
    def _n_overlaps(self) -> float:
        ny, nx = self.shape
        width = (self.angles.cos().abs() + self.angles.sin().abs()) * (self.pixel / self.pitch)
        return ny * nx * float((1 + width).sum())
