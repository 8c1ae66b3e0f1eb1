"""Noise of a slice from all places of the scan that have some."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from tiltkit_mri.fourier import ifft
from tiltkit_mri.noise import (
    Noise,
    Source,
    combine_sources,
    noise_of_air,
    noise_of_differences,
    noise_of_outer_kspace,
    noise_of_scan,
)

if TYPE_CHECKING:
    from torch import Tensor

    from tiltkit_mri.kspace import KSpace

__all__ = ["find_noise", "noise_of_slices"]

# Fewer slices than this are no volume along which air could be found.
_FEWEST_SLICES = 16
# Points of each slice, farthest from the centre and nearest to it, that show which slices are air.
_OUTER, _INNER = 400, 16


def find_noise(
    kspace: Tensor,
    mask: Tensor,
    scan: Tensor | None = None,
    air: Source | None = None,
    differences: Tensor | None = None,
) -> Noise:
    """Noise of a slice, from all places that have some.

    Image rows of air are found where all measured rows have the same columns. Where rows at the
    ends are left out, the inverse FFT of the others has fewer rows, and noise as white.

    Args:
        kspace: k-space (coil, row, column), complex.
        mask: Measured points, bool (row, column).
        scan: Samples of a noise scan (coil, sample); None where there is none.
        air: Noise of slices of air; see `noise_of_slices`.
        differences: Differences of averages (coil, row, column); see `KSpace.differences`.

    Raises:
        ValueError: No place has noise.
    """
    rows, columns = mask.any(1), mask.any(0)
    if bool(mask[rows][:, columns].all()):
        across = columns.nonzero().squeeze(1) - len(columns) // 2
        air = noise_of_air(ifft(kspace[:, rows][..., columns], (1,)), across.abs())
    size = torch.tensor(mask.shape)[:, None]
    position = (mask.nonzero().T - size // 2) / (size / 2)
    sources = [
        air,
        noise_of_outer_kspace(kspace[:, mask], position),
        None if scan is None else noise_of_scan(scan),
    ]
    if differences is not None:
        # The centre of k-space changes most where something moves.
        distance = position.norm(dim=0)
        outer = differences[:, mask][:, distance >= distance.median()]
        sources.append(noise_of_differences(outer))
    return combine_sources([one for one in sources if one])


def noise_of_slices(scan: KSpace) -> Source | None:
    """Noise from slices of air, in a volume with two phase encodings.

    Slices that the readout was transformed to have nothing but noise at both ends of the volume.
    They are found as `noise_of_air` finds rows of air, with slices for rows and points for columns.

    Returns:
        None where single points are not left out, where masks differ from slice to slice, where
        there are few slices, and where none of them is air.
    """
    if scan.points is None or scan.n_slices < _FEWEST_SLICES or scan.unusable:
        return None
    mask = scan.mask(0)
    if not all((scan.mask(i) == mask).all() for i in range(1, scan.n_slices)):
        return None
    points = np.argwhere(mask)
    distance = np.linalg.norm((points - np.array(mask.shape) // 2) / mask.shape, axis=1)
    order = distance.argsort(kind="stable")
    chosen = np.unique(np.concatenate([order[:_INNER], order[-_OUTER:]]))
    row, column = points[chosen].T
    slices = [scan.read(i)[:, row, column] for i in range(scan.n_slices)]
    hybrid = torch.from_numpy(np.stack(slices, axis=1))
    return noise_of_air(hybrid, torch.from_numpy(distance[chosen]))
