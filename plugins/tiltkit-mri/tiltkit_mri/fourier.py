"""The Fourier convention of MRI files: zero frequency and image centre at ``size // 2``, unitary."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["fft", "ifft"]


def fft(image: Tensor, dims: tuple[int, ...] = (-2, -1)) -> Tensor:
    """Image to k-space along ``dims``; complex, same shape."""
    shifted = torch.fft.ifftshift(image, dim=dims)
    return torch.fft.fftshift(torch.fft.fftn(shifted, dim=dims, norm="ortho"), dim=dims)


def ifft(kspace: Tensor, dims: tuple[int, ...] = (-2, -1)) -> Tensor:
    """k-space to image along ``dims``; the inverse and the adjoint of `fft`."""
    shifted = torch.fft.ifftshift(kspace, dim=dims)
    return torch.fft.fftshift(torch.fft.ifftn(shifted, dim=dims, norm="ortho"), dim=dims)
