"""The shadow of one square pixel on a detector, integrated over detector pixels.

For any direction the chord length of rays through a square is a trapezoid, exactly so for
parallel rays. Its running integral is piecewise quadratic; differences of it at the borders of
detector pixels are the exact mean chord lengths: nothing is sampled or interpolated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Shadow", "overlaps"]


@dataclass(frozen=True, slots=True)
class Shadow:
    """Trapezoids on the detector, one for each image pixel, in units of detector pixels.

    Attributes:
        corners: Start, both ends of full height, and end of the trapezoids: (4, pixel), rising.
            Detector pixel k covers k - 1/2 to k + 1/2.
        height: Chord length on the plateau, in units of length: (pixel,) or one number.
    """

    corners: Tensor
    height: Tensor

    def running_integral(self, u: Tensor) -> Tensor:
        """Integral of every trapezoid up to its position ``u`` (pixel,)."""
        start, full, falling, end = self.corners
        tiny = 1e-30  # no division by zero for vertical edges, whose integral is 0
        rise = (u - start).clamp_min(0).minimum(full - start)
        flat = (u - full).clamp_min(0).minimum(falling - full)
        fall = (u - falling).clamp_min(0).minimum(end - falling)
        slopes = rise.square() / (2 * (full - start) + tiny)
        slopes = slopes + fall - fall.square() / (2 * (end - falling) + tiny)
        integral: Tensor = self.height * (slopes + flat)
        return integral


def overlaps(shadow: Shadow) -> tuple[Tensor, Tensor]:
    """Mean chord length of every image pixel in each detector pixel that its shadow overlaps.

    Returns:
        First detector pixel of the shadow (pixel,), int64, also outside of the detector; and the
        means (k, pixel) in that one and the ones behind it, 0 where the shadow has ended.
    """
    first = (shadow.corners[0] + 0.5).floor()
    reach = (shadow.corners[3] + 0.5).ceil() - first
    n = max(1, math.ceil(float(reach.max())))
    borders = [shadow.running_integral(first + (k - 0.5)) for k in range(n + 1)]
    means = [(after - before).clamp_min(0) for before, after in pairwise(borders)]
    return first.long(), torch.stack(means)
