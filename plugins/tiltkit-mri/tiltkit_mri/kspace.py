"""The k-space of a Cartesian MRI scan, read one slice at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiltkit.problem import Note
from tiltkit_mri.header import Header

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["KSpace"]


@dataclass(frozen=True, slots=True)
class KSpace:
    """A checked scan. Rows are the readout, complete; columns are the phase encoding.

    Attributes:
        path: The file.
        n_slices: Number of slices.
        n_coils: Number of coils.
        shape: Rows and columns of k-space, readout oversampling included.
        columns: Measured columns, bool (slice, column); all False for a slice that cannot be
            used.
        recon: Rows and columns of the reconstructed image, cut from the centre.
        read: Reads slice ``i`` as complex64 (coil, row, column); raises
            `tiltkit.errors.InputError` where it cannot be used.
        layout: Name of the file layout, for people.
        header: Geometry.
        metadata: Metadata that a result copies from the file.
        notes: Unusual properties of the file, as sentences.
        unusable: Slices that cannot be used, and why.
    """

    path: Path
    n_slices: int
    n_coils: int
    shape: tuple[int, int]
    columns: NDArray[np.bool_]
    recon: tuple[int, int]
    read: Callable[[int], NDArray[np.complex64]]
    layout: str = "fastMRI"
    header: Header = field(default_factory=Header)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()
    unusable: Mapping[int, str] = field(default_factory=dict)

    def calibration(self, index: int) -> range:
        """Measured columns of a slice around the centre of k-space; empty where there are none."""
        columns = self.columns[index]
        first = last = self.shape[1] // 2
        if not columns[first]:
            return range(0)
        while first > 0 and columns[first - 1]:
            first -= 1
        while last + 1 < len(columns) and columns[last + 1]:
            last += 1
        return range(first, last + 1)

    def acceleration(self, index: int) -> float:
        """Columns of k-space per measured column, zero filling at the sides left out."""
        first, last = self.header.measured_columns or (0, self.shape[1])
        within = min(last, self.shape[1]) - max(first, 0)
        return within / int(self.columns[index].sum())

    @property
    def pixel_mm(self) -> tuple[float, float] | None:
        """Height and width of a pixel, where the header states them."""
        if self.header.encoded_fov is None:
            return None
        return (
            self.header.encoded_fov[0] / self.shape[0],
            self.header.encoded_fov[1] / self.shape[1],
        )
