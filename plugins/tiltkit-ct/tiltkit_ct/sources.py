"""Where a scan is read from: a file of a known layout, or datasets and files that options name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from tiltkit.errors import InputError, UsageError
from tiltkit.io.sniff import find_reader
from tiltkit.problem import Note
from tiltkit_ct.angles import ANGLES_ASSUMED, assumed_angles, listed_angles
from tiltkit_ct.dataset_view import frames_view, parse_name, references_view
from tiltkit_ct.frames import check_sources, stack
from tiltkit_ct.hdf5 import DEFAULT_UNIT, angle_unit, dataset, numbers, open_scan
from tiltkit_ct.projections import Projections

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tiltkit_ct.options import PrepareOptions
    from tiltkit_ct.projections import Stack

__all__ = ["open_projections"]

# Names of datasets of angles, in the order of preference.
_ANGLES = ("theta", "rotation_angle", "angles")


@contextmanager
def open_projections(path: Path, options: PrepareOptions) -> Iterator[Projections]:
    """Open a scan read-only, with flats and darks from elsewhere where options say so.

    Raises:
        InputError: A file cannot be read, or has no scan.
        UsageError: A file has no dataset of that name, or options contradict each other.
    """
    with ExitStack() as files:
        if options.data is None:
            reader = find_reader(path, gives="ct.projections")
            p = _with_angles(files.enter_context(reader.open(path)), options)
        else:
            p = _by_name(files.enter_context(open_scan(path)), path, options)
        for what in ("flats", "darks"):
            p = _with_references(p, what, options, files)
        yield p


def _with_angles(p: Projections, options: PrepareOptions) -> Projections:
    """The scan with the angles of a text file, where options name one."""
    if options.theta is None:
        return p
    file = Path(options.theta)
    if not file.is_file():
        raise UsageError(
            f"There is no file {options.theta} with angles.",
            "name a text file with one angle per line, or a dataset beside --data.",
        )
    angles, note = listed_angles(file, len(p.stored_angles))
    kept = tuple(n for n in p.notes if n.code not in (ANGLES_ASSUMED, DEFAULT_UNIT))
    return replace(p, stored_angles=angles, angle_unit="deg", notes=(*kept, note))


def _by_name(file: h5py.File, path: Path, options: PrepareOptions) -> Projections:
    """A scan whose projections are a dataset of any name."""
    name, index = parse_name(options.data or "")
    item = _dataset(file, name, path)
    view = frames_view(item, index)
    if view is None:
        raise InputError(
            f"{item.name} of {path} has shape {item.shape}.",
            f"choose (angle, row, column) of it: --data '{name}[0]'.",
        )
    n, rows, columns = view.shape
    notes: list[Note] = []
    angles, unit = _angles(file, n, index, path, options.theta, notes)
    return Projections(
        path=path,
        layout=f"HDF5, projections in {options.data}",
        projections=stack(view, (0, 1, 2), np.arange(n), np.arange(n, dtype=np.float64)),
        stored_angles=angles,
        angle_unit=unit,
        rows=range(rows),
        columns=range(columns),
        notes=tuple(notes),
    )


def _angles(
    file: h5py.File,
    n: int,
    index: int | slice | None,
    path: Path,
    name: str | None,
    notes: list[Note],
) -> tuple[NDArray[np.float64], str]:
    """Angles and their unit: of the named dataset, or of one with a usual name that fits."""
    items = [_dataset(file, name, path)] if name else _named_as_angles(file)
    for item in items:
        values = numbers(item, path)
        if isinstance(index, slice) and len(values) != n:
            values = values[index]
        if len(values) == n:
            notes.append(Note("angles_source", f"The angles are those of {item.name}."))
            return values, angle_unit(item, notes)
    if name:
        raise InputError(
            f"{name} of {path} has {items[0].size} angles for {n} projections.",
            "name the dataset with one angle per projection.",
        )
    angles, note = assumed_angles(n)
    notes.append(note)
    return angles, "deg"


def _named_as_angles(file: h5py.File) -> list[h5py.Dataset]:
    found: list[h5py.Dataset] = []

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        last = name.rsplit("/", 1)[-1]
        if last in _ANGLES and isinstance(item, h5py.Dataset) and item.dtype.kind in "iuf":
            found.append(item)

    file.visititems(visit)
    return sorted(found, key=lambda item: _ANGLES.index(str(item.name).rsplit("/", 1)[-1]))


def _with_references(
    p: Projections, what: str, options: PrepareOptions, files: ExitStack
) -> Projections:
    """The scan with its flats, or its darks, from where the option says."""
    text = getattr(options, what)
    if text is None:
        return p
    value = f"{what.removesuffix('s')}_value"
    if getattr(options, value) is not None:
        raise UsageError(f"Both {what} and {value} are given.", "give one of them.")
    name, _, inside = text.partition("::")
    path = Path(name) if name else p.path
    shape = len(p.rows), len(p.columns)
    if inside:
        found = _stack_of(files.enter_context(open_scan(path)), inside, shape, path)
    else:
        other = files.enter_context(find_reader(path, gives="ct.projections").open(path))
        part = other.flats if what == "flats" else other.darks
        found = other.projections if part is None else part
        if (size := (len(other.rows), len(other.columns))) != shape:
            raise _unlike(size, shape, text)
    found = replace(found, times=np.zeros(len(found)), monitor=None)
    note = Note(f"{what}_source", f"{len(found)} {what} are read from {text}.")
    p = replace(p, notes=(*p.notes, note))
    return replace(p, flats=found) if what == "flats" else replace(p, darks=found)


def _stack_of(file: h5py.File, text: str, shape: tuple[int, int], path: Path) -> Stack:
    name, index = parse_name(text)
    item = _dataset(file, name, path)
    view = references_view(item, shape, index)
    if view is None or view.shape[1:] != shape:
        raise _unlike(item.shape, shape, f"{path}::{text}")
    n = view.shape[0]
    return stack(view, (0, 1, 2), np.arange(n), np.zeros(n))


def _unlike(found: tuple[int, ...], expected: tuple[int, int], text: str) -> InputError:
    return InputError(
        f"{text} has shape {found}, frames of the projections {expected}.",
        "flats and darks must come from the same detector region as the projections.",
    )


def _dataset(file: h5py.File, name: str, path: Path) -> h5py.Dataset:
    item = dataset(file, name)
    if item is None or item.dtype.kind not in "uif" or not item.size:
        raise UsageError(
            f"{path} has no dataset of numbers {name!r}.",
            f"see its contents with: tiltkit show {path.name}",
        )
    check_sources(item, path)
    return item
