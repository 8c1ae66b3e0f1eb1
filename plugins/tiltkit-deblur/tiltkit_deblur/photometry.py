"""Photometry on a few planes of a volume: saturation, camera, brightness."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from tiltkit.errors import InputError
from tiltkit_deblur.camera_maps import CameraMaps, read_maps
from tiltkit_deblur.noise_check import Noise, cut_off_reading, examine_noise
from tiltkit_deblur.prepare import check_readings
from tiltkit_deblur.volume import full_scale

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tiltkit_deblur.noise import Camera
    from tiltkit_deblur.options import DeblurOptions
    from tiltkit_deblur.volume import Volume

__all__ = ["BRIGHTEST", "Photometry", "brightness_profiles"]

# Percentile of an image that is its bright end: single pixels may be hot.
BRIGHTEST = 99.9
# Planes on which noise and brightness are measured, and pixels of all of them: a fixed cost for any
# volume. Of larger planes it is parts, so many along rows and along columns.
_PLANES, _SAMPLE, _PARTS = 16, 2**22, 3
# Smallest standard deviation of the noise, as a fraction of the bright end.
_LEAST_NOISE = 1e-3
# Largest share of saturated pixels: with more, most of the bright structures are not measured.
_MOST_SATURATED = 0.2


@dataclass(frozen=True)
class Photometry:
    """Noise and brightness, measured on a few planes of the selected images.

    Attributes:
        volume: The open file.
        options: Options of the task.
        channel: The channel.
        times: Selected time points.
    """

    volume: Volume
    options: DeblurOptions
    channel: int
    times: Sequence[int]

    @cached_property
    def planes(self) -> NDArray[np.float32]:
        """Planes (n, y, x) of the selected images, or parts of them; NaN where not measured.

        Raises:
            InputError: Too many pixels are saturated, or the readings are unusable.
        """
        stack = self._sample[1]
        check_readings(stack, -np.inf, str(self.volume.path))  # dark ones: see `noise`
        if self.saturated > _MOST_SATURATED:
            raise InputError(
                f"{self.saturated:.0%} of the pixels of {self.volume.path} are saturated, at"
                f" {self.saturation:g} or above.",
                "give a shorter exposure, or -s task.saturation=READING.",
            )
        return np.where(self._readings >= self.saturation, np.float32(np.nan), stack)

    @cached_property
    def maps(self) -> CameraMaps:
        """Maps of the camera."""
        return read_maps(self.options, self.volume.shape[3:])

    @property
    def _readings(self) -> NDArray[np.float32]:
        """The sample as stored."""
        return self._sample[0]

    @cached_property
    def _sample(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """A sample (n, y, x), as stored and corrected by the maps of the camera.

        Planes that are blank or broken are left out if others are not.
        """
        planes = [(t, z) for t in self.times for z in range(self.volume.shape[2])]
        chosen = np.unique(np.linspace(0, len(planes) - 1, _PLANES).round().astype(int))
        rows, columns = _sample_windows(self.volume.shape[3:], len(chosen))
        windows = [(y, x) for y in rows for x in columns]
        pieces = [
            self.volume.read(time, self.channel, (slice(z, z + 1), *window))
            for time, z in (planes[i] for i in chosen)
            for window in windows
        ]
        corrected = [
            self.maps.correct(piece, windows[i % len(windows)]) for i, piece in enumerate(pieces)
        ]
        stack = np.concatenate(pieces)
        usable = np.isfinite(stack).any(axis=(1, 2))
        usable &= np.fmin.reduce(stack, (1, 2)) < np.fmax.reduce(stack, (1, 2))
        chosen = usable if usable.any() else ~usable
        return stack[chosen], np.concatenate(corrected)[chosen]

    @cached_property
    def saturated(self) -> float:
        """Share of pixels that are saturated."""
        return float(np.mean(self._readings >= self.saturation))

    @cached_property
    def unknown(self) -> float:
        """Share of pixels whose reading is not finite, and of hot ones in dark frames."""
        return float(np.isnan(self._sample[1]).mean())

    @cached_property
    def saturation(self) -> float:
        """Reading from which on a pixel is saturated."""
        readings = self._readings
        found = min(self.volume.saturation, full_scale(readings), cut_off_reading(readings))
        return self.options.saturation or found

    @cached_property
    def noise(self) -> Noise:
        """Camera, given or estimated from the sample, and what is doubtful about it."""
        o, maps = self.options, self.maps
        known = None if maps.variance is None else float(np.median(maps.variance)) ** 0.5
        noise = examine_noise(
            self.planes,
            gain=o.gain if maps.mean_gain is None else maps.mean_gain,
            offset=o.offset if maps.offset is None else 0.0,
            read_noise=o.read_noise if known is None else known,
        )
        check_readings(self.planes, noise.camera.offset, str(self.volume.path))
        return noise

    @property
    def camera(self) -> Camera:
        """Gain, offset and read noise."""
        return self.noise.camera

    @property
    def origins(self) -> dict[str, str]:
        """Origin of gain, offset and read noise: ``map``, ``given`` or ``estimated``."""
        o, maps = self.options, self.maps
        values = {
            "gain": (maps.gain, o.gain),
            "offset": (maps.offset, o.offset),
            "read noise": (maps.variance, o.read_noise),
        }
        return {
            name: "map" if mapped is not None else "estimated" if given is None else "given"
            for name, (mapped, given) in values.items()
        }

    @cached_property
    def variance(self) -> float:
        """Noise variance of a pixel of typical brightness among those with light."""
        signal = self.signal.clip(0)
        level = float((signal**2).sum() / max(signal.sum(), 1e-30))
        return max(self.camera.variance(level + self.camera.offset), self.least_variance)

    @cached_property
    def least_variance(self) -> float:
        """Smallest noise variance of a pixel, so that the posterior has a density."""
        bright = float(np.nanpercentile(self.planes, BRIGHTEST)) - self.camera.offset
        return (_LEAST_NOISE * bright) ** 2

    @property
    def signal(self) -> NDArray[np.float32]:
        """The planes less the offset; 0 where they are saturated."""
        signal: NDArray[np.float32] = np.nan_to_num(self.planes - self.camera.offset)
        return signal


def brightness_profiles(
    volume: Volume, channel: int, time: int, depth: slice
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean reading of every row and of every column of an image, from a few of its planes."""
    rows, columns = volume.shape[3:]
    total = np.zeros(rows), np.zeros(columns)
    band = max(1, _SAMPLE // columns)
    planes = np.unique(np.linspace(depth.start, depth.stop - 1, _PLANES).round().astype(int))
    for z in planes:
        for start in range(0, rows, band):
            part = slice(start, min(start + band, rows))
            piece = volume.read(time, channel, (slice(z, z + 1), part, slice(None)))[0]
            piece = np.nan_to_num(piece)
            total[0][part] += piece.sum(axis=1, dtype=np.float64)
            total[1][:] += piece.sum(axis=0, dtype=np.float64)
    return total[0] / (len(planes) * columns), total[1] / (len(planes) * rows)


def _sample_windows(shape: Sequence[int], planes: int) -> tuple[list[slice], list[slice]]:
    """Windows of rows and of columns: the whole of small planes, evenly spread parts of others."""
    if planes * shape[0] * shape[1] <= _SAMPLE:
        return [slice(0, shape[0])], [slice(0, shape[1])]
    side = int((_SAMPLE / planes) ** 0.5) // _PARTS
    rows, columns = (
        [slice(int(a), int(a) + min(side, n)) for a in np.linspace(0, n - side, _PARTS)]
        if n > side * _PARTS
        else [slice(0, n)]
        for n in shape
    )
    return rows, columns
