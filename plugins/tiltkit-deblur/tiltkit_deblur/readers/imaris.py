"""Read Imaris 5.5 files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from tiltkit.errors import InputError
from tiltkit.io.reading import open_hdf5
from tiltkit_deblur.volume import Volume, Window, checked_voxel, micrometres

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Imaris"]

_FULL = "DataSet/ResolutionLevel 0"


class Imaris:
    """``/DataSet/ResolutionLevel 0/TimePoint t/Channel c/Data`` (z, y, x), padded to chunks."""

    @staticmethod
    def matches(path: Path) -> bool:
        """By the groups of the layout."""
        with open_hdf5(path) as file:
            return _FULL in file and "DataSetInfo/Image" in file

    @staticmethod
    @contextmanager
    def open(path: Path) -> Iterator[Volume]:
        """Open the file read-only.

        Raises:
            InputError: The file cannot be read, or lacks a part of the layout.
        """
        with open_hdf5(path) as file:
            image = file.get("DataSetInfo/Image")
            if _FULL not in file or image is None:
                raise InputError(f"{path} is no Imaris 5.5 file.", "save it with Imaris again.")
            times = _numbers(file[_FULL], "TimePoint")
            channels = _numbers(file[f"{_FULL}/TimePoint {times[0]}"], "Channel") if times else []
            if not channels:
                raise InputError(f"{path} holds no channel.", "save it with Imaris again.")
            first = _channel(file, path, times[0], channels[0])
            # What lies beyond the image fills up the last chunks.
            size = tuple(
                int(_text(first, f"ImageSize{axis}") or _text(image, axis) or 0) for axis in "ZYX"
            )
            shape = tuple(
                min(n, m) if n else m for n, m in zip(size, first["Data"].shape, strict=True)
            )

            def block(time: int, channel: int, window: Window) -> NDArray[Any]:
                data = _channel(file, path, times[time], channels[channel])["Data"]
                inside = [slice(*part.indices(n)) for part, n in zip(window, shape, strict=True)]
                return np.asarray(data[tuple(inside)])

            yield Volume(
                path=path,
                layout="Imaris",
                shape=(len(times), len(channels), shape[0], shape[1], shape[2]),
                dtype=first["Data"].dtype,
                read_block=block,
                voxel_um=_voxel(image, shape),
                channels=[_name(file, channel) for channel in channels],
                metadata={"imaris_image": {str(k): _text(image, k) for k in image.attrs}},
            )


def _numbers(group: h5py.Group, kind: str) -> list[int]:
    matches = (re.fullmatch(rf"{kind} (\d+)", name) for name in group)
    return sorted(int(match[1]) for match in matches if match)


def _channel(file: h5py.File, path: Path, time: int, channel: int) -> h5py.Group:
    name = f"{_FULL}/TimePoint {time}/Channel {channel}"
    if not isinstance(file.get(f"{name}/Data"), h5py.Dataset):
        raise InputError(f"{path} has no {name}/Data.", "save it with Imaris again.")
    return file[name]


def _text(group: h5py.Group, name: str) -> str:
    """An attribute, which Imaris stores as an array of single characters."""
    value = np.atleast_1d(group.attrs.get(name, b""))
    letters = (v.decode(errors="replace") if isinstance(v, bytes) else str(v) for v in value)
    return "".join(letters).strip()


def _name(file: h5py.File, channel: int) -> str:
    group = file.get(f"DataSetInfo/Channel {channel}")
    return (_text(group, "Name") if group is not None else "") or f"channel {channel}"


def _voxel(image: h5py.Group, shape: tuple[int, ...]) -> tuple[float, float, float] | None:
    """Extent over number of voxels; the axes 0, 1, 2 of the extent are x, y, z."""
    scale = micrometres(_text(image, "Unit"))
    if scale is None:
        return None
    try:
        extent = [
            float(_text(image, f"ExtMax{i}")) - float(_text(image, f"ExtMin{i}")) for i in (2, 1, 0)
        ]
    except ValueError:
        return None
    return checked_voxel([e * scale / n for e, n in zip(extent, shape, strict=True)])
