"""Projections, flats and darks of a tomography file, read in parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tiltkit.errors import InputError
from tiltkit.io.units import ANGLES, unit_names, unit_size
from tiltkit.problem import Note

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Band", "Kind", "Projections", "Stack", "constant_stack"]

Kind = Literal["counts", "line_integrals"]

# Full scales of cameras whose files use a wider type, and the share of flat pixels that must be
# at one of them to call them saturated.
_FULL_SCALES = (1023, 4095, 16383, 65535)
_SATURATED_SHARE = 1e-3  # single hot pixels also reach full scale


@dataclass(frozen=True)
class Stack:
    """Frames of one sort: projections, flats or darks.

    Attributes:
        load: Reads (frame numbers of the file, rows, columns) as float32 (frame, row, column),
            nothing else of the file.
        frames: Numbers of the frames in the file, (n,).
        times: Times of the frames, as fractional projection number, (n,).
        full_scale: Value at which the detector saturates; infinite where that is not known.
        monitor: Intensity of the beam during each frame, in any unit, (n,); None where the file
            has none.
    """

    load: Callable[[NDArray[np.int64], slice, slice], NDArray[np.float32]]
    frames: NDArray[np.int64]
    times: NDArray[np.float64]
    full_scale: float = float("inf")
    monitor: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.frames)

    def part(self, which: slice | NDArray[np.int64] | NDArray[np.bool_]) -> Stack:
        """Some of the frames."""
        monitor = None if self.monitor is None else self.monitor[which]
        return replace(self, frames=self.frames[which], times=self.times[which], monitor=monitor)

    def few(self, count: int) -> Stack:
        """At most so many of the frames, from all over them."""
        which = np.linspace(0, len(self) - 1, count).round().astype(int)
        return self.part(np.unique(which))

    def transposed(self) -> Stack:
        """The same frames with rows and columns exchanged."""

        def load(frames: NDArray[np.int64], rows: slice, columns: slice) -> NDArray[np.float32]:
            return self.load(frames, columns, rows).swapaxes(1, 2)

        return replace(self, load=load)

    def mirrored(self, shape: tuple[int, int], *, rows: bool, columns: bool) -> Stack:
        """The same frames, of ``shape`` (row, column), with rows or columns in reverse order."""

        def load(
            frames: NDArray[np.int64], wanted_rows: slice, wanted_columns: slice
        ) -> NDArray[np.float32]:
            values = self.load(
                frames,
                _reverse(wanted_rows, shape[0]) if rows else wanted_rows,
                _reverse(wanted_columns, shape[1]) if columns else wanted_columns,
            )
            values = values[:, ::-1] if rows else values
            return np.ascontiguousarray(values[:, :, ::-1] if columns else values)

        return replace(self, load=load) if rows or columns else self


def constant_stack(value: float) -> Stack:
    """One frame of the same value everywhere."""

    def load(frames: NDArray[np.int64], rows: slice, columns: slice) -> NDArray[np.float32]:
        shape = len(frames), rows.stop - rows.start, columns.stop - columns.start
        return np.full(shape, value, np.float32)

    return Stack(load, np.arange(1), np.zeros(1))


def _reverse(part: slice, n: int) -> slice:
    """The same range of ``n`` positions, counted from the end."""
    return slice(n - part.stop, n - part.start)


@dataclass(frozen=True, slots=True)
class Band:
    """Some detector rows of a scan. Values that cannot be used (saturated, damaged) are NaN.

    Attributes:
        counts: Detector counts, or line integrals, float32 (angle, row, column).
        times: Times of the counts, as fractional projection number, (angle,).
        flats: Counts without sample (n, row, column); None where the file has none.
        darks: Counts without beam (n, row, column); None where the file has none.
        flat_times: Times of the flats, as fractional projection number, (n,).
        dark_times: Times of the darks, as fractional projection number, (n,).
        brightness: Beam during each projection relative to the flats at that time, at the first and
            at the last column, (angle, 2); None where it is 1.
    """

    counts: NDArray[np.float32]
    times: NDArray[np.float64]
    flats: NDArray[np.float32] | None = None
    darks: NDArray[np.float32] | None = None
    flat_times: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    dark_times: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    brightness: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Projections:
    """An open scan, or a part of one. Columns run across the rotation axis, rows along it.

    Attributes:
        path: The file.
        layout: Name of the file layout, for people.
        projections: Frames with sample.
        stored_angles: Angles of the projections as stored in the file, (n_angles,).
        angle_unit: Unit of the stored angles.
        rows: Detector rows that are used, of those of the file.
        columns: Detector columns that are used.
        name: Name of the scan in the file, where it has several.
        flats: Frames without sample, or None.
        darks: Frames without beam, or None.
        bin_rows: Detector rows that are averaged into one.
        bin_columns: Detector columns that are averaged into one.
        pixel_mm: Width of a (binned) detector pixel at the sample, or None.
        energy_kev: Photon energy, or None.
        distance_mm: Sample to detector, or None.
        kind: Kind of values: counts, or line integrals.
        background: Value of line integrals without sample.
        axis_hint: Column of the rotation axis in the file, or None.
        middle_row: Row level with the middle of the detector, after ranges and binning, or None.
        axis_along: Direction of the rotation axis in the images of the file.
        metadata: Metadata that a result copies from the file.
        brightness: Beam during each projection relative to the flats at that time, at the first and
            at the last column, (n_angles, 2); None where it is 1.
        notes: Assumptions on reading, as sentences.
        others: Further scans in the same file, by name.
    """

    path: Path
    layout: str
    projections: Stack
    stored_angles: NDArray[np.float64]
    angle_unit: str
    rows: range
    columns: range
    name: str = ""
    flats: Stack | None = None
    darks: Stack | None = None
    bin_rows: int = 1
    bin_columns: int = 1
    pixel_mm: float | None = None
    energy_kev: float | None = None
    distance_mm: float | None = None
    kind: Kind = "counts"
    background: float = 0.0
    axis_hint: float | None = None
    middle_row: float | None = None
    axis_along: Literal["x", "y"] = "y"
    metadata: Mapping[str, Any] = field(default_factory=dict)
    brightness: NDArray[np.float64] | None = None
    notes: tuple[Note, ...] = ()
    others: Mapping[str, Callable[[], Projections]] = field(default_factory=dict)

    @property
    def n_rows(self) -> int:
        """Detector rows, after binning."""
        return len(self.rows) // self.bin_rows

    @property
    def n_columns(self) -> int:
        """Detector columns, after binning."""
        return len(self.columns) // self.bin_columns

    @property
    def rising(self) -> NDArray[np.float64]:
        """Angles less than a turn apart, rising: those of a scan after `select`."""
        return np.unwrap(self.angles)

    @property
    def step(self) -> float:
        """Typical angle between neighbouring projections, in radians; 0 where there is one."""
        return float(np.ptp(self.rising)) / max(len(self.stored_angles) - 1, 1)

    @cached_property
    def angles(self) -> NDArray[np.float64]:
        """Angles in radians, (n_angles,).

        Raises:
            InputError: Their unit is no unit of an angle.
        """
        size = unit_size(self.angle_unit, ANGLES)
        if size is None:
            raise InputError(
                f"The angles of {self.path} are in {self.angle_unit!r}, which is no unit of an"
                f" angle: {unit_names(ANGLES)}.",
                "add --angle-unit deg or --angle-unit rad.",
            )
        return self.stored_angles * size

    def subset(self, which: slice | NDArray[np.int64]) -> Projections:
        """The same scan with some of its projections; flats and darks stay, out of time."""
        return replace(
            self,
            projections=self.projections.part(which),
            stored_angles=self.stored_angles[which],
            brightness=None if self.brightness is None else self.brightness[which],
        )

    def transposed(self) -> Projections:
        """The same scan with rows and columns of the images exchanged."""
        return replace(
            self,
            projections=self.projections.transposed(),
            flats=self.flats and self.flats.transposed(),
            darks=self.darks and self.darks.transposed(),
            rows=self.columns,
            columns=self.rows,
            axis_hint=None,
            axis_along="x" if self.axis_along == "y" else "y",
        )

    def read(self, first_row: int, last_row: int) -> Band:
        """Read rows ``first_row`` to ``last_row - 1`` (after binning), and no others.

        Raises:
            InputError: The data are damaged.
        """
        raw = slice(
            self.rows.start + first_row * self.bin_rows, self.rows.start + last_row * self.bin_rows
        )
        flats, darks = self._load(self.flats, raw), self._load(self.darks, raw)
        counts = self._load(self.projections, raw)
        if self.kind == "counts":
            limit = self._saturation(flats)
            for frames in (counts, flats):
                if frames is not None:
                    frames[frames >= limit] = np.nan
        return Band(
            self._binned(counts),
            self.projections.times,
            None if flats is None else self._binned(flats),
            None if darks is None else self._binned(darks),
            self.flats.times if self.flats else np.zeros(0),
            self.darks.times if self.darks else np.zeros(0),
            self.brightness,
        )

    def _load(self, stack: Stack | None, rows: slice) -> Any:
        if stack is None:
            return None
        used = self.n_columns * self.bin_columns
        columns = slice(self.columns.start, self.columns.start + used)
        return stack.load(stack.frames, rows, columns)

    def _binned(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """Means over the detector pixels (frame, row, column) that are averaged into one."""
        n, m = self.bin_rows, self.bin_columns
        if n == m == 1:
            return frames
        count, rows, columns = frames.shape
        means: NDArray[np.float32] = frames.reshape(
            count, rows // n, n, columns // m, m
        ).mean(axis=(2, 4))  # fmt: skip
        return means

    def _saturation(self, flats: NDArray[np.float32] | None) -> float:
        """Value from which on pixels are saturated: the end of the type, or of the camera."""
        full = self.projections.full_scale
        if flats is None or not flats.size:
            return full
        top = float(np.fmax.reduce(flats, axis=None))
        if top in _FULL_SCALES and (flats == top).mean() > _SATURATED_SHARE:
            return min(full, top)
        return full
