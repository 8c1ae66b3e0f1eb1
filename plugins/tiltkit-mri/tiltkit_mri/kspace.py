"""The k-space of an MRI scan, read one slice at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiltkit.problem import Note
from tiltkit_mri.geometry import Grid
from tiltkit_mri.header import Header
from tiltkit_mri.masks import complete_centre

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["PER_SLICE", "SLICE_AXES", "VOLUME_AXES", "Geometry", "KSpace"]

# Names of the axes across, along rows and along columns.
SLICE_AXES = ("slice", "readout", "phase encoding")
VOLUME_AXES = ("readout", "first phase encoding", "second phase encoding")
# Metadata of fields of `KSpace` that are functions of a slice number.
PER_SLICE = {"per_slice": True}


@dataclass(frozen=True, slots=True)
class Geometry:
    """Position and orientation of one slice in the coordinates of the patient (LPS).

    Attributes:
        position: Centre of the slice (x, y, z) in mm.
        read_dir: Unit vector (x, y, z) along the readout, from the first row to the last.
        phase_dir: Unit vector along the phase encoding, from the first column to the last.
        slice_dir: Unit vector across the slice.
        voxel_mm: Height (readout) and width (phase encoding) of a pixel of the image and thickness
            of the slice, in mm.
    """

    position: tuple[float, float, float]
    read_dir: tuple[float, float, float]
    phase_dir: tuple[float, float, float]
    slice_dir: tuple[float, float, float]
    voxel_mm: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class KSpace:
    """A checked scan. Rows are the readout; columns are the phase encoding.

    Attributes:
        path: The file.
        n_slices: Number of slices.
        n_coils: Number of coils.
        shape: Rows and columns of k-space, readout oversampling included.
        columns: Columns with measured samples, bool (slice, column); all False for a slice that
            cannot be used.
        image: Pixels of the image on the grid of k-space.
        read: Reads slice ``i`` as complex64 (coil, row, column), zero where it is not measured;
            (coil, sample) where there is a `trajectory`. Raises `tiltkit.errors.InputError` where
            the slice cannot be used.
        layout: Name of the file layout, for people.
        header: Geometry.
        metadata: Metadata that a result copies from the file.
        notes: Unusual properties of the file, as sentences.
        unusable: Slices that cannot be used, and why.
        points: Gives the measured points of slice ``i``, bool (row, column); None where whole
            columns are measured. With a `trajectory` points of the grid that are near a sample.
        reference: Reads the calibration data of slice ``i``, complex64 (coil, row, column), zero
            where they are not measured; None where `read` gives all that there is.
        reference_points: Gives the points of `reference` with samples, bool (row, column).
        noise: Samples of a noise scan, complex64 (coil, sample), with the bandwidth and the
            averages of the samples of `read`; None where there is no noise scan.
        differences: Reads the difference of two halves of the averages of slice ``i``, complex64
            (coil, row, column), scaled to the noise of `read`; None without averages.
        trajectory: Gives the position in k-space of each sample of slice ``i``, float32
            (2, sample), (along rows, along columns), in cycles per pixel of the grid of `shape`,
            so within -0.5 to 0.5; None for Cartesian scans.
        geometry: One record per slice; empty where the file has none.
        slice_names: One name per slice (``"slice 2, contrast 1"``); empty where slices are only
            numbered.
        axes: What slices, rows and columns are, for labels.
        places: A number for each slice; slices with the same number are frames of one image, such
            as repetitions. Empty where there are no frames.
    """

    path: Path
    n_slices: int
    n_coils: int
    shape: tuple[int, int]
    columns: NDArray[np.bool_]
    image: Grid
    read: Callable[[int], NDArray[np.complex64]] = field(metadata=PER_SLICE)
    layout: str = "fastMRI"
    header: Header = field(default_factory=Header)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()
    unusable: Mapping[int, str] = field(default_factory=dict)
    points: Callable[[int], NDArray[np.bool_]] | None = field(default=None, metadata=PER_SLICE)
    reference: Callable[[int], NDArray[np.complex64]] | None = field(
        default=None, metadata=PER_SLICE
    )
    reference_points: Callable[[int], NDArray[np.bool_]] | None = field(
        default=None, metadata=PER_SLICE
    )
    noise: NDArray[np.complex64] | None = None
    differences: Callable[[int], NDArray[np.complex64]] | None = field(
        default=None, metadata=PER_SLICE
    )
    trajectory: Callable[[int], NDArray[np.float32]] | None = field(
        default=None, metadata=PER_SLICE
    )
    geometry: tuple[Geometry, ...] = ()
    slice_names: tuple[str, ...] = ()
    axes: tuple[str, str, str] = SLICE_AXES
    places: tuple[int, ...] = ()

    def mask(self, index: int) -> NDArray[np.bool_]:
        """Measured points of a slice (row, column)."""
        if self.points is not None:
            return self.points(index)
        return np.broadcast_to(self.columns[index], self.shape)

    def centre_block(self, index: int) -> tuple[range, range]:
        """Rows and columns of the complete centre of k-space, for calibration; may be empty.

        They are those of `reference` where there is one.
        """
        own = self.reference_points
        return complete_centre(self.mask(index) if own is None else own(index))

    def calibration(self, index: int) -> range:
        """Columns of `centre_block`: calibration lines."""
        return self.centre_block(index)[1]

    def acceleration(self, index: int) -> float:
        """Points of k-space per measured point, zero filling at the sides left out."""
        first, last = self.header.measured_columns or (0, self.shape[1])
        within = min(last, self.shape[1]) - max(first, 0)
        return within * self.shape[0] / int(self.mask(index).sum())

    @property
    def recon(self) -> tuple[int, int]:
        """Rows and columns of the grid of k-space to reconstruct, cut from the centre."""
        return self.image.cut

    @property
    def pixel_mm(self) -> tuple[float, float] | None:
        """Height and width of a pixel of the image, where the header states them."""
        return self.image.pixel_mm
