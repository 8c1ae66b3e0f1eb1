"""A volume of a microscope file: stacks of planes, read piece by piece."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiltkit.errors import InputError
from tiltkit.io.units import LENGTHS, unit_size
from tiltkit.problem import Note

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["AXES", "Volume", "Window", "checked_voxel", "full_scale", "micrometres", "read_axes"]

# Where a piece lies along z, y and x.
Window = tuple[slice, slice, slice]

# Largest readings of cameras of 10, 12 and 14 bits, whose files have 16, in the lower bits or in
# the upper ones; so many pixels at one of them, and none above, are saturated.
_FULL_SCALES = {(2**bits - 1) << up for bits in (10, 12, 14) for up in (0, 16 - bits)}
_SEVERAL = 3  # one or two pixels may be hot

# Readings of so large a magnitude are no intensities: programs mark dead pixels by the largest
# value of single precision.
_FILL = 1e38

# The order in which every volume is presented.
AXES = "tczyx"


@dataclass(frozen=True)
class Volume:
    """An open file of (time, channel, z, y, x).

    Attributes:
        path: The file.
        layout: Its layout, for people.
        shape: Numbers of times, channels, planes, rows and columns.
        dtype: Type of the stored values.
        read_block: Stored values (z, y, x) of a time, a channel and a window.
        voxel_um: Edges of a voxel (z, y, x) in micrometres; None where the file states none.
        channels: Names of the channels, where there are any.
        metadata: Metadata that a result copies.
        notes: Choices that were made on opening.
    """

    path: Path
    layout: str
    shape: tuple[int, int, int, int, int]
    dtype: np.dtype[Any]
    read_block: Callable[[int, int, Window], NDArray[Any]]
    voxel_um: tuple[float, float, float] | None = None
    channels: Sequence[str] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[Note] = ()

    def __post_init__(self) -> None:
        if min(self.shape) < 1:
            raise InputError(
                f"{self.path} holds no pixels: its (time, channel, z, y, x) is {self.shape}.",
                "check that the file was written to its end.",
            )
        if self.dtype.kind not in "fiu":
            raise InputError(
                f"{self.path} holds values of type {self.dtype}, not integer or real numbers.",
                "export intensities.",
            )

    @property
    def saturation(self) -> float:
        """The largest value that the stored type can hold; infinite for floating point."""
        return float(np.iinfo(self.dtype).max) if self.dtype.kind in "iu" else math.inf

    def read(self, time: int, channel: int, window: Window | None = None) -> NDArray[np.float32]:
        """Values (z, y, x) of a window, or of everything; NaN where they are no intensities.

        These are NaN, infinities, and the largest value of single precision, which marks dead
        pixels.
        """
        stored = self.read_block(time, channel, window or (slice(None),) * 3)
        if self.dtype.kind in "iu":
            return np.asarray(stored, dtype=np.float32)
        with np.errstate(over="ignore"):  # larger than single precision: infinite, so NaN below
            values = np.array(stored, dtype=np.float32)
        values[~(np.abs(values) < _FILL)] = np.nan
        return values


def full_scale(stack: NDArray[np.float32]) -> float:
    """The reading at which a camera of fewer bits than its file was full; infinite if none was."""
    top = float(np.fmax.reduce(stack, axis=None))
    clipped = top in _FULL_SCALES and np.count_nonzero(stack == top) >= _SEVERAL
    return top if clipped else math.inf


def micrometres(unit: str) -> float | None:
    """Micrometres in a unit of length; None where the unit is unknown."""
    size = unit_size(unit, LENGTHS)
    return None if size is None else size / LENGTHS["um"]


def checked_voxel(values: Sequence[float | None]) -> tuple[float, float, float] | None:
    """Voxel edges (z, y, x) where all of them are known and make sense."""
    known = [float(v) for v in values if v is not None and math.isfinite(v) and v > 0]
    return (known[0], known[1], known[2]) if len(known) == len(values) == 3 else None


def read_axes(
    axes: str, shape: Sequence[int], read: Callable[[tuple[Any, ...]], NDArray[Any]]
) -> tuple[tuple[int, int, int, int, int], Callable[[int, int, Window], NDArray[Any]]]:
    """Shape and block reader of an array whose axes come in another order.

    Args:
        axes: One letter of ``tczyx`` per axis of the array.
        shape: Shape of the array.
        read: Gives the part of the array at an index.
    """
    sizes = dict(zip(axes, shape, strict=True))
    full = tuple(int(sizes.get(letter, 1)) for letter in AXES)

    def block(time: int, channel: int, window: Window) -> NDArray[Any]:
        at: dict[str, Any] = dict(zip(AXES, (time, channel, *window), strict=True))
        part = np.asarray(read(tuple(at[letter] for letter in axes)))
        kept = [letter for letter in axes if letter in "zyx"]
        order = sorted(range(len(kept)), key=lambda i: "zyx".index(kept[i]))
        part = part.transpose(order)
        for position, letter in enumerate("zyx"):
            if letter not in kept:
                part = np.expand_dims(part, position)
        return part

    return (full[0], full[1], full[2], full[3], full[4]), block
