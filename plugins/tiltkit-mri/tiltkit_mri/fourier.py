"""The Fourier convention of MRI files: unitary, centres of image and k-space at ``size // 2``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["fft", "ifft"]


def fft(image: Tensor, dims: tuple[int, ...] = (-2, -1)) -> Tensor:
    """Image to k-space along ``dims``; complex, same shape."""
    shifted = torch.fft.ifftshift(image, dim=dims)
    kspace: Tensor = torch.fft.fftshift(torch.fft.fftn(shifted, dim=dims, norm="ortho"), dim=dims)
    return kspace


def ifft(kspace: Tensor, dims: tuple[int, ...] = (-2, -1)) -> Tensor:
    """k-space to image along ``dims``; the inverse and the adjoint of `fft`."""
    shifted = torch.fft.ifftshift(kspace, dim=dims)
    image: Tensor = torch.fft.fftshift(torch.fft.ifftn(shifted, dim=dims, norm="ortho"), dim=dims)
    return image
