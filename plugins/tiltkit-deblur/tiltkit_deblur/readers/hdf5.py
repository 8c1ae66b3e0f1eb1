"""Read ilastik's and plain HDF5: one array of images, its axes from attributes or guessed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tiltkit.errors import InputError, UsageError
from tiltkit.io.reading import open_hdf5
from tiltkit_deblur.volume import AXES, Volume, checked_voxel, read_axes

__all__ = ["PlainHdf5", "axes_of"]

# Paths at which programs write their only array, in order of preference.
_USUAL = ("exported_data", "data", "volume/data", "image", "images", "stack", "raw", "volume")
# Axes of an array that does not name them, by its number of dimensions.
_GUESSED = {2: "yx", 3: "zyx", 4: "tzyx", 5: "tczyx"}
# More channels than this are no channels: an axis that has no name is then another one.
_CHANNELS_AT_MOST = 8
_NAMED = 6  # datasets that an error message names: it stays readable


class PlainHdf5:
    """One dataset of 2 to 5 dimensions; see `axes_of` and ``element_size_um`` (z, y, x)."""

    @staticmethod
    def matches(path: Path) -> bool:
        """True for a file with exactly one possible array, and of no other layout."""
        with open_hdf5(path) as file:
            if _foreign(file):
                return False
            return _usual(file) is not None or len(_arrays(file)) == 1

    @staticmethod
    @contextmanager
    def open(path: Path, dataset: str | None = None, axes: str | None = None) -> Iterator[Volume]:
        """Open the file read-only.

        Args:
            path: The file.
            dataset: Path of the array; found where it is the only one, or has a usual name.
            axes: One letter of ``tczyx`` per axis; from attributes, or guessed.

        Raises:
            InputError: The file cannot be read, or holds no such array.
            UsageError: ``dataset`` or ``axes`` do not fit the file.
        """
        with open_hdf5(path) as file:
            array = _array(file, path, dataset)
            names = axes_of(array, path, axes)
            shape, block = read_axes(names, array.shape, array.__getitem__)
            yield Volume(
                path=path,
                layout=f"HDF5, {array.name} with axes {names}",
                shape=shape,
                dtype=array.dtype,
                read_block=block,
                voxel_um=_voxel(array, names),
            )


def axes_of(array: h5py.Dataset, path: Path, given: str | None) -> str:
    """The axes of an array as letters of ``tczyx``, in its order.

    They are given, or in ilastik's ``axistags``, or in an attribute ``axes`` or in the labels of
    its dimensions. Without a name they are ``yx``, ``zyx``, ``tzyx`` and ``tczyx``; a short last
    axis of four or a short first one of four dimensions is the channel.
    """
    names = given.lower() if given else _named(array) or _guess(array.shape)
    if len(names) != array.ndim or len(set(names)) != len(names) or set(names) - set(AXES):
        raise UsageError(
            f"The axes {names!r} do not fit {array.name} in {path}, whose shape is {array.shape}.",
            f"give one letter of {AXES} per axis, such as -s task.axes={_GUESSED[array.ndim]}.",
        )
    if not {"y", "x"} <= set(names):
        raise UsageError(f"The axes {names!r} of {path} hold no image.", "name y and x among them.")
    return names


def _named(array: h5py.Dataset) -> str:
    tags = array.attrs.get("axistags")
    if tags is not None:
        try:
            found = json.loads(tags)["axes"]
            return "".join(str(axis["key"]) for axis in found).lower()
        except (ValueError, KeyError, TypeError):
            return ""
    labels = "".join(str(dim.label) for dim in array.dims).lower()
    if len(labels) == array.ndim:
        return labels
    text = array.attrs.get("axes")
    if text is None:
        return ""
    words = [w.decode() if isinstance(w, bytes) else str(w) for w in np.atleast_1d(text)]
    return "".join(words).lower().replace(":", "").replace(",", "")


def _guess(shape: tuple[int, ...]) -> str:
    if len(shape) == 4 and shape[0] <= _CHANNELS_AT_MOST < shape[1]:
        return "czyx"
    if len(shape) == 4 and shape[-1] <= _CHANNELS_AT_MOST < shape[-2]:
        return "zyxc"
    return _GUESSED.get(len(shape), "")


def _voxel(array: h5py.Dataset, names: str) -> tuple[float, float, float] | None:
    """From ``element_size_um`` (z, y, x), or from the resolutions of axistags."""
    size = np.atleast_1d(array.attrs.get("element_size_um", ()))
    if len(size) == 3:
        return checked_voxel([float(v) for v in size])
    tags = array.attrs.get("axistags")
    if tags is None:
        return None
    try:
        steps = {axis["key"]: float(axis.get("resolution", 0)) for axis in json.loads(tags)["axes"]}
    except (ValueError, KeyError, TypeError):
        return None
    y, x = steps.get("y", 0.0), steps.get("x", 0.0)
    return checked_voxel([steps.get("z", 0.0) if "z" in names else y, y, x])


def _array(file: h5py.File, path: Path, dataset: str | None) -> h5py.Dataset:
    arrays = _arrays(file)
    there = ", ".join(arrays[:_NAMED]) or "none"
    if dataset is not None:
        item = file.get(dataset)
        if not isinstance(item, h5py.Dataset) or item.ndim not in _GUESSED:
            raise UsageError(
                f"{path} has no array {dataset!r} of 2 to 5 dimensions; it has {there}.",
                "name one of these with -s task.dataset=NAME.",
            )
        return item
    name = _usual(file) or (arrays[0] if len(arrays) == 1 else None)
    if name is None:
        raise InputError(
            f"{path} holds {len(arrays)} arrays that could be images: {there}.",
            "name one with -s task.dataset=NAME." if arrays else "give a file that holds images.",
        )
    return file[name]


def _usual(file: h5py.File) -> str | None:
    return next((n for n in _USUAL if isinstance(file.get(n), h5py.Dataset)), None)


def _arrays(file: h5py.File) -> list[str]:
    """Paths of the arrays that could be images."""
    names: list[str] = []

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.ndim in _GUESSED and item.dtype.kind in "fiu":
            names.append(name)

    file.visititems(visit)
    return names


def _foreign(file: h5py.File) -> bool:
    """Layouts that have readers of their own."""
    return "DataSetInfo" in file or "t00000" in file
