"""The table of acquisitions of an ISMRMRD file: all headers at once, samples of chosen rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from tiltkit.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["COUNTERS", "Acquisitions", "Flag", "read_acquisitions"]

# Counters that number the images of a scan, slowest first.
COUNTERS = ("repetition", "phase", "set", "contrast", "slice")
# Fields of a header that are used; fields of vectors first.
_VECTORS = ("position", "read_dir", "phase_dir", "slice_dir")
_NUMBERS = (
    "flags", "number_of_samples", "active_channels", "discard_pre", "discard_post",
    "center_sample", "encoding_space_ref", "trajectory_dimensions", "sample_time_us",
)  # fmt: skip
_STEPS = ("kspace_encode_step_1", "kspace_encode_step_2")


class Flag(IntEnum):
    """Numbers of flags in the ISMRMRD format: number ``n`` is bit ``n - 1``."""

    NOISE = 19
    CALIBRATION = 20
    CALIBRATION_AND_IMAGING = 21
    REVERSE = 22
    NAVIGATION = 23
    PHASE_CORRECTION = 24
    FEEDBACK = 26
    DUMMY = 27
    REALTIME_FEEDBACK = 28
    SURFACE_COIL_CORRECTION = 29
    PHASE_STABILISATION_REFERENCE = 30
    PHASE_STABILISATION = 31


@dataclass(frozen=True, slots=True)
class Acquisitions:
    """Some rows of the table.

    Attributes:
        dataset: The table.
        path: The file, for messages.
        number: Row numbers, ascending.
        head: Headers of these rows, a structured array with a field ``idx`` of counters.
    """

    dataset: h5py.Dataset
    path: Path
    number: NDArray[np.intp]
    head: NDArray[np.void]

    def __len__(self) -> int:
        return len(self.number)

    def where(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> Acquisitions:
        """The chosen ones of these rows."""
        return replace(self, number=self.number[chosen], head=self.head[chosen])

    def has(self, *flags: Flag) -> NDArray[np.bool_]:
        """True for rows with any of the flags."""
        bits = np.uint64(sum(1 << (flag - 1) for flag in flags))
        return np.asarray(self.head["flags"] & bits != 0)

    def field(self, name: str) -> NDArray[np.int64]:
        """A whole number of the header, or a counter."""
        values = (
            self.head[name] if name in (self.head.dtype.names or ()) else self.head["idx"][name]
        )
        return np.asarray(values, dtype=np.int64)

    @property
    def counters(self) -> NDArray[np.int64]:
        """`COUNTERS` of all rows (row, counter)."""
        return np.stack([self.field(name) for name in COUNTERS], axis=1)

    def blocks(self) -> Iterator[tuple[NDArray[np.intp], NDArray[np.complex64]]]:
        """Samples of all rows, rows of equal shape together.

        Yields:
            Positions among these rows, and the samples complex64 (row, coil, sample).

        Raises:
            InputError: A row has another number of samples than its header says.
        """
        if not len(self):
            return
        # h5py reads chosen rows only in ascending order.
        data = self.dataset.fields("data")[self.number]
        coils, samples = self.field("active_channels"), self.field("number_of_samples")
        sizes = np.fromiter(map(len, data), dtype=np.int64, count=len(data))
        wrong = np.flatnonzero(sizes != 2 * coils * samples)
        if len(wrong):
            row = wrong[0]
            raise InputError(
                f"Acquisition {self.number[row]} of {self.path} has {sizes[row]} numbers, but its"
                f" header has {coils[row]} coils with {samples[row]} complex samples.",
                "export the scan again: header and samples do not belong together.",
            )
        for count in np.unique(samples):
            rows = np.flatnonzero(samples == count)
            block = np.stack([data[row] for row in rows]).astype(np.float32, copy=False)
            yield rows, block.view(np.complex64).reshape(len(rows), -1, count)

    def trajectories(self) -> list[NDArray[np.float32]]:
        """Positions of the samples of each row, (sample, dimension), as the file has them.

        Raises:
            InputError: A row has another number of positions than its header says.
        """
        data = self.dataset.fields("traj")[self.number]
        samples, dimensions = self.field("number_of_samples"), self.field("trajectory_dimensions")
        for number, values, size in zip(self.number, data, samples * dimensions, strict=True):
            if len(values) != size:
                raise InputError(
                    f"Acquisition {number} of {self.path} has {len(values)} trajectory values, its"
                    f" header asks for {size}.",
                    "export the scan again with its trajectory.",
                )
        return [np.asarray(values, dtype=np.float32).reshape(n, d)
                for values, n, d in zip(data, samples, dimensions, strict=True)]  # fmt: skip


def read_acquisitions(dataset: h5py.Dataset, path: Path) -> Acquisitions:
    """Read the headers of a table, without samples.

    Raises:
        InputError: The table has no rows, or lacks fields of the ISMRMRD format.
    """
    head_type = dataset.dtype.fields and dataset.dtype["head"] if dataset.dtype.names else None
    names = set(getattr(head_type, "names", None) or ())
    if head_type is not None and "idx" in names and head_type["idx"].names:
        names |= {f"idx.{name}" for name in head_type["idx"].names}
    needed = {*_NUMBERS, *_VECTORS, *(f"idx.{name}" for name in (*COUNTERS, *_STEPS))}
    missing = sorted(needed - names)
    if missing or h5py.check_vlen_dtype(dataset.dtype["data"]) != np.float32:
        lacks = f"lacks {', '.join(missing[:4])}" if missing else "has samples that are not float32"
        raise InputError(
            f"The acquisitions of {path} are not those of the ISMRMRD format: the table {lacks}.",
            "write it with the ismrmrd library, or convert it to the fastMRI layout.",
        )
    if not len(dataset):
        raise InputError(
            f"{path} holds no acquisitions.", "check that the scan was saved completely."
        )
    head = dataset.fields("head")[:]
    return Acquisitions(dataset, path, np.arange(len(head)), head)
