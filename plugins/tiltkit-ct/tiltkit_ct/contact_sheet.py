"""A contact sheet to choose the rotation axis by eye: one small reconstruction per candidate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter

from tiltkit.errors import UsageError
from tiltkit_ct.axis import check_axis
from tiltkit_ct.prepare import PrepareOptions, Sinogram, prepare

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tiltkit_ct.projections import Projections

    Image = NDArray[np.floating]

__all__ = ["MOST", "axis_picture", "reconstruct"]

_SIZE = 256  # pixels of a small reconstruction, of full resolution
_ANGLES = 720  # are enough for it
MOST = 100  # candidates on a sheet


def axis_picture(
    projections: Projections,
    candidates: Sequence[float],
    path: Path,
    options: PrepareOptions | None = None,
    row: int | None = None,
) -> None:
    """Write a PNG with one reconstruction per candidate, its number above it, all grey alike.

    A wrong axis turns points into arcs and doubles edges. Where the whole slice is too large the
    part with the strongest detail is shown, at full resolution.

    Args:
        projections: A scan, after `tiltkit_ct.select.select`.
        candidates: Detector columns.
        path: The picture to write.
        options: Settings of the correction.
        row: Detector row; the middle one when None.

    Raises:
        UsageError: No or too many candidates, or one that is far outside of the detector.
        InputError: The row cannot be used.
    """
    _check(candidates, projections.n_columns)
    row = projections.n_rows // 2 if row is None else row
    sinogram = prepare(projections, row, options or PrepareOptions())
    middle = candidates[len(candidates) // 2]
    n = min(_SIZE, projections.n_columns)
    centre = _strongest(sinogram, middle, n) if n < projections.n_columns else (0.0, 0.0)
    grid = np.arange(n) - (n - 1) / 2
    images = [reconstruct(sinogram, axis, grid + centre[0], grid + centre[1])
              for axis in candidates]  # fmt: skip
    _draw(images, candidates, path, f"{projections.path.name}, row {row}: rotation axis at column")


def _check(candidates: Sequence[float], columns: int) -> None:
    for axis in candidates:
        check_axis(axis, columns)
    if not 0 < len(candidates) <= MOST:
        raise UsageError(
            f"{len(candidates)} candidates do not make a picture.", f"give 1 to {MOST}."
        )


def reconstruct(sinogram: Sinogram, axis: float, y: Image, x: Image) -> Image:
    """Filtered back-projection (Hann) at the points of a grid.

    Args:
        sinogram: One detector row; also of a full turn with the axis off the centre.
        axis: Column of the rotation axis.
        y: Rows of the grid, in pixels from the axis.
        x: Columns of the grid, in pixels from the axis.

    Returns:
        Attenuation per pixel, (y, x).
    """
    keep = slice(None, None, max(len(sinogram.angles) // _ANGLES, 1))
    angles = sinogram.angles[keep]
    n = sinogram.line_integrals.shape[1]
    rows = sinogram.line_integrals[keep] * _share(np.arange(n) - axis, angles)
    # Filtered values reach beyond the detector, and count on its shorter side.
    beyond = math.ceil(abs(2 * axis - (n - 1)))
    columns = np.arange(-beyond, n + beyond)
    m = 2 ** math.ceil(math.log2(2 * len(columns)))
    spectrum = np.fft.rfft(np.pad(rows, [(0, 0), (beyond, beyond)]), m) * _ramp(m)
    filtered = np.fft.irfft(spectrum, m)[:, : len(columns)]
    image = np.zeros((len(y), len(x)))
    for angle, values in zip(angles, filtered, strict=True):
        s = np.cos(angle) * x + np.sin(angle) * y[:, None]
        image += np.interp(axis + s, columns, values, left=0, right=0)
    return image * (2 * np.pi / len(angles))


def _ramp(m: int) -> Image:
    """The band-limited ramp with a Hann window, right at frequency 0 too (Kak and Slaney, 1988)."""
    n = np.minimum(np.arange(m), m - np.arange(m))
    kernel = np.where(n % 2 == 1, -1 / (np.pi * np.maximum(n, 1)) ** 2, 0.0)
    kernel[0] = 0.25
    window = 0.5 + 0.5 * np.cos(2 * np.pi * np.fft.rfftfreq(m))
    ramp: Image = np.fft.rfft(kernel).real * window
    return ramp


def _share(s: Image, angles: NDArray[np.float64]) -> Image:
    """Weight of each ray in a full turn: measured twice or, beyond the overlap, once."""
    if np.ptp(angles) < 1.9 * np.pi:
        return np.full(len(s), 0.5)
    reach = max(min(-s[0], s[-1]), 1.0)
    side = 1.0 if s[-1] > -s[0] else -1.0
    share: Image = np.sin(np.pi / 4 * (1 + np.clip(side * s / reach, -1, 1))) ** 2
    return share


def _strongest(sinogram: Sinogram, axis: float, n: int) -> tuple[float, float]:
    """Centre (y, x) of the part of ``n`` x ``n`` pixels with the strongest detail."""
    reach = max(axis, sinogram.line_integrals.shape[1] - 1 - axis)
    step = max(2 * reach / _SIZE, 1.0)
    grid = np.arange(-reach, reach + 1, step)
    image = reconstruct(sinogram, axis, grid, grid)
    inside = np.hypot(grid, grid[:, None]) < reach - 0.1 * n
    detail = (image - gaussian_filter(image, 2)) ** 2 * inside
    energy = gaussian_filter(detail, n / step / 4)
    i, j = np.unravel_index(energy.argmax(), energy.shape)
    return float(grid[i]), float(grid[j])


def _draw(images: Sequence[Image], numbers: Sequence[float], path: Path, title: str) -> None:
    from matplotlib.figure import Figure

    across = math.ceil(math.sqrt(len(images)))
    down = math.ceil(len(images) / across)
    low, high = np.percentile(np.stack(images), [1, 99.7])
    figure = Figure(figsize=(2.6 * across, 2.75 * down + 0.4), layout="constrained")
    figure.suptitle(title)
    plots = figure.subplots(down, across, squeeze=False).flat
    for plot, image, number in zip(plots, images, numbers, strict=False):
        plot.imshow(image, cmap="gray", vmin=low, vmax=high)
        plot.set_title(f"{number:g}")
    for plot in figure.axes:
        plot.axis("off")
    figure.savefig(path, dpi=100)
