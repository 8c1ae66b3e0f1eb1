"""Virtual coils that differ along the readout: geometric coil compression.

Zhang, Pauly, Vasanawala and Lustig, Magn. Reson. Med. 69 (2013) 571-582. At one position along the
readout few coils have much signal, so that fewer virtual coils hold it than hold that of the whole
image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from tiltkit_mri.compression import enough_coils, mix_coils
from tiltkit_mri.fourier import fft, ifft

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["align", "geometric_coils", "mix_kspace", "strongest_coils"]


def geometric_coils(
    calibration: Tensor, rows: int, wanted: int | None = None
) -> tuple[Tensor, float]:
    """Matrices to virtual coils, one for each row of the image.

    The rows of each matrix are orthonormal, so that white noise stays white. Neighbouring matrices
    are aligned, so that coil maps stay smooth.

    Args:
        calibration: Centre of k-space (coil, readout sample, line) of coils with white noise,
            complex.
        rows: Number of rows of the image, at least the number of readout samples.
        wanted: As for `tiltkit_mri.compression.virtual_coils`.

    Returns:
        The matrices (row, virtual coil, coil), and the share of the energy that is kept.
    """
    bases, energies = strongest_coils(calibration, rows)
    number, kept = enough_coils(energies, wanted)
    if number == len(calibration):
        return torch.eye(number, dtype=calibration.dtype).expand(rows, -1, -1), kept
    return align(bases[:, :number]).to(calibration.dtype), kept


def strongest_coils(calibration: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """Principal components at each row of the image, strongest first.

    Args:
        calibration: As for `geometric_coils`.
        rows: Number of rows of the image.

    Returns:
        Matrices (row, component, coil), and the energies (component,) of the calibration lines.
    """
    n = calibration.shape[1]
    # Matrices from few readout samples vary slowly. The window keeps strong signal from other rows.
    window = torch.hann_window(n + 1, dtype=torch.float64)[1:, None]
    smooth = _positions(calibration * window, rows)
    vectors = torch.linalg.eigh(smooth @ smooth.mH)[1]
    bases = vectors.flip(2).mH.resolve_conj()
    energies = (bases @ _positions(calibration, rows)).abs().square().sum((0, 2))
    return bases, energies


def align(bases: Tensor) -> Tensor:
    """Matrices turned so that each is as near as possible to the one before.

    A unitary matrix from the left, found by a singular value decomposition (orthogonal Procrustes
    problem), keeps the space that the rows of a matrix span.

    Args:
        bases: Matrices (position, virtual coil, coil) with orthonormal rows.
    """
    aligned = [bases[0]]
    for basis in bases[1:]:
        left, _, right = torch.linalg.svd(aligned[-1] @ basis.mH)
        aligned.append(left @ right @ basis)
    return torch.stack(aligned)


def mix_kspace(mix: Tensor, kspace: Tensor) -> Tensor:
    """k-space (virtual coil, row, ...) of virtual coils.

    Args:
        mix: As for `tiltkit_mri.compression.mix_coils`, for rows of the image.
        kspace: k-space (coil, row, ...) of the white coils, with all rows where there is a matrix
            for each.
    """
    if mix.ndim == 2:
        return mix_coils(mix, kspace)
    return fft(mix_coils(mix, ifft(kspace, (1,))), (1,))


def _positions(calibration: Tensor, rows: int) -> Tensor:
    """Lines after a Fourier transform along the readout (row of the image, coil, line).

    Their phase is that of a centre at the first sample: it is the same for all coils.
    """
    block = calibration.to(torch.complex128)
    lines = torch.fft.ifft(block, n=rows, dim=1, norm="ortho")
    ordered: Tensor = torch.fft.fftshift(lines, dim=1)
    return ordered.transpose(0, 1)
