"""Images that cannot be used, found before a run comes to them: aborted series end in blanks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tiltkit.errors import InputError

if TYPE_CHECKING:
    from tiltkit_deblur.volume import Volume

__all__ = ["find_unusable"]

# Values that are looked at before a run, give or take a few pieces. Of larger files it is some
# images, of larger images some pieces, evenly spread, the first and the last always among them.
_MOST = 2**28
# Largest share of values that are not finite: the margins of turned and stitched images are.
_MOST_UNKNOWN = 0.9
# Values that are read at once.
_PIECE = 2**22


def find_unusable(
    volume: Volume, channel: int, images: Sequence[tuple[int, slice]]
) -> dict[int, str]:
    """Faults of images that are blank or broken, by their number.

    Args:
        volume: The open file.
        channel: Its channel.
        images: Time and planes of every image.

    Raises:
        InputError: There are no others.
    """
    planes = images[0][1].stop - images[0][1].start
    places = _spread(len(images), max(2, _MOST // (planes * math.prod(volume.shape[3:]))))
    most = _MOST // len(places)
    found = {i: _fault(volume, channel, *images[i], most) for i in places}
    why = {i: fault for i, fault in found.items() if fault}
    if len(why) == len(images):
        raise InputError(
            f"{volume.path} cannot be used: {why[0]}.",
            "check the channel, the time and the array.",
        )
    return why


def _fault(volume: Volume, channel: int, time: int, depth: slice, most: int) -> str:
    """Empty where there is none."""
    bad, looked_at, low, high = 0, 0, math.inf, -math.inf
    plane = math.prod(volume.shape[3:])
    thick = max(1, _PIECE // plane)
    starts = range(depth.start, depth.stop, thick)
    # Three at least: the ends of a stack may be empty, its middle is not.
    for i in _spread(len(starts), max(3, math.ceil(most / (thick * plane)))):
        part = slice(starts[i], min(starts[i] + thick, depth.stop))
        piece = volume.read(time, channel, (part, slice(None), slice(None)))
        bad += int(np.count_nonzero(np.isnan(piece)))
        looked_at += piece.size
        low = min(low, float(np.fmin.reduce(piece, axis=None)))
        high = max(high, float(np.fmax.reduce(piece, axis=None)))
    if bad > _MOST_UNKNOWN * looked_at:
        return f"{bad} values are NaN or infinite"
    return f"all pixels are {low:g}" if low == high else ""


def _spread(count: int, most: int) -> list[int]:
    """Numbers below a count, evenly spread, the first and the last among them."""
    return [int(i) for i in np.linspace(0, count - 1, min(most, count)).round()]
