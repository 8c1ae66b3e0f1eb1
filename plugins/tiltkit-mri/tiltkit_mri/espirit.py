"""Coil sensitivities from calibration lines: ESPIRiT (Uecker et al., Magn. Reson. Med. 2014)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from tiltkit_mri.compression import principal_coils

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Sensitivities", "espirit", "given_sensitivities"]

# Bytes of coil-by-coil matrices that are diagonalised at once: bounds the memory.
_BLOCK_BYTES = 2**26
# Given maps weaker than this share of the strongest are zero: their file masks the pixel.
_NO_MAP = 1e-6


@dataclass(frozen=True, slots=True)
class Sensitivities:
    """Coil sensitivities, and their confidence.

    Attributes:
        maps: (coil, ny, nx), complex; the squares of their magnitudes sum to 1 in every pixel, or
            to 0 where no map is known.
        confidence: Largest eigenvalue (ny, nx): near 1 where one set of maps explains the
            signal of the calibration lines, small in air. Of given maps: 1 where there is one.
    """

    maps: Tensor
    confidence: Tensor


def espirit(
    calibration: Tensor, shape: tuple[int, int], *, kernel: int = 6, threshold: float = 0.02
) -> Sensitivities:
    """Estimate sensitivities.

    Args:
        calibration: Centre of k-space (coil, rows, columns), complex, both at least ``kernel``.
        shape: Size (ny, nx) of the maps.
        kernel: Size of the kernels in k-space samples.
        threshold: Smallest singular value of the calibration matrix that counts as signal, as a
            share of the largest.

    The phase of the maps is chosen so that the principal virtual coil (the combination of coils
    with the most energy) has none; this leaves the image a smooth phase.
    """
    kernels = _signal_kernels(calibration, kernel, threshold)
    taps = _correlate(kernels)
    ny, nx = shape
    n_coils = len(calibration)
    columns = _evaluate(nx, kernel, taps)
    rows = _evaluate(ny, kernel, taps)
    maps = taps.new_empty(n_coils, ny, nx)
    confidence = torch.empty(ny, nx, dtype=taps.real.dtype, device=taps.device)
    half = torch.einsum("cdab,xb->cdax", taps, columns)
    step = max(1, _BLOCK_BYTES // (n_coils**2 * nx * taps.element_size()))
    for first in range(0, ny, step):
        block = slice(first, first + step)
        matrices = torch.einsum("cdax,ya->yxcd", half, rows[block])
        values, vectors = torch.linalg.eigh(matrices)
        maps[:, block] = vectors[..., -1].permute(2, 0, 1)
        confidence[block] = values[..., -1]
    return Sensitivities(_without_phase(maps, _virtual_coil(calibration)), confidence)


def given_sensitivities(maps: Tensor) -> Sensitivities:
    """Maps (coil, ny, nx) with the squares of their magnitudes scaled to a sum of 1, or 0."""
    strength = torch.linalg.vector_norm(maps, dim=0)
    known = strength > _NO_MAP * strength.max()
    scaled = torch.where(known, maps / strength.where(known, 1), 0)
    return Sensitivities(scaled, known.to(strength.dtype))


def _signal_kernels(calibration: Tensor, kernel: int, threshold: float) -> Tensor:
    """Kernels (number, coil, kernel, kernel) that span the rows of the calibration matrix."""
    n_coils = len(calibration)
    patches = calibration.unfold(1, kernel, 1).unfold(2, kernel, 1)
    matrix = patches.permute(1, 2, 0, 3, 4).reshape(-1, n_coils * kernel**2)
    # Squared singular values need the range of double precision.
    matrix = matrix.to(torch.complex128)
    values, vectors = torch.linalg.eigh(matrix.mH @ matrix)
    kept = vectors[:, values >= threshold**2 * values[-1]].to(calibration.dtype)
    kernels: Tensor = kept.T.reshape(-1, n_coils, kernel, kernel)
    return kernels


def _correlate(kernels: Tensor) -> Tensor:
    """Correlation of the kernels of all pairs of coils (coil, coil, 2 kernel - 1, 2 kernel - 1).

    Its Fourier transform is the coil-by-coil matrix of every pixel, so that no kernel is ever
    transformed to the full image.
    """
    size = kernels.shape[-1]
    padded = torch.fft.fft2(kernels, s=(2 * size - 1, 2 * size - 1))
    products = torch.einsum("kcab,kdab->cdab", padded.conj(), padded)
    taps: Tensor = torch.fft.fftshift(torch.fft.fft2(products, norm="forward"), dim=(-2, -1))
    return taps / size**2


def _evaluate(n: int, kernel: int, like: Tensor) -> Tensor:
    """Matrix (n, 2 kernel - 1) from taps to the pixels of one axis."""
    pixels = torch.arange(n, device=like.device, dtype=torch.float64) - n // 2
    offsets = torch.arange(1 - kernel, kernel, device=like.device, dtype=torch.float64)
    angle = 2 * math.pi / n * torch.outer(pixels, offsets)
    return torch.polar(torch.ones_like(angle), angle).to(like.dtype)


def _virtual_coil(calibration: Tensor) -> Tensor:
    """Weights (coil,) of the combination of coils with the most energy."""
    return principal_coils(calibration)[1][:, -1].to(calibration.dtype)


def _without_phase(maps: Tensor, weights: Tensor) -> Tensor:
    """Maps turned so that their combination with ``weights`` is real and positive."""
    combined = torch.einsum("c,cyx->yx", weights.conj(), maps)
    return maps * torch.polar(torch.ones_like(combined.real), -combined.angle())
