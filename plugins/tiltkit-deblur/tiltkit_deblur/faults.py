"""Images that cannot be used, found before a run comes to them: aborted series end in blanks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tiltkit.errors import InputError

if TYPE_CHECKING:
    from tiltkit_deblur.volume import Volume

__all__ = ["find_faults"]

# Values that are looked at before a run; of larger files some images, the first and the last.
_MOST = 2**28
# Values that are read at once.
_PIECE = 2**24


def find_faults(
    volume: Volume, channel: int, images: Sequence[tuple[int, slice]]
) -> dict[int, str]:
    """What is wrong with images that are blank or broken, by their number.

    Args:
        volume: The open file.
        channel: Its channel.
        images: Time and planes of every image.

    Raises:
        InputError: There are no others.
    """
    planes = images[0][1].stop - images[0][1].start
    most = max(2, _MOST // (planes * math.prod(volume.shape[3:])))
    places = np.linspace(0, len(images) - 1, min(most, len(images))).round()
    found = {int(i): _fault(volume, channel, *images[int(i)]) for i in places}
    why = {i: fault for i, fault in found.items() if fault}
    if len(why) == len(images):
        raise InputError(
            f"{volume.path} cannot be used: {why[0]}.",
            "check the channel, the time and the array; set dead pixels to the largest value of"
            " the type, which is left out.",
        )
    return why


def _fault(volume: Volume, channel: int, time: int, depth: slice) -> str:
    """Empty where there is none."""
    bad, low, high = 0, math.inf, -math.inf
    thick = max(1, _PIECE // math.prod(volume.shape[3:]))
    for z in range(depth.start, depth.stop, thick):
        part = slice(z, min(z + thick, depth.stop))
        piece = volume.read(time, channel, (part, slice(None), slice(None)))
        bad += int(np.count_nonzero(~np.isfinite(piece)))
        low, high = min(low, float(piece.min())), max(high, float(piece.max()))
    if bad:
        return f"{bad} values are NaN or infinite"
    return f"all pixels are {low:g}" if low == high else ""
