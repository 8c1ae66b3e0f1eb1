"""Virtual coils: fewer combinations of many coils that hold nearly all of their signal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ENERGY_KEPT", "FEWEST_COMPRESSED", "principal_coils", "virtual_coils"]

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
    n_coils = len(calibration)
    values, vectors = principal_coils(calibration)
    share = (values.flip(0).cumsum(0) / values.sum()).clamp(max=1)
    if wanted is None:
        few = n_coils <= FEWEST_COMPRESSED
        wanted = n_coils if few else int((share < ENERGY_KEPT).sum()) + 1
    if wanted >= n_coils:
        return torch.eye(n_coils, dtype=calibration.dtype), 1.0
    strongest = vectors.flip(1)[:, :wanted]
    return strongest.mH.resolve_conj().to(calibration.dtype), float(share[wanted - 1])


def principal_coils(calibration: Tensor) -> tuple[Tensor, Tensor]:
    """Energies (coil,) of the principal components of coils, ascending, and weights as columns.

    Args:
        calibration: Centre of k-space (coil, rows, columns), complex.
    """
    samples = calibration.flatten(1).to(torch.complex128)
    values, vectors = torch.linalg.eigh(samples @ samples.mH)
    return values, vectors
