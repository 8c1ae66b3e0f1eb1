"""Photometry on a few planes of a volume: saturation, camera, brightness."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from tiltkit.errors import InputError
from tiltkit_deblur.noise import Camera, estimate_camera
from tiltkit_deblur.prepare import check_readings
from tiltkit_deblur.volume import full_scale

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tiltkit_deblur.options import DeblurOptions
    from tiltkit_deblur.volume import Volume, Window

__all__ = ["BRIGHTEST", "Photometry"]

# Percentile of an image that is its bright end: single pixels may be hot.
BRIGHTEST = 99.9
# Planes on which noise and brightness are measured: a fixed cost for any volume.
_PLANES = 16
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
        """Planes (n, y, x) of the selected images, checked; saturated pixels are NaN.

        Raises:
            InputError: Too many pixels are saturated, or the readings are unusable.
        """
        stack = self._readings
        check_readings(stack, self.options.offset or -np.inf, str(self.volume.path))
        full = stack >= self.saturation
        if full.mean() > _MOST_SATURATED:
            raise InputError(
                f"{full.mean():.0%} of the pixels of {self.volume.path} are saturated, at"
                f" {self.saturation:g} or above.",
                "give a shorter exposure, or -s task.saturation=READING.",
            )
        return np.where(full, np.float32(np.nan), stack)

    @cached_property
    def _readings(self) -> NDArray[np.float32]:
        """Some planes (n, y, x), without those that are blank or broken if others are not."""
        planes = [(t, z) for t in self.times for z in range(self.volume.shape[2])]
        chosen = np.unique(np.linspace(0, len(planes) - 1, _PLANES).round().astype(int))
        stack = np.concatenate(
            [self.volume.read(planes[i][0], self.channel, _plane(planes[i][1])) for i in chosen]
        )
        usable = np.isfinite(stack).all(axis=(1, 2))
        usable &= stack.min(axis=(1, 2)) < stack.max(axis=(1, 2))
        return stack[usable] if usable.any() else stack

    @cached_property
    def saturation(self) -> float:
        """Reading from which on a pixel is saturated."""
        found = min(self.volume.saturation, full_scale(self._readings))
        return self.options.saturation or found

    @cached_property
    def camera(self) -> Camera:
        """Gain, offset and read noise, given or estimated from the sample."""
        o = self.options
        camera = estimate_camera(self.planes, gain=o.gain, offset=o.offset, read_noise=o.read_noise)
        finite = self.planes[np.isfinite(self.planes)]
        check_readings(finite, camera.offset, str(self.volume.path))
        return camera

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


def _plane(z: int) -> Window:
    return slice(z, z + 1), slice(None), slice(None)
