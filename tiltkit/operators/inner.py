"""Inner products of particles, summed in double precision, and their values beside images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["inner", "per_image", "sum_each"]

# Fewest values that a CPU sums in their own precision before it goes on in double precision.
_ROW = 32


def inner(a: Tensor, b: Tensor) -> Tensor:
    """Real inner products of particles (particle, ...), float64 (particle,)."""
    if a.is_complex():
        a, b = torch.view_as_real(a.resolve_conj()), torch.view_as_real(b.resolve_conj())
    return sum_each(a * b)


def sum_each(values: Tensor) -> Tensor:
    """Sum of each particle (particle, ...), float64 (particle,).

    On a CPU `torch.sum` would first make a copy in float64, which takes ten times as long as the
    sum. There rows are summed in their own precision, and their sums in float64.
    """
    if by_rows(values.device):
        if values.ndim > 2 and values.shape[-1] >= _ROW:
            values = values.sum(-1)
        elif values.ndim > 3:  # real and imaginary parts are the last axis
            values = values.sum((-2, -1))
    return values.sum(tuple(range(1, values.ndim)), dtype=torch.float64)


def per_image(values: Tensor, images: Tensor) -> Tensor:
    """Values (particle,) in a shape that broadcasts against images, in their real type."""
    return values.to(images.real.dtype).view(-1, *[1] * (images.ndim - 1))


def by_rows(device: torch.device) -> bool:
    """True where `sum_each` sums rows first."""
    return device.type == "cpu"
