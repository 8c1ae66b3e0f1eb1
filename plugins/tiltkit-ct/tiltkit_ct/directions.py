"""Directions of projections around a circle."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["FULL_TURN", "circle_gaps"]

# Range of the angles of a scan, in radians, from which on it counts as a full turn.
FULL_TURN = math.radians(350)


def circle_gaps(angles: Tensor, circle: float) -> Tensor:
    """Gaps between neighbouring directions around a circle of so many radians (n,), float64."""
    direction = angles.double().remainder(circle).sort().values
    return torch.cat([direction, direction[:1] + circle]).diff()
