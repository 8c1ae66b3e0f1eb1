"""Maps of a camera, one value per pixel: gain, offset, variance, from TIFF files or dark frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tiltkit.errors import UsageError
from tiltkit.io.sniff import find_reader
from tiltkit_deblur.noise import spread

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tiltkit_deblur.options import DeblurOptions

    Map = NDArray[np.float64]

__all__ = ["CameraMaps", "read_maps"]

# Fewest dark frames whose variance is one: of fewer, only the mean is taken.
_FEWEST_FRAMES = 8
# Pixels are hot where their mean in the dark is so many spreads above the median, and noisy where
# their variance is so many times the median.
_HOT, _NOISY = 10.0, 30.0


@dataclass(frozen=True, slots=True)
class CameraMaps:
    """Values of every pixel (y, x) of the images.

    Attributes:
        gain: Readings per electron; None where it is the same for all pixels.
        offset: Reading in the dark; None where it is the same for all pixels.
        variance: Variance of the read noise, in squared readings; None likewise.
        bad: True for pixels that are left out; None where there is none.
    """

    gain: Map | None = None
    offset: Map | None = None
    variance: Map | None = None
    bad: NDArray[np.bool_] | None = None

    @property
    def mean_gain(self) -> float | None:
        """Gain of corrected readings; None where there is no map."""
        return None if self.gain is None else float(np.median(self.gain))

    def correct(self, readings: NDArray[np.float32], at: Sequence[slice]) -> NDArray[np.float32]:
        """Readings (z, y, x) less their offset, with the mean gain; NaN at bad pixels.

        Args:
            readings: As stored.
            at: Rows and columns of them.
        """
        if self.gain is None and self.offset is None and self.bad is None:
            return readings
        place, corrected = (at[0], at[1]), np.asarray(readings, np.float64)
        if self.offset is not None:
            corrected = corrected - self.offset[place]
        if self.gain is not None:
            corrected = corrected * (np.median(self.gain) / self.gain[place])
        if self.bad is not None:
            corrected = np.where(self.bad[place], np.nan, corrected)
        return np.asarray(corrected, np.float32)

    def read_variance(self, at: Sequence[slice]) -> Map | None:
        """Variance of the read noise of corrected readings; None where there is no map."""
        if self.variance is None:
            return None
        variance = self.variance
        if self.gain is not None:
            variance = variance * (np.median(self.gain) / self.gain) ** 2
        return np.asarray(variance[at[0], at[1]])


def read_maps(o: DeblurOptions, shape: tuple[int, int]) -> CameraMaps:
    """The maps that the options name.

    Args:
        o: Options of the task: ``dark``, ``gain_map``, ``offset_map``, ``variance_map``.
        shape: Rows and columns of the images.

    Raises:
        UsageError: A map has another shape or impossible values, or something is given twice.
        InputError: A file cannot be read.
    """
    for name in ("offset", "read_noise"):
        stated = [f"task.{one}" for one in (name, "dark") if getattr(o, one) is not None]
        if len(stated) > 1:
            raise UsageError(f"{' and '.join(stated)} are both given.", "leave one of them out.")
    offset = variance = bad = None
    if o.dark is not None:
        offset, variance, bad = _dark(_frames(o.dark, shape, "task.dark"))
    gain = _map(o.gain_map, shape, "task.gain_map")
    offset = _map(o.offset_map, shape, "task.offset_map") if o.offset_map else offset
    variance = _map(o.variance_map, shape, "task.variance_map") if o.variance_map else variance
    for values, name, least in ((gain, "gain", 1e-30), (variance, "variance", 0.0)):
        if values is not None and float(values.min()) < least:
            raise UsageError(
                f"The {name} map has {float(values.min()):g} as its smallest value.",
                "give gains above 0 in readings per electron, and variances in squared readings.",
            )
    return CameraMaps(gain, offset, variance, bad)


def _dark(frames: NDArray[np.float32]) -> tuple[Map, Map | None, NDArray[np.bool_] | None]:
    """Offset, variance of the read noise where there are enough frames, and bad pixels."""
    offset: Map = frames.mean(0, dtype=np.float64)
    variance: Map | None = None
    bad = offset - np.median(offset) > _HOT * max(spread(offset), 1e-3 * float(np.ptp(offset)))
    if len(frames) >= _FEWEST_FRAMES:
        variance = np.asarray(frames.var(0, ddof=1, dtype=np.float64))
        bad |= variance > _NOISY * max(float(np.median(variance)), 1e-30)
    return offset, variance, bad if bad.any() else None


def _map(path: Path | None, shape: tuple[int, int], name: str) -> Map | None:
    return None if path is None else _frames(path, shape, name).mean(0, dtype=np.float64)


def _frames(path: Path, shape: tuple[int, int], name: str) -> NDArray[np.float32]:
    """All planes of a file (n, y, x)."""
    with find_reader(path, gives="deblur.volume").open(path) as volume:
        if volume.shape[3:] != shape or volume.shape[1] > 1:
            there = " x ".join(map(str, volume.shape[3:]))
            raise UsageError(
                f"{path} has {there} pixels and {volume.shape[1]} channels, but the images have"
                f" {shape[0]} x {shape[1]} pixels.",
                f"give {name} for the same part of the camera, equally binned, as one channel.",
            )
        frames = np.concatenate([volume.read(time, 0) for time in range(volume.shape[0])])
    if not np.isfinite(frames).all():
        raise UsageError(f"{path} holds values that are not finite.", f"repair {name}.")
    return frames
