"""Read TIFF stacks: OME-TIFF, ImageJ's, and plain ones, through tifffile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import numpy as np
import tifffile

from tiltkit.errors import InputError, UsageError
from tiltkit.problem import Note
from tiltkit_deblur.readers.choosing import chosen_image
from tiltkit_deblur.volume import AXES, Volume, checked_voxel, micrometres, read_axes

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Tiff"]


# Another series of a file is a thumbnail or a label where it has so many times fewer values.
_THUMBNAIL = 8
# Compressions that change values, by tifffile's names.
_LOSSY = ("JPEG", "JPEG2000", "JPEGXR", "JPEGXL", "WEBP", "OJPEG", "JPEG_LOSSY")


class Tiff:
    """One series of a file: the only one, the largest by far, or the one that is asked for."""

    @staticmethod
    def matches(path: Path) -> bool:
        """By the first bytes: TIFF or BigTIFF, of either byte order."""
        with path.open("rb") as file:
            return file.read(4) in {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}

    @staticmethod
    @contextmanager
    def open(path: Path, axes: str | None = None, series: int | None = None) -> Iterator[Volume]:
        """Open the file read-only.

        Args:
            path: The file.
            axes: One letter of ``tczyx`` per axis; those of the file, when None.
            series: Number of the series: a position of the stage in OME-TIFF.

        Raises:
            InputError: The file cannot be read.
            UsageError: ``axes`` or ``series`` do not fit, or it is open which series is meant.
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
            number = _chosen(file, path, series)
            chosen = file.series[number]
            names = _axes(chosen, path, axes)
            shape, block = read_axes(names, chosen.shape, _reader(chosen, path))
            ome = _OmeImage(file, number)
            yield Volume(
                path=path,
                layout=_layout(file, names),
                shape=shape,
                dtype=np.dtype(chosen.dtype),
                read_block=block,
                voxel_um=ome.voxel if file.is_ome else _voxel(file),
                channels=ome.channels,
                metadata={"ome_xml": file.ome_metadata} if file.ome_metadata else {},
                notes=tuple(_notes(file, chosen, series)),
            )


def _chosen(file: Any, path: Path, asked: int | None) -> int:
    """Number of the series to read."""
    sizes = [one.size for one in file.series]
    if asked is None and len(sizes) > 1:
        first, second = sorted(sizes, reverse=True)[:2]
        if first >= _THUMBNAIL * second:
            return sizes.index(first)
    return chosen_image(path, [_name(one) for one in file.series], asked)


def _name(series: Any) -> str:
    size = " x ".join(str(n) for n in series.shape)
    return f"{series.name} ({size})" if series.name else size


def _notes(file: Any, series: Any, asked: int | None) -> Iterator[Note]:
    if asked is None and len(file.series) > 1:
        text = f"The file holds {len(file.series)} images: the largest is taken; else give series."
        yield Note("series_chosen", text, assumed=True)
    compression = series.keyframe.compression.name
    if compression in _LOSSY:
        text = (
            f"The file is compressed with {compression}, which may have changed the noise: the"
            " estimate of the noise and the finest detail may be wrong; use the original file."
        )
        yield Note("lossy_compression", text, assumed=True)


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


def _reader(series: Any, path: Path) -> Callable[[tuple[Any, ...]], NDArray[Any]]:
    """Reads a part of a series, with little more in memory than that part, or a page of it."""
    lead = _leading(series)
    mapped = _mapped(series, path)

    @lru_cache(maxsize=1)
    def page(number: int) -> NDArray[Any]:
        return np.asarray(series.asarray(key=number))

    def read(index: tuple[Any, ...]) -> NDArray[Any]:
        try:
            if mapped is not None:
                return np.asarray(mapped[index])
            if not lead:
                return np.asarray(series.asarray()[index])
            chosen = np.arange(int(np.prod(lead))).reshape(lead)[index[: len(lead)]]
            planes = [page(int(number))[index[len(lead) :]] for number in chosen.flat]
            return np.stack(planes).reshape(chosen.shape + planes[0].shape)
        except (tifffile.TiffFileError, ValueError, OSError, IndexError) as error:
            raise _unreadable(path, series, error) from error

    return read


def _unreadable(path: Path, series: Any, error: Exception) -> InputError:
    if "imagecodecs" in str(error):
        return InputError(
            f"{path} is compressed with {series.keyframe.compression.name}, which needs the package"
            " imagecodecs.",
            "pip install 'tiltkit-deblur[codecs]', or save the file without compression.",
        )
    return InputError(f"{path} cannot be read: {error}.", "copy it again.")


def _mapped(series: Any, path: Path) -> NDArray[Any] | None:
    """The values of a series as they lie in the file, if they lie there in one piece."""
    if series.dataoffset is None or path.stat().st_size < series.dataoffset + series.nbytes:
        return None
    dtype = np.dtype(series.dtype).newbyteorder(series.keyframe.parent.byteorder)
    return np.memmap(path, dtype, "r", series.dataoffset, series.shape)


def _leading(series: Any) -> tuple[int, ...]:
    """Axes that number the pages; none where pages are no planes of the array."""
    page = tuple(series.keyframe.shape)
    planes = len(series.pages) > 1 and tuple(series.shape[-len(page) :]) == page
    return tuple(series.shape[: -len(page)]) if planes else ()


def _layout(file: Any, names: str) -> str:
    kind = "OME-TIFF" if file.is_ome else "ImageJ TIFF" if file.is_imagej else "TIFF"
    return f"{kind}, axes {names}"


def _voxel(file: Any) -> tuple[float, float, float] | None:
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


class _OmeImage:
    """An image of OME-XML: its voxel and its channels, as far as they are stated."""

    def __init__(self, file: Any, number: int) -> None:
        found = _pixels(file.ome_metadata) if file.is_ome else []
        self._pixels = found[number] if number < len(found) else None

    @property
    def voxel(self) -> tuple[float, float, float] | None:
        """Edges (z, y, x) in micrometres."""
        if self._pixels is None:
            return None
        y = self._length("Y")
        return checked_voxel([self._length("Z") or y, y, self._length("X")])

    @property
    def channels(self) -> list[str]:
        """Names, or identifiers of those without."""
        if self._pixels is None:
            return []
        found = [e for e in self._pixels if e.tag.endswith("}Channel")]
        return [e.get("Name") or e.get("ID") or "" for e in found]

    def _length(self, axis: str) -> float | None:
        assert self._pixels is not None  # noqa: S101  (`voxel` is the only caller)
        size = self._pixels.get(f"PhysicalSize{axis}")
        scale = micrometres(self._pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        return float(size) * scale if size and scale else None


def _pixels(text: str | None) -> list[ET.Element]:
    """The Pixels elements of OME-XML, one for each image."""
    if not text or "<!DOCTYPE" in text:
        return []
    try:
        root = ET.fromstring(text)  # noqa: S314  (no document type, so no entities that expand)
    except ET.ParseError:
        return []
    return [e for e in root.iter() if e.tag.endswith("}Pixels")]
