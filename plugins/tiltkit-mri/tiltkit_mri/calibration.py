"""Calibration lines from another scan."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from tiltkit.errors import InputError
from tiltkit_mri.fourier import fft, ifft

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tiltkit_mri.kspace import KSpace

__all__ = ["with_calibration"]

# Fields of view in two headers are equal within this share.
_ROUNDING = 0.01
# Calibration needs so many readout samples: zeros around fewer would count as signal.
_LEAST_ROWS = 32


def with_calibration(scan: KSpace, other: KSpace) -> KSpace:
    """A scan whose coil maps come from the calibration lines of another one.

    The other scan may have another matrix, but needs the same coils in the same order, the same
    slices (or one for all), and the same field of view along the phase encoding. Where a header
    states no field of view, it is taken as equal. Along the readout the field of view may differ,
    as with oversampling.

    Args:
        scan: The scan to reconstruct.
        other: The scan with calibration lines.

    Raises:
        InputError: The scans do not belong together.
    """
    _check(scan, other)
    source = other.read if other.reference is None else other.reference
    known = other.mask if other.reference_points is None else other.reference_points
    alone = other.n_slices == 1
    rows = _rows(scan, other)

    def reference(index: int) -> NDArray[np.complex64]:
        """Calibration lines on the grid of the scan's k-space."""
        data = torch.from_numpy(source(0 if alone else index))
        if rows != data.shape[1]:
            data = fft(_centred(ifft(data, (1,)), rows, 1), (1,))
        for axis in (0, 1):
            data = _centred(data, scan.shape[axis], axis + 1)
        return data.numpy()

    def points(index: int) -> NDArray[np.bool_]:
        """Columns of the calibration lines on that grid, as points."""
        columns = torch.from_numpy(known(0 if alone else index).any(axis=0))
        return np.broadcast_to(_centred(columns, scan.shape[1], 0).numpy(), scan.shape)

    return replace(scan, reference=reference, reference_points=points)


def _check(scan: KSpace, other: KSpace) -> None:
    """Refuse a calibration scan that does not belong to the scan."""
    if other.n_coils != scan.n_coils:
        raise InputError(
            f"The calibration scan {other.path} has {other.n_coils} coils, {scan.path} has"
            f" {scan.n_coils}.",
            "give a scan with the same coils as task.calibration.",
        )
    if other.n_slices not in (1, scan.n_slices):
        raise InputError(
            f"The calibration scan {other.path} has {other.n_slices} slices, {scan.path} has"
            f" {scan.n_slices}.",
            "give as many as task.calibration, or one slice for all.",
        )
    theirs, ours = other.header.encoded_fov, scan.header.encoded_fov
    if theirs and ours and abs(theirs[1] / ours[1] - 1) > _ROUNDING:
        raise InputError(
            f"The calibration scan {other.path} has a field of view of {theirs[1]:.4g} mm along the"
            f" phase encoding, {scan.path} has {ours[1]:.4g} mm.",
            "give a scan with the same field of view as task.calibration.",
        )
    if other.trajectory is not None or other.points is not None or scan.trajectory is not None:
        raise InputError(
            f"Calibration of {scan.path} from {other.path} needs scans with whole columns.",
            "leave task.calibration out.",
        )
    if _rows(scan, other) < _LEAST_ROWS:
        raise InputError(
            f"The calibration scan {other.path} has {other.shape[0]} rows; maps need at least"
            f" {_LEAST_ROWS}.",
            "give one with a higher resolution along the readout as task.calibration.",
        )


def _rows(scan: KSpace, other: KSpace) -> int:
    """Rows of the other k-space once its field of view along the readout is that of the scan."""
    theirs, ours = other.header.encoded_fov, scan.header.encoded_fov
    return round(other.shape[0] * ours[0] / theirs[0]) if theirs and ours else other.shape[0]


def _centred(data: torch.Tensor, size: int, dim: int) -> torch.Tensor:
    """One axis cut or filled with zeros to ``size``; the sample at ``n // 2`` stays the centre."""
    n = data.shape[dim]
    if n > size:
        return data.narrow(dim, n // 2 - size // 2, size)
    shape = list(data.shape)
    shape[dim] = size
    full = data.new_zeros(shape)
    full.narrow(dim, size // 2 - n // 2, n).copy_(data)
    return full
