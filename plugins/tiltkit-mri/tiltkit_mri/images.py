"""Complex images as two real channels, and the check of coil maps: what all operators share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from tiltkit.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["check_maps", "to_complex", "to_real"]


def to_complex(x: Tensor) -> Tensor:
    """(n, 2, ny, nx) real to (n, ny, nx) complex."""
    return torch.complex(x[:, 0], x[:, 1])


def to_real(z: Tensor) -> Tensor:
    """(n, ny, nx) complex to (n, 2, ny, nx) real."""
    return torch.stack([z.real, z.imag], dim=1)


def check_maps(maps: Tensor) -> None:
    """Refuse coil maps that are not complex (coil, ny, nx).

    Raises:
        UsageError: They have another shape or type.
    """
    if maps.ndim != 3 or not maps.is_complex():
        raise UsageError(
            f"Sensitivity maps have shape {tuple(maps.shape)} and type {maps.dtype}.",
            "give complex maps (coil, ny, nx).",
        )
