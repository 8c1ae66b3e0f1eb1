"""Read TIFF stacks: OME-TIFF, ImageJ's, and plain ones, through tifffile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import numpy as np
import tifffile

from tiltkit.errors import InputError, UsageError
from tiltkit_deblur.volume import AXES, Volume, checked_voxel, micrometres, read_axes

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Tiff"]


class Tiff:
    """The first series of a file."""

    @staticmethod
    def matches(path: Path) -> bool:
        """By the first bytes: TIFF or BigTIFF, of either byte order."""
        with path.open("rb") as file:
            return file.read(4) in {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}

    @staticmethod
    @contextmanager
    def open(path: Path, axes: str | None = None) -> Iterator[Volume]:
        """Open the file read-only.

        Args:
            path: The file.
            axes: One letter of ``tczyx`` per axis; those of the file, when None.

        Raises:
            InputError: The file cannot be read.
            UsageError: ``axes`` do not fit.
        """
        try:
            file = tifffile.TiffFile(path)
        except (OSError, tifffile.TiffFileError, ValueError) as error:
            raise InputError(
                f"{path} is no readable TIFF file: {error}.", "copy it again."
            ) from error
        with file:
            if not file.series:
                raise InputError(f"{path} holds no image.", "copy or save it again.")
            series = file.series[0]
            names = _axes(series, path, axes)
            shape, block = read_axes(names, series.shape, _pages(series, path))
            yield Volume(
                path=path,
                layout=_layout(file, names),
                shape=shape,
                dtype=np.dtype(series.dtype),
                read_block=block,
                voxel_um=_voxel(file),
                channels=_channels(file),
                metadata={"ome_xml": file.ome_metadata} if file.ome_metadata else {},
            )


def _axes(series: Any, path: Path, given: str | None) -> str:
    """Axes as letters of ``tczyx``; tifffile calls samples S and axes without a name I and Q."""
    names = given or str(series.axes)
    names = names.lower().replace("s", "c", 1) if "c" not in names.lower() else names.lower()
    for unnamed in ("i", "q", "r"):
        for free in "ztc":
            if unnamed in names and free not in names:
                names = names.replace(unnamed, free, 1)
    if len(names) != len(series.shape) or set(names) - set(AXES) or len(set(names)) != len(names):
        raise UsageError(
            f"The axes {names!r} of {path} do not fit its shape {series.shape}.",
            f"give one letter of {AXES} per axis with -s task.axes.",
        )
    return names


def _pages(series: Any, path: Path) -> Any:
    """Reads only the pages of a window where the file is laid out as planes."""

    def read(index: tuple[Any, ...]) -> NDArray[Any]:
        try:
            lead = _leading(series)
            if not lead:
                return np.asarray(series.asarray()[index])
            chosen = np.arange(int(np.prod(lead))).reshape(lead)[index[: len(lead)]]
            planes = [series.asarray(key=int(page))[index[len(lead) :]] for page in chosen.flat]
            return np.stack(planes).reshape(chosen.shape + planes[0].shape)
        except (tifffile.TiffFileError, ValueError, OSError, IndexError) as error:
            raise InputError(f"{path} cannot be read: {error}.", "copy it again.") from error

    return read


def _leading(series: Any) -> tuple[int, ...]:
    """Axes that number the pages; none where pages are no planes of the array."""
    page = tuple(series.keyframe.shape)
    planes = len(series.pages) > 1 and tuple(series.shape[-len(page) :]) == page
    return tuple(series.shape[: -len(page)]) if planes else ()


def _layout(file: Any, names: str) -> str:
    kind = "OME-TIFF" if file.is_ome else "ImageJ TIFF" if file.is_imagej else "TIFF"
    return f"{kind}, axes {names}"


def _voxel(file: Any) -> tuple[float, float, float] | None:
    if file.is_ome:
        return _ome_voxel(file.ome_metadata)
    tags = file.pages[0].tags
    x, y = (_resolution(tags.get(f"{axis}Resolution")) for axis in "XY")
    known: Mapping[str, Any] = file.imagej_metadata or {}
    scale = micrometres(str(known.get("unit", "")))
    if scale is None or not x or not y:
        return None
    z = float(known.get("spacing") or 1 / y)
    return checked_voxel([z * scale, scale / y, scale / x])


def _resolution(tag: Any) -> float:
    """Pixels per unit."""
    if tag is None:
        return 0.0
    above, below = tag.value
    return above / below if below else 0.0


def _ome_voxel(text: str) -> tuple[float, float, float] | None:
    pixels = _pixels(text)
    if pixels is None:
        return None
    y = _length(pixels, "Y")
    return checked_voxel([_length(pixels, "Z") or y, y, _length(pixels, "X")])


def _length(pixels: ET.Element, axis: str) -> float | None:
    size = pixels.get(f"PhysicalSize{axis}")
    scale = micrometres(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
    return float(size) * scale if size and scale else None


def _channels(file: Any) -> list[str]:
    pixels = _pixels(file.ome_metadata) if file.is_ome else None
    if pixels is None:
        return []
    found = [e for e in pixels if e.tag.endswith("}Channel")]
    return [e.get("Name") or e.get("ID") or "" for e in found]


def _pixels(text: str | None) -> ET.Element | None:
    """The first Pixels element of OME-XML."""
    if not text or "<!DOCTYPE" in text:
        return None
    try:
        root = ET.fromstring(text)  # noqa: S314  (no document type, so no entities that expand)
    except ET.ParseError:
        return None
    return next((e for e in root.iter() if e.tag.endswith("}Pixels")), None)
