"""Read CZI files of ZEISS microscopes, through pylibCZIrw."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiltkit.errors import InputError
from tiltkit_deblur.readers.choosing import chosen_image
from tiltkit_deblur.volume import AXES, Volume, Window, checked_voxel

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Czi"]

# Types of pixels with one value.
_TYPES = {"Gray8": np.uint8, "Gray16": np.uint16, "Gray32Float": np.float32}
_MICROMETRES = 1e6  # in a metre


class Czi:
    """One scene, at full resolution; the tiles of a mosaic are put together."""

    @staticmethod
    def matches(path: Path) -> bool:
        """By the first bytes."""
        with path.open("rb") as file:
            return file.read(10) == b"ZISRAWFILE"

    @staticmethod
    @contextmanager
    def open(path: Path, series: int | None = None) -> Iterator[Volume]:
        """Open the file read-only; planes are read on demand.

        Args:
            path: The file.
            series: Number of the scene.

        Raises:
            InputError: The file cannot be read, or holds colours.
            UsageError: It holds several scenes.
        """
        from pylibCZIrw import czi

        try:
            context = czi.open_czi(str(path))
            file = context.__enter__()
        except (OSError, RuntimeError, ValueError) as error:
            raise InputError(
                f"{path} is no readable CZI file: {error}.", "copy it again."
            ) from error
        try:
            yield _volume(file, path, series)
        finally:
            context.__exit__(None, None, None)


def _volume(file: Any, path: Path, series: int | None) -> Volume:
    scenes = file.scenes_bounding_rectangle_no_pyramid
    numbers = sorted(scenes)
    names = [f"scene {n} ({scenes[n].h} x {scenes[n].w})" for n in numbers] or ["the image"]
    position = chosen_image(path, names, series)
    scene = numbers[position] if numbers else None
    place = file.total_bounding_rectangle_no_pyramid if scene is None else scenes[scene]
    box = file.total_bounding_box_no_pyramid
    first = {axis: box.get(axis, (0, 1))[0] for axis in "TCZ"}
    count = {axis: box.get(axis, (0, 1))[1] - first[axis] for axis in "TCZ"}
    kind = file.get_channel_pixel_type(first["C"])
    if kind not in _TYPES:
        raise InputError(
            f"{path} holds pixels of type {kind}, not of one value.",
            "export the channels apart, as they were measured.",
        )

    def block(time: int, channel: int, window: Window) -> NDArray[Any]:
        depth, rows, columns = (
            range(*part.indices(n))
            for part, n in zip(window, (count["Z"], place.h, place.w), strict=True)
        )
        roi = (place.x + columns.start, place.y + rows.start, len(columns), len(rows))
        planes = []
        for z in depth:
            at = {"T": first["T"] + time, "C": first["C"] + channel, "Z": first["Z"] + z}
            planes.append(file.read(roi=roi, plane=at, scene=scene)[..., 0])
        return np.stack(planes)

    about = file.metadata.get("ImageDocument", {}).get("Metadata", {})
    return Volume(
        path=path,
        layout=f"CZI, axes {AXES}",
        shape=(count["T"], count["C"], count["Z"], place.h, place.w),
        dtype=np.dtype(_TYPES[kind]),
        read_block=block,
        voxel_um=_voxel(about, flat=count["Z"] == 1),
        channels=_channels(about),
    )


def _voxel(about: Mapping[str, Any], *, flat: bool) -> tuple[float, float, float] | None:
    """From the scaling of the axes, in metres."""
    items = _listed((about.get("Scaling") or {}).get("Items"), "Distance")
    size = {}
    for item in items:
        try:
            size[item.get("@Id")] = float(item.get("Value") or 0) * _MICROMETRES
        except ValueError:
            continue
    y = size.get("Y")
    return checked_voxel([size.get("Z") or (y if flat else None), y, size.get("X")])


def _channels(about: Mapping[str, Any]) -> list[str]:
    image = (about.get("Information") or {}).get("Image") or {}
    channels = _listed((image.get("Dimensions") or {}).get("Channels"), "Channel")
    return [str(channel.get("@Name") or channel.get("@Id") or "") for channel in channels]


def _listed(parent: Any, name: str) -> list[Mapping[str, Any]]:
    """Children by name: XML with a single child gives no list."""
    found = parent.get(name, []) if isinstance(parent, Mapping) else []
    found = found if isinstance(found, list) else [found]
    return [one for one in found if isinstance(one, Mapping)]
