"""Read ND2 files of Nikon microscopes, through the package nd2."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiltkit.errors import InputError
from tiltkit_deblur.readers.choosing import chosen_image
from tiltkit_deblur.volume import Volume, Window, checked_voxel

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Nd2"]

# First bytes of the present layout, and of that before 2006, which is JPEG 2000.
_STARTS = (b"\xda\xce\xbe\x0a", b"\x00\x00\x00\x0cjP")


class Nd2:
    """One position; times, planes and channels."""

    @staticmethod
    def matches(path: Path) -> bool:
        """By the first bytes, and by the name where others have the same."""
        with path.open("rb") as file:
            start = file.read(6)
        named = path.suffix.lower() == ".nd2"
        return start[:4] == _STARTS[0] or (start == _STARTS[1] and named)

    @staticmethod
    @contextmanager
    def open(path: Path, series: int | None = None) -> Iterator[Volume]:
        """Open the file read-only; frames are read on demand.

        Args:
            path: The file.
            series: Number of the position.

        Raises:
            InputError: The file cannot be read, or holds colours or axes that are not known.
            UsageError: It holds several positions.
        """
        import nd2

        with ExitStack() as opened:
            try:
                file = opened.enter_context(nd2.ND2File(path))
                sizes = dict(file.sizes)
            except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
                raise InputError(
                    f"{path} is no readable ND2 file: {error}.", "copy it again."
                ) from error
            yield _volume(file, sizes, path, series)


def _volume(file: Any, sizes: dict[str, int], path: Path, series: int | None) -> Volume:
    if set(sizes) - set("TPZCYX"):
        raise InputError(
            f"{path} has the axes {''.join(sizes)}, of which only T, P, Z, C, Y, X are read.",
            "export the channels as OME-TIFF, colours apart.",
        )
    names = [f"position {i}" for i in range(sizes.get("P", 1))]
    position = chosen_image(path, names, series)
    frames = {
        (at.get("P", 0), at.get("T", 0), at.get("Z", 0)): number
        for number, at in enumerate(file.loop_indices or [{}])
    }
    channels = sizes.get("C", 1)

    @lru_cache(maxsize=1)
    def frame(time: int, z: int) -> NDArray[Any]:
        """A frame (c, y, x)."""
        values = np.asarray(file.read_frame(frames[position, time, z]))
        return values.reshape(channels, sizes["Y"], sizes["X"])

    def block(time: int, channel: int, window: Window) -> NDArray[Any]:
        depth = range(*window[0].indices(sizes.get("Z", 1)))
        try:
            return np.stack([frame(time, z)[channel][window[1:]] for z in depth])
        except KeyError as error:
            raise InputError(
                f"{path} lacks frames: it was probably stopped early.",
                "choose times with task.time.",
            ) from error

    voxel = file.voxel_size()
    z = voxel.z if sizes.get("Z", 1) > 1 else voxel.y
    return Volume(
        path=path,
        layout=f"ND2, axes {''.join(sizes).lower()}",
        shape=(sizes.get("T", 1), channels, sizes.get("Z", 1), sizes["Y"], sizes["X"]),
        dtype=np.dtype(file.dtype),
        read_block=block,
        voxel_um=checked_voxel([z, voxel.y, voxel.x]),
        channels=[str(one.channel.name) for one in getattr(file.metadata, "channels", None) or ()],
    )
