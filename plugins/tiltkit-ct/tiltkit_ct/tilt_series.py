"""Read tilt series of electron tomography: HyperSpy files (.hspy) and MRC stacks.

The signal of dark-field images grows with thickness: values count as line integrals.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from tiltkit.errors import InputError
from tiltkit.io.opening import hdf5_file
from tiltkit.io.units import ANGLES, LENGTHS, unit_size
from tiltkit.problem import Note
from tiltkit_ct.frames import stack
from tiltkit_ct.hdf5 import dataset, metadata, numbers, open_scan, text
from tiltkit_ct.mrc import fits, marked, tilt_angles
from tiltkit_ct.projections import Projections, Stack

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["HyperSpy", "Mrc"]

# Where HyperSpy, etspy and microscopes keep the angles of the frames.
_TILTS = ("metadata/Tomography/_sig_tilts/data",
          "metadata/Acquisition_instrument/TEM/Stage/tilt_alpha")  # fmt: skip
_MOST_FRAMES = 16  # that are read to find the direction of the axis
_DARKEST, _BRIGHTEST = 2.0, 99.5  # percentiles of the values, without outliers
_FAINT = 0.1  # of what is between them: below, pixels are empty, if they are as many as
_EMPTY = 0.1  # of all pixels


class HyperSpy:
    """Reader of a tilt series in a HyperSpy file: three axes, of which one is the tilt."""

    @staticmethod
    def matches(path: Path) -> bool:
        """True for a file with a group ``Experiments`` that holds a stack of images."""
        with hdf5_file(path) as file:
            return bool(_experiments(file))

    @staticmethod
    @contextmanager
    def open(path: Path) -> Iterator[Projections]:
        """Open a file read-only; frames are read later, in parts.

        Raises:
            InputError: The file cannot be read, has no tilt series, or no angles.
        """
        with open_scan(path) as file:
            groups = _experiments(file)
            if not groups:
                raise InputError(
                    f"{path} has no stack of images in its group Experiments.",
                    "give a tilt series saved by HyperSpy.",
                )
            first, *rest = groups
            others = {_name(group): partial(_experiment, group, path) for group in rest}
            yield replace(_experiment(first, path), others=others)


class Mrc:
    """Reader of MRC stacks (.mrc, .ali, .st), with their angles beside them or in their header."""

    @staticmethod
    def matches(path: Path) -> bool:
        """True for a header marked as MRC, or, in old files, one that fits the size of the file."""
        with path.open("rb") as file:
            header = file.read(1024)
        return marked(header) or fits(header, path.stat().st_size)

    @staticmethod
    @contextmanager
    def open(path: Path) -> Iterator[Projections]:
        """Map a file read-only; frames are read later, in parts.

        Raises:
            InputError: The file cannot be read, or has no angles.
        """
        if not path.is_file():
            raise InputError(f"There is no file {path}.", "check its name and folder.")
        with path.open("rb") as file:
            whole = fits(file.read(1024), path.stat().st_size)
        if not whole:
            raise InputError(
                f"{path} is no MRC file, or is truncated: its header does not fit its size.",
                "copy it again from its source.",
            )
        import mrcfile

        # Old writers leave out the file type and the byte order. Not within catch_warnings, which
        # would change the filters of other threads.
        warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"mrcfile\.")
        with mrcfile.mmap(path, mode="r", permissive=True) as mrc:
            yield _series(mrc, path)


def _experiments(file: h5py.File) -> list[h5py.Group]:
    """Groups that hold a stack of real images."""
    root = file.get("Experiments")
    if not isinstance(root, h5py.Group):
        return []
    groups = [root[name] for name in root if isinstance(root.get(name), h5py.Group)]

    def is_stack(group: h5py.Group) -> bool:
        data = dataset(group, "data")
        return data is not None and data.ndim == 3 and data.dtype.kind in "uif" and data.size > 0

    return [group for group in groups if is_stack(group)]


def _name(group: h5py.Group) -> str:
    return str(group.name).rsplit("/", 1)[-1]


def _experiment(group: h5py.Group, path: Path) -> Projections:
    data = group["data"]
    axes = [_axis(group, i) for i in range(3)]
    tilts = [i for i, axis in enumerate(axes) if unit_size(axis["units"], ANGLES) is not None]
    tilt = tilts[0] if tilts else 0
    order = (tilt, *(i for i in range(3) if i != tilt))
    n = data.shape[tilt]
    angles, unit = _tilts(group, n, path), "deg"
    if angles is None:
        if not tilts:
            raise InputError(
                f"{path} has no tilt angles: none of its axes has a unit of an angle.",
                "set the scale, offset and units of the navigation axis in HyperSpy.",
            )
        axis = axes[tilt]
        angles, unit = axis["offset"] + axis["scale"] * np.arange(n), axis["units"]
    frames = stack(data, order, np.arange(n), np.arange(n, dtype=np.float64))
    size = unit_size(axes[order[2]]["units"], LENGTHS)
    shape = data.shape[order[1]], data.shape[order[2]]
    return _oriented(
        Projections(
            path=path,
            layout="HyperSpy tilt series",
            projections=frames,
            stored_angles=angles,
            angle_unit=unit,
            rows=range(shape[0]),
            columns=range(shape[1]),
            name=_name(group),
            pixel_mm=None if size is None else abs(axes[order[2]]["scale"]) * size,
            kind="line_integrals",
            metadata=metadata(group, lambda name: name == "data" or "_sig_" in name),
        )
    )


def _axis(group: h5py.Group, i: int) -> dict[str, Any]:
    """Scale, offset and unit of one axis; plain pixels where there is no description."""
    item = group.get(f"axis-{i}")
    attrs = {} if item is None else item.attrs
    return {
        "scale": float(attrs.get("scale", 1.0)),
        "offset": float(attrs.get("offset", 0.0)),
        "units": text(attrs.get("units", "")),
    }


def _tilts(group: h5py.Group, n: int, path: Path) -> NDArray[np.float64] | None:
    """Angles of the frames in degrees where the file lists them one by one."""
    for name in _TILTS:
        item = dataset(group, name)
        if item is not None and item.size >= n:
            angles = numbers(item, path)[:n]
            if np.ptp(angles) > 0:
                return angles
    return None


def _series(mrc: Any, path: Path) -> Projections:
    data = mrc.data if mrc.data.ndim == 3 else mrc.data[None]
    n, rows, columns = data.shape
    angles, source = tilt_angles(mrc, n, path)

    def load(frames: NDArray[np.int64], rows: slice, columns: slice) -> NDArray[np.float32]:
        return np.asarray(data[:, rows, columns][frames], np.float32)

    angstrom = float(mrc.voxel_size.x)
    has_size = angstrom > 0 and angstrom != 1.0  # 1 is a placeholder of many writers
    return _oriented(
        Projections(
            path=path,
            layout="MRC tilt series",
            projections=Stack(load, np.arange(n), np.arange(n, dtype=np.float64)),
            stored_angles=angles,
            angle_unit="deg",
            rows=range(rows),
            columns=range(columns),
            pixel_mm=angstrom * LENGTHS["angstrom"] if has_size else None,
            kind="line_integrals",
            metadata={"mrc_labels": "\n".join(mrc.get_labels())},
            notes=(Note("angles_source", f"The angles are read from {source}."),),
        )
    )


def _oriented(p: Projections) -> Projections:
    """Set the direction of the tilt axis, and the value of vacuum, from the images.

    However a sample is turned, its mass stays in its plane across the axis: sums over the columns
    change with the angle, unless the columns run across the axis.
    """
    some = p.projections.few(_MOST_FRAMES)
    frames = some.load(some.frames, slice(0, len(p.rows)), slice(0, len(p.columns)))
    vacuum = _vacuum(frames)
    changes = [_change(np.nansum(frames - vacuum, axis=axis)) for axis in (2, 1)]
    p = replace(p, background=vacuum)
    if changes[0] <= changes[1]:
        return p
    words = "The tilt axis runs along x of the images: their sums along y stay the same."
    note = Note("tilt_axis_along_x", words, assumed=True)
    return replace(p.transposed(), notes=(*p.notes, note))


def _vacuum(frames: NDArray[np.float32]) -> float:
    """The value of pixels without sample: the median of faint ones, the darkest if these are few.

    (The darkest are often what alignment filled borders with.)
    """
    low, high = np.nanpercentile(frames, [_DARKEST, _BRIGHTEST])
    faint = frames[frames < low + _FAINT * (high - low)]
    return float(np.median(faint) if faint.size >= _EMPTY * frames.size else low)


def _change(sums: NDArray[np.float32]) -> float:
    """Relative change of sums (angle, position) with the angle."""
    sums = sums / np.maximum(np.abs(sums).mean(axis=1, keepdims=True), 1e-30)
    return float(sums.std(axis=0).mean())
