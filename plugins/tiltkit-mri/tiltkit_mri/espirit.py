"""Coil sensitivities from calibration lines: ESPIRiT (Uecker et al., Magn. Reson. Med. 2014)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from tiltkit.problem import Note
from tiltkit_mri.compression import principal_coils
from tiltkit_mri.folded import find_band, low_resolution, unfold_maps

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["FEWEST_LINES", "Sensitivities", "describe_maps", "espirit", "given_sensitivities"]

# Smallest usual certainty of maps. Measured: 0.96 to 1 with 6 to 32 lines of a head whose lines
# have the strength of their noise or more, 0.85 where the kernel is too large for them.
_CERTAIN = 0.9
# Calibration lines that maps need at least.
FEWEST_LINES = 6
# Smaller kernels have second eigenvalues near 1 in whole objects, too, and find no folds.
_FOLD_KERNEL = 4
# Bytes of coil-by-coil matrices that are diagonalised at once: bounds the memory.
_BLOCK_BYTES = 2**26
# Given maps weaker than this share of the strongest are zero: their file masks the pixel.
_NO_MAP = 1e-6


@dataclass(frozen=True, slots=True)
class Sensitivities:
    """Coil sensitivities, and their confidence.

    Attributes:
        maps: (coil, ny, width), complex; the squares of their magnitudes sum to 1 in every pixel,
            or to 0 where no map is known. Where the object is wider than the field of view, so is
            the image: see `tiltkit_mri.folded`.
        confidence: Largest eigenvalue (ny, nx): near 1 where one set of maps explains the
            signal of the calibration lines, small in air. Of given maps: 1 where there is one.
        at: Column of the field of view of each column of the maps (width,); None where they are
            the same.
        certainty: Mean of the largest eigenvalue, weighted with the energy of the calibration
            lines: 1 where the maps explain all of it. Of given maps: 1.
        unexplained: Two images overlap, but not as in a fold; one set of maps is used for them.
    """

    maps: Tensor
    confidence: Tensor
    at: Tensor | None = None
    certainty: float = 1.0
    unexplained: bool = False


def espirit(
    calibration: Tensor,
    shape: tuple[int, int],
    *,
    kernel: int | None = None,
    threshold: float = 0.02,
    noise_level: float | None = None,
) -> Sensitivities:
    """Estimate sensitivities.

    Args:
        calibration: Centre of k-space (coil, rows, columns), complex, both at least ``kernel``,
            or `FEWEST_LINES`.
        shape: Size (ny, nx) of the maps.
        kernel: Size of the kernels in k-space samples; None for 3/8 of the calibration lines, at
            least 3 and at most 6. Of kernels of 3 to 7 samples this has the most accurate maps for
            6 to 24 lines of a head with 8 coils; with 8 lines the error is a tenth of that with 6.
        threshold: Smallest singular value of the calibration matrix that counts as signal, as a
            share of the largest.
        noise_level: Standard deviation of the noise per real component of ``calibration``. Where
            it is given, singular values of noise do not count as signal, and objects wider than
            the field of view get maps of the whole object.

    The phase of the maps is chosen so that the principal virtual coil (the combination of coils
    with the most energy) has none; this leaves the image a smooth phase.
    """

    def found(maps: Tensor, values: Tensor, at: Tensor | None = None) -> Sensitivities:
        energy = low_resolution(calibration, shape, 0.0)[0].abs().square().sum(0)
        certainty = float((values[0] * energy).sum() / energy.sum())
        return Sensitivities(maps, values[0], at, certainty, unexplained)

    side = min(calibration.shape[1:])
    size = kernel or min(max(side * 3 // 8, 3), 6)
    unexplained = False
    if noise_level is not None and len(calibration) > 1 and side >= _FOLD_KERNEL:
        large = max(size, _FOLD_KERNEL)
        values, vectors = _eigenmaps(calibration, shape, large, threshold, noise_level)
        band = find_band(values[1], vectors[1], calibration, noise_level)
        if band is not None and band.width:
            wide, at = unfold_maps(vectors[0], vectors[1], band)
            return found(wide, values, at)
        unexplained = band is not None
        if large == size:
            return found(vectors[0], values)
    values, vectors = _eigenmaps(calibration, shape, size, threshold, noise_level or 0.0)
    return found(vectors[0], values)


def _eigenmaps(
    calibration: Tensor, shape: tuple[int, int], kernel: int, threshold: float, noise_level: float
) -> tuple[Tensor, Tensor]:
    """Eigenvalues (2, ny, nx) and sets of maps (2, coil, ny, nx), the first of smooth phase."""
    kernels = _signal_kernels(calibration, kernel, threshold, noise_level)
    values, vectors = _decompose(_correlate(kernels), kernel, shape)
    vectors[0] = _without_phase(vectors[0], _virtual_coil(calibration))
    return values, vectors


def _decompose(taps: Tensor, kernel: int, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The two largest eigenvalues (2, ny, nx) and their vectors (2, coil, ny, nx), largest first.

    A single coil has one of each.
    """
    n_coils, (ny, nx) = len(taps), shape
    kept = min(n_coils, 2)
    columns = _evaluate(nx, kernel, taps)
    rows = _evaluate(ny, kernel, taps)
    values = torch.empty(kept, ny, nx, dtype=taps.real.dtype, device=taps.device)
    vectors = taps.new_empty(kept, n_coils, ny, nx)
    half = torch.einsum("cdab,xb->cdax", taps, columns)
    step = max(1, _BLOCK_BYTES // (n_coils**2 * nx * taps.element_size()))
    for first in range(0, ny, step):
        block = slice(first, first + step)
        matrices = torch.einsum("cdax,ya->yxcd", half, rows[block])
        found, bases = torch.linalg.eigh(matrices)
        values[:, block] = found[..., -kept:].flip(-1).permute(2, 0, 1)
        vectors[:, :, block] = bases[..., -kept:].flip(-1).permute(3, 2, 0, 1)
    return values, vectors


def given_sensitivities(maps: Tensor) -> Sensitivities:
    """Maps (coil, ny, nx) with the squares of their magnitudes scaled to a sum of 1, or 0."""
    strength = torch.linalg.vector_norm(maps, dim=0)
    known = strength > _NO_MAP * strength.max()
    scaled = torch.where(known, maps / strength.where(known, 1), 0)
    return Sensitivities(scaled, known.to(strength.dtype))


def describe_maps(found: Sensitivities, columns: int) -> tuple[Note, ...]:
    """Notes on maps that are not one set for the whole field of view.

    Args:
        found: The maps.
        columns: Columns of the field of view.
    """
    if found.certainty < _CERTAIN:
        text = (
            "The coil maps are uncertain: their mean eigenvalue is"
            f" {found.certainty:.2f}, usual are {_CERTAIN} to 1. The calibration lines are too few"
            " for the kernel, or mostly noise: set task.kernel lower, or give lines of another scan"
            " with -s task.calibration=FILE."
        )
        return (Note("maps_uncertain", text, assumed=True),)
    if found.at is not None:
        text = (
            f"The object is wider than the field of view: {len(found.at) - columns} of {columns}"
            " columns hold two parts of it, each with coil maps of its own."
        )
        return (Note("object_folds", text),)
    if found.unexplained:
        text = (
            "Coil maps do not explain the calibration lines: two images overlap, as with EPI"
            " ghosts, motion, or a field of view of half of the object. Expect ghosts that the"
            " spread does not show. Lines of another scan serve with -s task.calibration=FILE."
        )
        return (Note("maps_unexplained", text, assumed=True),)
    return ()


def _signal_kernels(
    calibration: Tensor, kernel: int, threshold: float, noise_level: float
) -> Tensor:
    """Kernels (number, coil, kernel, kernel) that span the rows of the calibration matrix.

    Singular values that noise alone has do not count: those of a matrix of white noise are at most
    its standard deviation times the sum of the roots of its sides (Marchenko and Pastur 1967).
    """
    n_coils = len(calibration)
    patches = calibration.unfold(1, kernel, 1).unfold(2, kernel, 1)
    matrix = patches.permute(1, 2, 0, 3, 4).reshape(-1, n_coils * kernel**2)
    # Squared singular values need the range of double precision.
    matrix = matrix.to(torch.complex128)
    values, vectors = torch.linalg.eigh(matrix.mH @ matrix)
    noise = 2 * noise_level**2 * sum(math.sqrt(side) for side in matrix.shape) ** 2
    # Where all is noise, the strongest kernel is left.
    least = max(threshold**2 * float(values[-1]), min(noise, float(values[-1])))
    kept = vectors[:, values >= least].to(calibration.dtype)
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
