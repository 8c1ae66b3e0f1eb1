"""Read FITS images, through astropy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiltkit.errors import InputError
from tiltkit.problem import Note
from tiltkit_deblur.readers.choosing import chosen_image
from tiltkit_deblur.volume import Volume, read_axes

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Fits"]

# Axes by their number; FITS names none that microscopes have.
_AXES = {2: "yx", 3: "zyx", 4: "tzyx"}
# Usual name of the image beside its errors and flags.
_SCIENCE = "SCI"
# Header entries that a result copies.
_COPIED = ("OBJECT", "INSTRUME", "TELESCOP", "FILTER", "EXPTIME", "DATE-OBS", "BUNIT", "GAIN")


class Fits:
    """The only image of a file, the one named SCI, or the one that is asked for.

    Three axes are planes, rows and columns; four are times, planes, rows and columns.
    """

    @staticmethod
    def matches(path: Path) -> bool:
        """By the first bytes, or by the name of a compressed file."""
        with path.open("rb") as file:
            start = file.read(9)
        return start == b"SIMPLE  =" or (
            start[:2] == b"\x1f\x8b" and path.name.lower().endswith((".fits.gz", ".fit.gz"))
        )

    @staticmethod
    @contextmanager
    def open(path: Path, series: int | None = None) -> Iterator[Volume]:
        """Open the file read-only; parts of images are read on demand.

        Args:
            path: The file.
            series: Number of the image, those without pixels not counted.

        Raises:
            InputError: The file cannot be read, or holds no image.
            UsageError: It holds several.
        """
        from astropy.io import fits

        try:
            file = fits.open(path, mode="readonly", memmap=False)  # sections read parts
        except (OSError, ValueError) as error:
            raise InputError(
                f"{path} is no readable FITS file: {error}.", "copy it again."
            ) from error
        with file:
            images = [hdu for hdu in file if hdu.is_image and len(hdu.shape) in _AXES]
            if not images:
                raise InputError(f"{path} holds no image of 2 to 4 axes.", "give another file.")
            named = [i for i, hdu in enumerate(images) if hdu.name == _SCIENCE]
            notes: tuple[Note, ...] = ()
            if series is None and len(named) == 1 < len(images):
                series = named[0]
                text = f"The image named {_SCIENCE} of {len(images)} is taken; else give series."
                notes = (Note("series_chosen", text, assumed=True),)
            names = [f"{hdu.name or 'image'} {hdu.shape}" for hdu in images]
            hdu = images[chosen_image(path, names, series)]
            axes = _AXES[len(hdu.shape)]
            shape, block = read_axes(axes, hdu.shape, _Section(hdu, path))
            yield Volume(
                path=path,
                layout=f"FITS, axes {axes}",
                shape=shape,
                dtype=_stored_type(hdu),
                read_block=block,
                metadata={
                    key.lower(): str(hdu.header[key]) for key in _COPIED if key in hdu.header
                },
                notes=notes,
            )


class _Section:
    """Gives the part of an image at an index, scaled as its header says."""

    def __init__(self, hdu: Any, path: Path) -> None:
        self._hdu, self._path = hdu, path

    def __call__(self, index: tuple[Any, ...]) -> NDArray[Any]:
        try:
            values: NDArray[Any] = np.asarray(self._hdu.section[index])
        except (OSError, ValueError, TypeError) as error:
            raise InputError(
                f"{self._path} cannot be read: {error}.", "copy it again, to its end."
            ) from error
        return values.astype(values.dtype.newbyteorder("="))


def _stored_type(hdu: Any) -> np.dtype[Any]:
    """Type of the values after scaling: integers stay so where only their sign was moved."""
    bits, header = int(hdu.header["BITPIX"]), hdu.header
    if bits < 0 or header.get("BSCALE", 1) != 1 or "BLANK" in header:
        return np.dtype(np.float64 if bits == -64 else np.float32)
    zero = header.get("BZERO", 0)
    if zero == 0:
        return np.dtype(f"u{bits // 8}" if bits == 8 else f"i{bits // 8}")
    unsigned = zero == 2 ** (bits - 1)
    return np.dtype(f"u{bits // 8}") if unsigned else np.dtype(np.float32)
