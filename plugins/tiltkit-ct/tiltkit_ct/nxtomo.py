"""Read NXtomo, the NeXus layout of tomography, as its facilities really write it.

Könnecke et al., The NeXus data format, J. Appl. Cryst. 48 (2015) 301-305. Written by Diamond (keys
and data apart), by Mantid Imaging (a subentry, radians) and by the ESRF (several entries, links,
alignment frames).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from tiltkit.errors import InputError
from tiltkit.io.opening import hdf5_file
from tiltkit.io.units import ANGLES, ENERGIES, LENGTHS, unit_size
from tiltkit.problem import Note
from tiltkit_ct.dataset_view import DatasetView, frames_view, references_view
from tiltkit_ct.frames import check_sources, stack
from tiltkit_ct.hdf5 import angle_unit, dataset, metadata, numbers, open_scan, quantity, text
from tiltkit_ct.projections import Projections, Stack

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["NxTomo"]

_DATA = ("instrument/detector/data", "data/data")
_ANGLES = ("sample/rotation_angle", "data/rotation_angle")
# The first one also marks alignment frames (-1), which the standard key calls projections.
_KEYS = (
    "instrument/detector/image_key_control", "instrument/detector/image_key",
    "instrument/image_key/image_key", "data/image_key",
)  # fmt: skip
_PIXEL = (
    "sample/x_pixel_size", "instrument/detector/x_pixel_size",
    "instrument/detector/x_magnified_pixel_size",
)  # fmt: skip
_ENERGY = (
    "beam/incident_energy", "instrument/beam/incident_energy", "sample/beam/incident_energy",
    "instrument/beam/energy", "instrument/monochromator/energy",
)  # fmt: skip
_DISTANCE = ("sample/propagation_distance", "instrument/detector/distance")
_AXIS = "instrument/detector/x_rotation_axis_pixel_position"
_TURNS = "instrument/detector/transformations"
# Half turns of the detector that mirror its columns, and its rows, by the axis of the turn: of
# NXtomo 2 (McStas: y is vertical, z along the beam), and of older files (z vertical, x along it).
_MIRRORING = {
    "mcstas": {(0, 1, 0): "columns", (1, 0, 0): "rows", (0, 0, 1): "both"},
    "esrf": {(0, 0, 1): "columns", (0, 1, 0): "rows", (1, 0, 0): "both"},
}

# Beam monitors: NXmonitor has one value for each frame.
_MONITOR = ("control/data", "instrument/monitor/data", "monitor/data", "instrument/source/current",
            "instrument/machine/current")  # fmt: skip

# Flats and darks that are not among the frames.
_ELSEWHERE = {
    "flats": (
        "flats/data",
        "flat/data",
        "flat_field/data",
        "flat_fields/data",
        "white/data",
        "flats",
    ),
    "darks": ("darks/data", "dark/data", "dark_field/data", "dark_fields/data", "darks"),
}

_LARGEST = 1.0  # mm; that no larger pixel is taken for without its unit
_PROJECTION, _FLAT, _DARK = 0, 1, 2


@dataclass(frozen=True, slots=True)
class _Places:
    """Groups that may hold a scan: its subentry first, then the entry around it."""

    groups: tuple[h5py.Group, ...]

    @property
    def name(self) -> str:
        return str(self.groups[0].name).strip("/")

    def find(self, *names: str) -> h5py.Dataset | None:
        """The first of some datasets that is there, in the subentry or in the entry."""
        for group in self.groups:
            if (found := dataset(group, *names)) is not None:
                return found
        return None


class NxTomo:
    """Reader of projections, flats and darks in one stack, distinguished by an image key."""

    @staticmethod
    def matches(path: Path) -> bool:
        """True for a file with an entry that has frames and angles."""
        with hdf5_file(path) as file:
            return bool(_scans(file) or _without_keys(file))

    @staticmethod
    @contextmanager
    def open(path: Path) -> Iterator[Projections]:
        """Open a file read-only and check its default scan; frames are read later, in parts.

        Raises:
            InputError: The file cannot be read, has another layout, or its parts do not fit.
        """
        with open_scan(path) as file:
            scans = _scans(file)
            if not scans and (name := _without_keys(file)):
                raise InputError(
                    f"{path} has no image key to distinguish projections, flats and darks.",
                    f"name the frames, such as --data '{name}[15:87]' --flats '::{name}[5:15]'"
                    f" --darks '::{name}[0:5]'.",
                )
            if not scans:
                raise InputError(
                    f"{path} has no entry with detector data, rotation angles and an image key.",
                    "give a scan in the NXtomo layout.",
                )
            yield _scan(scans[0], scans[1:], path)


def _without_keys(file: h5py.File) -> str:
    """Name of the detector data of an entry with angles but no image key; empty without one."""
    for entry in filter(None, (_group(file, name) for name in sorted(file))):
        places = _Places((entry,))
        data = places.find(*_DATA)
        if data is not None and places.find(*_ANGLES) is not None and places.find(*_KEYS) is None:
            return str(data.name).strip("/")
    return ""


def _scans(file: h5py.File) -> list[_Places]:
    """All scans of a file; the one that the root calls its default comes first."""
    found = []
    for name in sorted(file):
        entry = _group(file, name)
        if entry is None:
            continue
        inner = [group for key in sorted(entry) if (group := _group(entry, key)) is not None]
        subentries = [group for group in inner if dataset(group, *_DATA) is not None]
        for places in [_Places((group, entry)) for group in subentries] or [_Places((entry,))]:
            if all(places.find(*names) is not None for names in (_DATA, _ANGLES, _KEYS)):
                found.append(places)
    default = text(file.attrs.get("default", "")).strip("/").split("/")[0]
    return sorted(found, key=lambda places: places.name.split("/")[0] != default)


def _group(parent: h5py.Group, name: str) -> h5py.Group | None:
    try:
        item = parent.get(name)
    except (KeyError, OSError):  # a link to a file that is not there
        return None
    return item if isinstance(item, h5py.Group) else None


def _scan(places: _Places, others: list[_Places], path: Path) -> Projections:
    data = _checked(places.find(*_DATA), path)
    notes: list[Note] = []
    keys, angles, unit = _frames(places, data, path, notes)
    chosen = np.flatnonzero(keys == _PROJECTION)
    taken = np.cumsum(keys == _PROJECTION)  # projections up to and with each frame
    rows, columns = data.shape[1:]
    flips = _flips(places, notes)

    def frames(key: int) -> Stack | None:
        which = np.flatnonzero(keys == key)
        return stacked(which, taken[which] - 0.5) if len(which) else None

    def stacked(which: NDArray[np.int64], times: NDArray[np.float64]) -> Stack:
        found = stack(data, (0, 1, 2), which, times).mirrored((rows, columns), **flips)
        return replace(found, monitor=None if monitor is None else monitor[which])

    monitor = _monitor(places, data.shape[0], path)
    projections = stacked(chosen, np.arange(len(chosen), dtype=np.float64))
    if others:
        names = ", ".join(other.name for other in others)
        words = f"{places.name} is read; the file also has {names}."
        notes.append(Note("entry_chosen", words, assumed=True))
    return Projections(
        path=path,
        layout="NXtomo",
        name=places.name,
        projections=projections,
        stored_angles=angles[chosen],
        angle_unit=unit,
        rows=range(rows),
        columns=range(columns),
        flats=frames(_FLAT) or _elsewhere(places, "flats", (rows, columns), flips, path, notes),
        darks=frames(_DARK) or _elsewhere(places, "darks", (rows, columns), flips, path, notes),
        pixel_mm=_pixel(places.find(*_PIXEL), path, notes),
        energy_kev=quantity(places.find(*_ENERGY), ENERGIES, "keV", path),
        distance_mm=quantity(places.find(*_DISTANCE), LENGTHS, "m", path),
        axis_hint=_axis(places, columns, path, mirrored=flips["columns"]),
        metadata=metadata(
            places.groups[-1], lambda name: name.endswith(("/data", "rotation_angle"))
        ),
        notes=tuple(notes),
        others={other.name: partial(_scan, other, [], path) for other in others},
    )


def _elsewhere(
    places: _Places,
    what: str,
    shape: tuple[int, int],
    flips: dict[str, bool],
    path: Path,
    notes: list[Note],
) -> Stack | None:
    """Flats or darks in a dataset of their own, beside projections alone."""
    item = places.find(*_ELSEWHERE[what])
    if item is None or item.dtype.kind not in "uif" or not item.size:
        return None
    view = references_view(item, shape)
    if view is None or view.shape[1:] != shape:
        return None
    check_sources(item, path)
    n = view.shape[0]
    notes.append(Note(f"{what}_source", f"{n} {what} are read from {item.name}."))
    return stack(view, (0, 1, 2), np.arange(n), np.zeros(n)).mirrored(shape, **flips)


def _checked(item: h5py.Dataset | None, path: Path) -> DatasetView:
    data = None
    if item is not None and item.dtype.kind in "uif" and item.size:
        check_sources(item, path)
        data = frames_view(item)
    if data is None:
        shape = None if item is None else item.shape
        raise InputError(
            f"The detector data of {path} have shape {shape}.",
            "frames are real numbers (frame, row, column), at least one of each.",
        )
    return data


def _frames(
    places: _Places, data: DatasetView, path: Path, notes: list[Note]
) -> tuple[NDArray[np.int64], NDArray[np.float64], str]:
    """Key and angle of every frame, and the unit of the angles.

    Raises:
        InputError: Their numbers do not fit, or there is no projection.
    """
    stored, turned = places.find(*_KEYS), places.find(*_ANGLES)
    if stored is None or turned is None:
        raise InputError(f"{path} has no image key or no angles.", "export the scan again.")
    keys = numbers(stored, path).astype(np.int64)
    angles = numbers(turned, path)
    n, n_projections = data.shape[0], int((keys == _PROJECTION).sum())
    if len(keys) != n:
        raise InputError(
            f"{path} has {n} frames, but {len(keys)} image keys in {stored.name}.",
            "the scan is incomplete: export it again.",
        )
    if not n_projections:
        raise InputError(
            f"{path} has {n} frames, and no image key marks one as a projection (0).",
            "check the image key: 0 projection, 1 flat, 2 dark, 3 invalid.",
        )
    if len(angles) == n_projections != n:  # angles of the projections alone
        angles, given = np.full(n, np.nan), angles
        angles[keys == _PROJECTION] = given
    if len(angles) != n:
        raise InputError(
            f"{path} has {n} frames, but {len(angles)} angles in {turned.name}.",
            "the scan is incomplete: export it again.",
        )
    return keys, angles, angle_unit(turned, notes)


def _pixel(item: h5py.Dataset | None, path: Path, notes: list[Note]) -> float | None:
    """Pixel size in mm; without a unit it is in m, unless that makes no pixel."""
    found = quantity(item, LENGTHS, "m", path)
    if item is None or found is None or found < _LARGEST or text(item.attrs.get("units", "")):
        return found
    words = (
        f"The pixel size {found / 1e3:g} has no unit and is not used, as pixels are not that many"
        " m: give it with --pixel-mm."
    )
    notes.append(Note("pixel_left_out", words))
    return None


def _monitor(places: _Places, n: int, path: Path) -> NDArray[np.float64] | None:
    """Intensity of the beam during each of the frames, (n,); None where the file has none."""
    for name in _MONITOR:
        item = places.find(name)
        if item is not None and item.shape == (n,) and item.dtype.kind in "uif":
            return numbers(item, path)
    return None


def _axis(places: _Places, columns: int, path: Path, *, mirrored: bool) -> float | None:
    """Column of the rotation axis, where it lies on the detector."""
    item = places.find(_AXIS)
    if item is None or not item.size or item.dtype.kind not in "uif":
        return None
    column = float(numbers(item, path)[0])
    column = columns - 1 - column if mirrored else column
    return column if 0 < column < columns - 1 else None


def _flips(places: _Places, notes: list[Note]) -> dict[str, bool]:
    """Whether frames were recorded with their columns or rows in reverse order.

    Old files have the flags x_flipped and y_flipped, new ones half turns of the detector.
    """
    turns = [_mirroring(places, item) for item in _turns(places)]
    found = {}
    for name, flag in (("columns", "x_flipped"), ("rows", "y_flipped")):
        item = places.find(f"instrument/detector/{flag}")
        flagged = item is not None and item.size == 1 and bool(np.all(item[()]))
        found[name] = (flagged + sum(turn in (name, "both") for turn in turns)) % 2 == 1
    if any(found.values()):
        which = " and ".join(name for name in ("columns", "rows") if found[name])
        words = f"The file states that the detector mirrors {which}: they are mirrored back."
        notes.append(Note("frames_mirrored", words))
    return found


def _turns(places: _Places) -> Iterator[h5py.Dataset]:
    """Transformations of the detector."""
    group = next((g for parent in places.groups if (g := _group(parent, _TURNS))), None)
    for name in group or ():
        if (item := dataset(group, name)) is not None:
            yield item


def _mirroring(places: _Places, item: h5py.Dataset) -> str:
    """What a transformation of the detector mirrors: columns, rows, both; empty for nothing."""
    turn = text(item.attrs.get("transformation_type", ""))
    size = unit_size(text(item.attrs.get("units", "")) or "deg", ANGLES)
    if turn != "rotation" or size is None or item.size != 1 or item.dtype.kind not in "uif":
        return ""
    if not np.isclose(np.cos(float(item[()]) * size), -1):
        return ""
    attrs = places.groups[-1].attrs
    old = float(attrs.get("version", 2.0)) < 2
    system = text(attrs.get("NeXus_Coordinate_System", "ESRF" if old else "McStas")).lower()
    axis = np.abs(np.asarray(item.attrs.get("vector", ()), np.float64).reshape(-1))
    return _MIRRORING.get(system, {}).get(tuple(axis.round().astype(int).tolist()), "")
