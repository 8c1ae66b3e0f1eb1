"""From readings to a deconvolution: grid, noise, and prediction of unmeasured pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.fft import next_fast_len

from tiltkit.errors import InputError
from tiltkit_deblur.convolution import Convolution
from tiltkit_deblur.psf import half_support
from tiltkit_deblur.richardson_lucy import richardson_lucy

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from tiltkit_deblur.noise import Camera

__all__ = ["Grid", "Prepared", "check_readings", "grid_of", "prepare"]


# Chi-squared per pixel up to which an image fits the data, and most iterations until then.
_FITS, _MOST_ITERATIONS = 1.0, 200
# Smallest brightness of bright pixels, over that of the brightest one.
_BRIGHT = 0.1


@dataclass(frozen=True, slots=True)
class Grid:
    """Grid of the image: the data and a border from which light falls into them.

    Attributes:
        shape: Shape of the grid, ``space``; convenient for Fourier transforms.
        inside: Position of the data in the grid.
    """

    shape: tuple[int, ...]
    inside: tuple[slice, ...]

    @property
    def at(self) -> Any:
        """``inside`` as an index of (1, 1, *space)."""
        return (0, 0, *self.inside)


def grid_of(data: Sequence[int], kernel: NDArray[np.float64], boundary: str) -> Grid:
    """The grid of data (space) and a kernel.

    Raises:
        InputError: The kernel is larger than the grid.
    """
    halves = half_support(kernel)
    # Along z a PSF may be longer than the data: light out of focus reaches far.
    most = [n // 2 if axis or len(data) < 3 else n - 1 for axis, n in enumerate(data)]
    if any(h > m for h, m in zip(halves, most, strict=True)):
        size = " x ".join(str(2 * h + 1) for h in halves)
        shallow = len(data) == 3 and 2 * halves[0] + 1 > data[0]
        apart = ", or deblur every plane by itself with -s task.dimensions=2"
        raise InputError(
            f"The PSF, {size} pixels with 99 % of its light, is larger than the image,"
            f" {' x '.join(map(str, data))}.",
            f"check the voxel sizes of both{apart if shallow else ''}.",
        )
    if boundary == "circular":
        return Grid(tuple(data), tuple(slice(0, n) for n in data))
    shape = tuple(
        int(next_fast_len(n + 2 * h, real=True)) for n, h in zip(data, halves, strict=True)
    )
    return Grid(shape, tuple(slice(h, h + n) for h, n in zip(halves, data, strict=True)))


@dataclass(frozen=True, slots=True)
class Prepared:
    """A deconvolution on its grid; tensors are (1, 1, *space), values are readings.

    Attributes:
        operator: The blur.
        grid: Grid of the tensors.
        y: Readings without offset and background; predicted where not measured.
        measured: True where pixels are measured.
        variance: Noise variance of every pixel, from the expected brightness.
        baseline: Image of Richardson-Lucy.
    """

    operator: Convolution
    grid: Grid
    y: Tensor
    measured: Tensor
    variance: Tensor
    baseline: Tensor


def prepare(
    readings: NDArray[np.float32],
    kernel: NDArray[np.float64],
    grid: Grid,
    camera: Camera,
    *,
    background: float,
    least_variance: float,
    iterations: int,
    device: torch.device,
    read_variance: NDArray[np.float64] | None = None,
) -> Prepared:
    """Put readings on their grid.

    The grid is larger than the detector; pixels without a finite reading are not measured.
    Unmeasured pixels get the prediction of the Richardson-Lucy image, which is fitted to the others
    alone. The solver is diagonal on the whole periodic grid: without the prediction the borders
    would ring.

    The noise variance follows from the expected brightness. In bright pixels it is that of an
    image with as many iterations as it takes to fit the data: the baseline is too smooth for
    bright points, whose variance it would underestimate. In dark pixels more iterations would
    follow the noise, give pixels that are dark by chance more weight, and lose light.

    Args:
        readings: Data (space); NaN where saturated or without a reading.
        kernel: Point spread function (space).
        grid: From `grid_of`.
        camera: Gain, offset and read noise.
        background: Stray light and autofluorescence, in readings.
        least_variance: Smallest noise variance of a pixel.
        iterations: Iterations of Richardson-Lucy.
        device: Device to compute on.
        read_variance: Variance of the read noise of every pixel (y, x); that of the camera when
            None.
    """
    operator = Convolution(_fitting(kernel, grid.shape, device), grid.shape)
    y = torch.zeros((1, 1, *grid.shape), device=device)
    measured = torch.zeros((1, 1, *grid.shape), dtype=torch.bool, device=device)
    y[grid.at] = torch.from_numpy(readings).to(device) - (camera.offset + background)
    measured[grid.at] = torch.from_numpy(np.isfinite(readings)).to(device)
    # Read noise of a variance v is that of v further counts: Snyder et al., JOSA A 12, 1995.
    unit = camera.gain if camera.gain > 0 else 1.0
    read = torch.full_like(y, camera.read_noise**2)
    if read_variance is not None:
        read[grid.at] = torch.from_numpy(read_variance).to(read)
    dark = background + read / unit
    baseline = richardson_lucy(operator, y + dark, measured, dark, iterations)

    def variance_at(blurred: Tensor) -> Tensor:
        noise = camera.gain * (blurred + background).clamp_min(0) + read
        return noise.clamp_min(least_variance)

    fitted, done = baseline, iterations
    first = blurred = operator.forward(fitted)
    while done < _MOST_ITERATIONS and _misfit(y - blurred, variance_at(blurred), measured) > _FITS:
        fitted = richardson_lucy(operator, y + dark, measured, dark, iterations, fitted)
        blurred, done = operator.forward(fitted), done + iterations
    expected = torch.where(blurred > _BRIGHT * blurred.max(), blurred, first)
    filled = torch.where(measured, y, expected)
    return Prepared(operator, grid, filled, measured, variance_at(expected), baseline)


def _misfit(residual: Tensor, variance: Tensor, measured: Tensor) -> float:
    """Mean squared residual over its variance.

    It is that of all measured pixels, or, where worse, of those at least half as bright as the
    brightest one.
    """
    ratio = residual.square() / variance
    bright = measured & (variance >= variance[measured].max() / 2)
    return max(float(ratio[where].double().mean()) for where in (measured, bright))


def check_readings(stack: NDArray[np.float32], offset: float, name: str) -> None:
    """Refuse readings that no camera gives.

    Raises:
        InputError: No finite value, a constant, or nothing above the dark.
    """
    known = np.isfinite(stack)
    if not known.any():
        raise InputError(
            f"All {stack.size} pixels of {name} are NaN or infinite.",
            "check the channel, the time and the array.",
        )
    low, high = float(np.fmin.reduce(stack, axis=None)), float(np.fmax.reduce(stack, axis=None))
    if low == high:
        raise InputError(
            f"All {stack.size} pixels of {name} have the value {low:g}.",
            "check the channel, the time and the array.",
        )
    mean = float(np.mean(stack, where=known, dtype=np.float64))
    if mean <= offset:
        raise InputError(
            f"{name} is no brighter than the dark: its mean is {mean:g}, the offset {offset:g}.",
            "correct it with -s task.offset=READING, or give data without background subtraction.",
        )


def _fitting(kernel: NDArray[np.float64], shape: Sequence[int], device: torch.device) -> Tensor:
    """The kernel cropped to a grid and normalised."""
    box = []
    for k, n in zip(kernel.shape, shape, strict=True):
        half = min(k // 2, (n - 1) // 2)
        box.append(slice(k // 2 - half, k // 2 + half + 1))
    kept = kernel[tuple(box)]
    return torch.from_numpy((kept / kept.sum()).astype(np.float32)).to(device)
