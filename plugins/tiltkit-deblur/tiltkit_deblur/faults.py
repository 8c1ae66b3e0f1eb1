"""Images that cannot be used, found before a run comes to them: aborted series end in blanks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tiltkit.errors import InputError

if TYPE_CHECKING:
    from tiltkit_deblur.volume import Volume

__all__ = ["Faults", "find_faults"]

# Values that are looked at before a run; of larger files some images, the first and the last.
_MOST = 2**28
# Values that are read at once.
_PIECE = 2**24
_NAMED = 3


@dataclass(frozen=True, slots=True)
class Faults:
    """What is wrong with some images of a file.

    Attributes:
        path: The file.
        total: Number of its images.
        why: What is wrong, by the number of the image.
    """

    path: Path
    total: int
    why: dict[int, str]

    def check(self, index: int) -> None:
        """Refuse an image that cannot be used.

        Raises:
            InputError: It is one of these.
        """
        if index in self.why:
            raise InputError(
                f"Image {index} of {self.path} cannot be used: {self.why[index]}.",
                f"leave it out with --slices {self.others}.",
            )

    @property
    def others(self) -> str:
        """All other images, as ``--slices`` takes them."""
        return _ranges(i for i in range(self.total) if i not in self.why)

    def __str__(self) -> str:
        """For ``tiltkit check``."""
        if not self.why:
            return "none"
        some = "; ".join(f"{i}: {why}" for i, why in list(self.why.items())[:_NAMED])
        more = f" and {len(self.why) - _NAMED} more" if len(self.why) > _NAMED else ""
        return f"{some}{more}; leave them out with --slices {self.others}"


def find_faults(volume: Volume, channel: int, images: Sequence[tuple[int, slice]]) -> Faults:
    """Look for images that are blank or broken.

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
    return Faults(volume.path, len(images), why)


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


def _ranges(numbers: Iterable[int]) -> str:
    """Rising numbers as ``0:3,5``: ranges leave out their end."""
    runs: list[list[int]] = []
    for n in numbers:
        if runs and n == runs[-1][1]:
            runs[-1][1] += 1
        else:
            runs.append([n, n + 1])
    return ",".join(f"{a}" if b == a + 1 else f"{a}:{b}" for a, b in runs)
