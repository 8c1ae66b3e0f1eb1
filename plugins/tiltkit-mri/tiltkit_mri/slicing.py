"""Two-dimensional slices of a scan, or of a volume along an axis whose k-space is complete."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tiltkit_mri.cartesian_lines import Lines
from tiltkit_mri.geometry import image_grid
from tiltkit_mri.header import Header

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Slicing", "ifft_along", "slices_of"]

# Bytes of samples of a volume that are read at once, and of slices that are kept.
_READ_BYTES, _KEPT_BYTES = 2**28, 2**29


@dataclass(frozen=True)
class Slicing:
    """How the k-space (row, column, partition) of an image is cut into slices.

    With one partition an image is one slice. Where all partitions are measured, slices are
    partitions. Otherwise they are positions along the readout, which is complete, and their k-space
    has the first phase encoding for rows and the second for columns.

    Attributes:
        header: Matrix, field of view and thickness of a slice.
        shape: Rows and columns of the k-space of a slice.
        numbers: Numbers of the slices of one image along the transformed axis.
        total: Length of that axis.
        along_readout: Slices are positions along the readout.
    """

    header: Header
    shape: tuple[int, int]
    numbers: range
    total: int
    along_readout: bool = False

    @property
    def thickness(self) -> float | None:
        """Distance of slices in mm."""
        return None if self.header.thickness is None else self.header.thickness / self.total

    @property
    def word(self) -> str:
        """What a slice of a volume is called."""
        return "position" if self.along_readout else "partition"

    def block(self, n_coils: int) -> int:
        """Number of slices that are computed and kept together."""
        if not self.along_readout:
            return len(self.numbers)
        return max(1, _KEPT_BYTES // (8 * n_coils * self.shape[0] * self.shape[1]))

    def mask(self, lines: Lines) -> NDArray[np.bool_]:
        """Points (row, column) of a slice that lines measure."""
        mask = np.zeros(self.shape, dtype=np.bool_)
        if self.along_readout:
            mask[lines.column, lines.partition] = True
        else:
            mask[:, lines.column] = True
        return mask

    def read(self, lines: Lines, numbers: range) -> NDArray[np.complex64]:
        """k-space of some slices of one image (slice, coil, row, column)."""
        if self.along_readout:
            return _along_readout(lines, numbers)
        kspace = lines.read()
        volume = kspace if len(kspace) == 1 else ifft_along(kspace, 0)
        return volume[numbers.start : numbers.stop]


def slices_of(header: Header, complete: bool) -> Slicing:
    """The slices of an image.

    Args:
        header: Its encoded matrix is known.
        complete: All partitions of the columns with data are measured.
    """
    assert header.encoded is not None  # noqa: S101
    rows, columns = header.encoded
    partitions, wanted = header.partitions[0], min(header.partitions)
    if complete:
        if partitions > 1 and header.thickness and header.recon_thickness:
            share = header.recon_thickness / header.thickness
            wanted = min(partitions, max(1, round(partitions * share)))
        numbers = _middle(partitions, wanted)
        return Slicing(header, header.encoded, numbers, partitions)
    numbers = _middle(rows, image_grid(header, (rows, columns)).cut[0])
    thick, recon_thick = header.thickness, header.recon_thickness
    own, recon = header.encoded_fov, header.recon_fov
    turned = replace(
        header,
        encoded=(columns, partitions),
        recon=header.recon and (header.recon[1], wanted),
        encoded_fov=(own[1], thick) if own and thick else None,
        recon_fov=(recon[1], recon_thick) if recon and recon_thick else None,
        thickness=own and own[0],
        recon_thickness=recon and recon[0],
        centre=None,  # the limits of the columns are those of the partitions now
        maximum=None,
    )
    return Slicing(turned, (columns, partitions), numbers, rows, along_readout=True)


def _middle(total: int, wanted: int) -> range:
    first = (total - wanted) // 2
    return range(first, first + wanted)


def ifft_along(kspace: NDArray[np.complexfloating], axis: int) -> NDArray[np.complex64]:
    """k-space to image along one axis, unitary and centred."""
    shifted = np.fft.ifftshift(kspace, axes=axis)
    image = np.fft.fftshift(np.fft.ifft(shifted, axis=axis, norm="ortho"), axes=axis)
    return np.asarray(image, dtype=np.complex64)


def _along_readout(lines: Lines, positions: range) -> NDArray[np.complex64]:
    """k-space (position, coil, column, partition) at some positions along the readout.

    Lines are read and transformed in parts, so that the volume is never in memory as a whole.
    """
    rows, columns, partitions = lines.shape
    n_coils = int(lines.acquisitions.field("active_channels")[0])
    found = np.zeros((len(positions), n_coils, columns, partitions), dtype=np.complex64)
    places, place = np.unique(lines.column * partitions + lines.partition, return_inverse=True)
    step = max(1, _READ_BYTES // (8 * n_coils * rows))
    for first in range(0, len(places), step):
        chosen = np.flatnonzero((place >= first) & (place < first + step))
        part, here = lines.where(chosen), places[first : first + step]
        # As if the places were columns of one image: averages are averaged on the way.
        column, none = place[chosen] - first, np.zeros(len(chosen), dtype=np.int64)
        flat = replace(part, column=column, partition=none, shape=(rows, len(here), 1))
        image = ifft_along(flat.read()[0], 1)[:, positions.start : positions.stop]
        found[:, :, here // partitions, here % partitions] = image.transpose(1, 0, 2)
    return found
