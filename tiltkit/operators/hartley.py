"""The Hartley transform: Fourier analysis of real images in as many real numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

__all__ = ["frequencies", "hartley"]


def frequencies(space: Sequence[int]) -> Tensor:
    """Spatial frequency of every coefficient of a Fourier or Hartley transform (*space).

    In cycles per pixel, the length of the vector over all axes.
    """
    grid = torch.meshgrid([torch.fft.fftfreq(n).square() for n in space], indexing="ij")
    return torch.stack(grid).sum(0).sqrt()


def hartley(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """``sum_n x(n) (cos + sin)(2 pi k n / N) / sqrt(N)`` over the last axes, through a real FFT.

    Orthogonal, and its own inverse. With ``X`` the Fourier transform it is ``Re X - Im X``; the
    real FFT gives the first half of the last axis, and the second half is the first one mirrored,
    where ``Im X`` has changed sign.
    """
    spectrum = torch.fft.rfftn(x, dim=axes, norm="ortho")
    width, half = x.shape[-1], spectrum.shape[-1]
    first = spectrum.real - spectrum.imag
    mirrored = (spectrum.real + spectrum.imag)[..., 1 : 1 + width - half].flip(axes)
    if len(axes) > 1:  # index 0 of the other axes stays where it is
        mirrored = mirrored.roll([1] * (len(axes) - 1), axes[:-1])
    return torch.cat([first, mirrored], dim=-1)
