"""Directions of projections around a circle."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["circle_gaps"]


def circle_gaps(angles: Tensor, circle: float) -> Tensor:
    """Gaps between neighbouring directions around a circle of so many radians (n,), float64."""
    direction = angles.double().remainder(circle).sort().values
    return torch.cat([direction, direction[:1] + circle]).diff()
