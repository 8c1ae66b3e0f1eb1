"""Frames in TIFF files: one file per frame, or several pages in a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiltkit.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["TiffFrames", "tiff_frames"]


@dataclass(frozen=True)
class TiffFrames:
    """Frames (frame, row, column) in TIFF files, read like an HDF5 dataset, by slices.

    Of uncompressed files only the wanted rows are read; others are read whole.

    Attributes:
        pages: File and number of the page in it, for each frame.
        image: Shape of a frame (row, column).
        dtype: Type of the values.
    """

    pages: tuple[tuple[Path, int], ...]
    image: tuple[int, int]
    dtype: np.dtype[Any]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Numbers of frames, rows and columns."""
        return len(self.pages), *self.image

    @property
    def chunks(self) -> tuple[int, int, int]:
        """A frame: files are opened for every read, so that many rows are read together."""
        return 1, *self.image

    def __getitem__(self, index: tuple[slice, slice, slice]) -> NDArray[Any]:
        """Values (frame, row, column) of slices.

        Raises:
            InputError: A file is missing, damaged, or its frame has another shape.
        """
        frames, *part = index
        return np.stack([self._frame(*page)[tuple(part)] for page in self.pages[frames]])

    def _frame(self, path: Path, number: int) -> NDArray[Any]:
        import tifffile

        try:
            with tifffile.TiffFile(path) as file:
                page = file.pages[number]
                plain = page.is_memmappable
                frame = tifffile.memmap(path, page=number, mode="r") if plain else page.asarray()
        except (OSError, IndexError, ValueError, tifffile.TiffFileError) as error:
            raise _unreadable(path, error) from error
        if frame.shape != self.image:
            raise InputError(
                f"{path} has shape {frame.shape}, other frames {self.image}.",
                "keep frames of one scan alone in the folder.",
            )
        found: NDArray[Any] = frame
        return found


def tiff_frames(files: Sequence[Path]) -> TiffFrames:
    """Frames of TIFF files in the given order.

    Several pages are read of a single file; of several files the first page each.

    Raises:
        InputError: The first file cannot be read, or holds no grey images.
    """
    import tifffile

    first = files[0]
    try:
        with tifffile.TiffFile(first) as file:
            count = len(file.pages) if len(files) == 1 else 1
            page = file.pages[0]
            shape, dtype = page.shape, page.dtype
    except (OSError, IndexError, ValueError, tifffile.TiffFileError) as error:
        raise _unreadable(first, error) from error
    if len(shape) != 2 or dtype is None or dtype.kind not in "uif":
        raise InputError(
            f"{first} has images of shape {shape} and type {dtype}.",
            "frames are grey images (row, column) of real numbers.",
        )
    pages = [(first, i) for i in range(count)] if count > 1 else [(path, 0) for path in files]
    return TiffFrames(tuple(pages), (int(shape[0]), int(shape[1])), dtype)


def _unreadable(path: Path, error: Exception) -> InputError:
    if "imagecodecs" in str(error):
        return InputError(
            f"{path} is compressed in a way that needs the package imagecodecs.",
            "pip install imagecodecs, or save it without compression.",
        )
    return InputError(
        f"{path} is no TIFF file, or is damaged.", "copy it again, or leave it out of the folder."
    )
