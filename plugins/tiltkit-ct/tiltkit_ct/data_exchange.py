"""Read the Data Exchange layout of the Advanced Photon Source and of other synchrotrons.

De Carlo et al., Scientific data exchange: a schema for HDF5-based storage of raw and analyzed
data, J. Synchrotron Rad. 21 (2014) 1224-1230.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from tiltkit.errors import InputError
from tiltkit.io.opening import hdf5_file
from tiltkit.io.units import ANGLES, ENERGIES, LENGTHS, unit_size
from tiltkit.problem import Note
from tiltkit_ct.angles import assumed_angles
from tiltkit_ct.dataset_view import DatasetView, frames_view, references_view
from tiltkit_ct.frames import check_sources, frames_of, stack
from tiltkit_ct.hdf5 import (
    angle_unit,
    dataset,
    metadata,
    numbers,
    open_scan,
    quantity,
    text,
)
from tiltkit_ct.opposite import closes
from tiltkit_ct.projections import Projections, Stack, constant_stack

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Order = tuple[int, int, int]

__all__ = ["DataExchange"]

# What dxchange writes is exchange1, what the documents say is exchange_1.
_EXCHANGE = re.compile(r"exchange_?\d*")
# Other names of axes; further words after a _ do not count (theta_white, rotation_angle).
_AXES = {"angle": "theta", "rotation": "theta", "projection": "theta", "row": "y", "column": "x"}
_SINOGRAMS = 1, 0, 2  # the axes of angle, row and column, one sinogram after the other
_INSTRUMENT = "measurement/instrument"
_ROTATION = "process/acquisition/rotation"


class DataExchange:
    """Reader of raw scans: projections, flats and darks in a group ``exchange``."""

    @staticmethod
    def matches(path: Path) -> bool:
        """True for a file with a group ``exchange`` that holds a dataset ``data``."""
        with hdf5_file(path) as file:
            return _exchange(file) is not None

    @staticmethod
    @contextmanager
    def open(path: Path) -> Iterator[Projections]:
        """Open a file read-only and check it; frames are read later, in parts.

        Raises:
            InputError: The file cannot be read, has another layout, or its parts do not fit.
        """
        with open_scan(path) as file:
            yield _scan(file, path)


def _scan(file: h5py.File, path: Path) -> Projections:
    group = _exchange(file)
    if group is None:
        raise InputError(
            f"{path} has no dataset exchange/data.", "give a scan in the Data Exchange layout."
        )
    notes: list[Note] = []
    data = _checked(group["data"], path)
    order = _order_by_angles(group, data, path, notes)
    n, rows, columns = frames_of(data, order)
    angles, unit = _angles(file, group, n, path, notes)
    shape = (rows, columns)
    return Projections(
        path=path,
        layout="Data Exchange",
        projections=stack(data, order, np.arange(n), np.arange(n, dtype=np.float64)),
        stored_angles=angles,
        angle_unit=unit,
        rows=range(rows),
        columns=range(columns),
        flats=_references(file, group, "white", shape, angles, path),
        darks=_references(file, group, "dark", shape, angles, path),
        pixel_mm=_pixel(file, path),
        energy_kev=quantity(
            dataset(file, f"{_INSTRUMENT}/monochromator/energy"), ENERGIES, "keV", path
        ),
        distance_mm=quantity(
            dataset(file, f"{_INSTRUMENT}/detector/distance"), LENGTHS, "mm", path
        ),
        metadata=metadata(file, lambda name: "/data" in name or name.endswith("/theta")),
        notes=tuple(notes),
    )


def _exchange(file: h5py.File) -> h5py.Group | None:
    """The first group with data; raw data come before what was made of them."""
    names = sorted(name for name in file if _EXCHANGE.fullmatch(name))
    for name in names:
        group = file.get(name)
        if isinstance(group, h5py.Group) and dataset(group, "data") is not None:
            return group
    return None


def _checked(item: h5py.Dataset, path: Path) -> DatasetView:
    """The projections of a dataset.

    Raises:
        InputError: These are no projections.
    """
    data = frames_view(item) if item.dtype.kind in "uif" and item.size else None
    if data is None:
        raise InputError(
            f"{item.name} of {path} has shape {item.shape} and type {item.dtype}.",
            "projections are real numbers (angle, row, column), or (angle, column) of one row, at"
            f" least one of each; of several scans choose one: --data '{item.name}[0]'.",
        )
    check_sources(item, path)
    names = _axis_names(data)
    if names and "theta" not in names:
        raise InputError(
            f"{data.name} of {path} has the axes {':'.join(names)}: a reconstruction, no scan.",
            "give the raw scan with the axes theta:y:x.",
        )
    return data


def _order(data: DatasetView) -> Order:
    """Axes of angle, row and column; theta:y:x where the file states none."""
    names = _axis_names(data)
    if sorted(names) != ["theta", "x", "y"]:
        return 0, 1, 2
    return names.index("theta"), names.index("y"), names.index("x")


def _order_by_angles(
    group: h5py.Group, data: DatasetView, path: Path, notes: list[Note]
) -> Order:  # fmt: skip
    """The order of the axes where the file does not state it: sinograms by number of angles.

    Where there are as many rows as angles, opposite views decide, which mirror each other.
    """
    order, theta = _order(data), dataset(group, "theta")
    n = 0 if theta is None else theta.size
    if _axis_names(data) or data.shape[1] != n or n < 2 or theta is None:
        return order
    if data.shape[0] == n:
        size = unit_size(angle_unit(theta, []), ANGLES) or 0.0
        angles = size * numbers(theta, path)
        stated, turned = (_closes(group, data, one, angles) for one in (order, _SINOGRAMS))
        if stated is not False or not turned:
            return order
    words = f"{data.name} is read as sinograms (row, angle, column), as its angles fit these."
    notes.append(Note("sinogram_order", words, assumed=True))
    return _SINOGRAMS


def _closes(
    group: h5py.Group, data: DatasetView, order: Order, angles: NDArray[np.float64]
) -> bool | None:  # fmt: skip
    """Return whether opposite views of the middle row mirror each other, in an order of axes."""
    n, rows, columns = frames_of(data, order)
    at = slice(rows // 2, rows // 2 + 1), slice(0, columns)
    counts = stack(data, order, np.arange(n), np.zeros(n)).load(np.arange(n), *at)[:, 0]
    blank = dataset(group, "data_white")
    if blank is not None and blank.ndim == 3 and blank.shape[1:] == (rows, columns):
        counts = counts / np.maximum(np.asarray(blank[:, rows // 2], np.float32).mean(axis=0), 1.0)
    return closes(np.nan_to_num(counts), angles)


def _axis_names(data: DatasetView) -> list[str]:
    """Names of the axes, theta, y and x, from ``theta:y:x`` or from a list of names."""
    value = data.axis_names
    if value is None:
        return []
    parts = [text(part) for part in np.atleast_1d(np.asarray(value, dtype=object))]
    words = [name.strip().lower() for part in parts for name in re.split(r"[:,;]", part)]
    firsts = [word.split("_")[0].removesuffix("s") for word in words]
    names = [_AXES.get(first, first) for first in firsts]
    return names if len(names) == len(data.shape) else []


def _references(
    file: h5py.File,
    group: h5py.Group,
    what: str,
    shape: tuple[int, int],
    angles: NDArray[np.float64],
    path: Path,
) -> Stack | None:
    """Flats (``white``) or darks: from their frames, or the one value that replaces them."""
    item = dataset(group, f"data_{what}")
    if item is not None and not _absent(item):
        view = references_view(item, shape)
        order = (0, 1, 2) if view is None else _order(view)
        if view and frames_of(view, order)[1:] != shape == (view.shape[0], view.shape[2]):
            order = _SINOGRAMS
        if view is None or frames_of(view, order)[1:] != shape:
            raise InputError(
                f"{item.name} of {path} has shape {item.shape}, but the projections have"
                f" {shape[0]} rows and {shape[1]} columns.",
                "flats and darks must come from the same detector region as the projections.",
            )
        check_sources(item, path)
        n = view.shape[order[0]]
        return stack(view, order, np.arange(n), _times(group, what, n, angles, path))
    kind = "flat" if what == "white" else "dark"
    value = dataset(file, f"process/acquisition/{kind}_fields/{kind}_field_value")
    return None if value is None else constant_stack(float(numbers(value, path)[0]))


def _absent(item: h5py.Dataset) -> bool:
    """True for a set of frames that stands for none: empty, or one frame of zeros."""
    if item.shape is None or not item.size:
        return True
    return item.shape[0] == 1 and not np.any(item[()])


def _times(
    group: h5py.Group, what: str, n: int, angles: NDArray[np.float64], path: Path
) -> NDArray[np.float64]:
    """When flats were taken, from their angles; all at the same time where there are none."""
    theta = dataset(group, f"theta_{what}")
    if theta is None or theta.size != n or len(angles) < 2 or np.any(np.diff(angles) <= 0):
        return np.zeros(n)
    found = numbers(theta, path)
    return np.interp(found, angles, np.arange(len(angles), dtype=np.float64))


def _angles(
    file: h5py.File, group: h5py.Group, n: int, path: Path, notes: list[Note]
) -> tuple[NDArray[np.float64], str]:
    """Angles and their unit: stored, or from start and step, or half a turn, ends included."""
    theta = dataset(group, "theta")
    if theta is not None and theta.size:
        angles = numbers(theta, path)
        if len(angles) != n:
            raise InputError(
                f"{path} has {n} projections, but {len(angles)} angles in {theta.name}.",
                "store one angle per projection.",
            )
        return angles, angle_unit(theta, notes)
    start = dataset(file, f"{_ROTATION}/rotation_start")
    step = dataset(file, f"{_ROTATION}/rotation_step")
    if step is not None:
        first = float(numbers(start, path)[0]) if start is not None else 0.0
        words = "There are no angles: start and step of the rotation are used."
        notes.append(Note("angles_from_step", words))
        angles = first + float(numbers(step, path)[0]) * np.arange(n, dtype=np.float64)
        return angles, angle_unit(step, notes)
    angles, note = assumed_angles(n)
    notes.append(note)
    return angles, "deg"


def _pixel(file: h5py.File, path: Path) -> float | None:
    """Pixel size at the sample in mm."""
    resolution = dataset(file, f"{_INSTRUMENT}/detection_system/objective/resolution")
    return quantity(resolution, LENGTHS, "um", path)
