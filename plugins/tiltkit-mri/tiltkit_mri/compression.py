"""Virtual coils: fewer combinations of many coils that hold nearly all of their signal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "ENERGY_KEPT", "FEWEST_COMPRESSED", "enough_coils", "mix_coils", "principal_coils",
    "virtual_coils",
]  # fmt: skip

# Up to so many coils are used as they are: their maps cost little.
FEWEST_COMPRESSED = 16
# Share of the energy of the calibration lines that virtual coils hold.
ENERGY_KEPT = 0.999


def virtual_coils(calibration: Tensor, wanted: int | None = None) -> tuple[Tensor, float]:
    """Matrix to virtual coils, by principal components (Buehrer et al., Magn. Reson. Med. 2007).

    Its rows are orthonormal, so that white noise stays white.

    Args:
        calibration: Centre of k-space (coil, rows, columns) of coils with white noise, complex.
        wanted: Number of virtual coils; None for as many as hold `ENERGY_KEPT`, and for all where
            there are `FEWEST_COMPRESSED` coils or less.

    Returns:
        The matrix (virtual coil, coil), and the share of the energy that is kept.
    """
    values, vectors = principal_coils(calibration)
    number, kept = enough_coils(values.flip(0), wanted)
    if number == len(calibration):
        return torch.eye(number, dtype=calibration.dtype), 1.0
    strongest = vectors.flip(1)[:, :number]
    return strongest.mH.resolve_conj().to(calibration.dtype), kept


def enough_coils(energies: Tensor, wanted: int | None) -> tuple[int, float]:
    """Number of virtual coils, and the share of the energy that they hold.

    Args:
        energies: Energies (coil,) of all virtual coils, descending.
        wanted: As for `virtual_coils`.
    """
    share = (energies.cumsum(0) / energies.sum()).clamp(max=1)
    if wanted is None:
        few = len(energies) <= FEWEST_COMPRESSED
        wanted = len(energies) if few else int((share < ENERGY_KEPT).sum()) + 1
    if wanted >= len(energies):
        return len(energies), 1.0
    return wanted, float(share[wanted - 1])


def mix_coils(mix: Tensor, images: Tensor) -> Tensor:
    """Combinations of coils (virtual coil, row, ...) by one matrix, or by one for each row.

    Args:
        mix: Matrix (virtual coil, coil), or matrices (row, virtual coil, coil).
        images: Images or maps (coil, row, ...).
    """
    rows = "r" if mix.ndim == 3 else ""
    return torch.einsum(f"{rows}vc,c{rows}...->v{rows}...", mix, images)


def principal_coils(calibration: Tensor) -> tuple[Tensor, Tensor]:
    """Energies (coil,) of the principal components of coils, ascending, and weights as columns.

    Args:
        calibration: Centre of k-space (coil, rows, columns), complex.
    """
    samples = calibration.flatten(1).to(torch.complex128)
    values, vectors = torch.linalg.eigh(samples @ samples.mH)
    return values, vectors
