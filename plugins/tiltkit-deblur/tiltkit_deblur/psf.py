"""Point spread functions as kernels: centred, on the voxels of the data, cropped, normalised."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import affine_transform, gaussian_filter1d

from tiltkit.errors import InputError
from tiltkit_deblur.measured_psf import isolate_spot, smoothed

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["cropped", "half_support", "kernel_of"]

Voxel = Sequence[float] | None

# Share of the light that may be left out: when a kernel is cropped, and beyond its half support.
_CROPPED, _OUTSIDE = 1e-4, 1e-2
# Voxel edges that differ by less are the same.
_SAME_VOXEL = 0.02


def kernel_of(
    stack: NDArray[np.float32],
    name: str = "The PSF",
    *,
    voxel: Voxel = None,
    wanted: Voxel = None,
) -> NDArray[np.float64]:
    """The kernel of a measured point spread function.

    The brightest point of the smoothed PSF goes to the middle, to a fraction of a pixel. It is
    that and not the centre of the light: the image of a point is located at its
    brightest pixel, also where aberrations give it a tail to one side.

    Args:
        stack: (z, y, x); one plane for a 2-D PSF.
        name: For messages.
        voxel: Edges of a voxel of the PSF (z, y, x), where known.
        wanted: Edges of a voxel of the data, where known.

    Returns:
        Odd sides, sum 1; (z, y, x), or (y, x) where there is one plane.

    Raises:
        InputError: Values that are not finite, no light, no whole spot, or voxels that are larger
            than twice those of the data: detail is not there.
    """
    spot = isolate_spot(stack, name)
    return cropped(_centred(spot, _steps(voxel, wanted, spot.ndim, name)))


def cropped(stack: NDArray[np.floating]) -> NDArray[np.float64]:
    """A centred PSF with odd sides as a kernel, without the outer part that holds next to no light.

    Args:
        stack: (z, y, x), or (y, x).

    Returns:
        Odd sides, sum 1; (y, x) where there is one plane.
    """
    kernel = np.asarray(stack, np.float64) / np.sum(stack, dtype=np.float64)
    kernel = kernel[0] if kernel.ndim == 3 and len(kernel) == 1 else kernel
    halves = half_support(kernel, _CROPPED)
    middle = [n // 2 for n in kernel.shape]
    box = tuple(slice(m - h, m + h + 1) for m, h in zip(middle, halves, strict=True))
    kept: NDArray[np.float64] = kernel[box] / kernel[box].sum()
    return kept


def half_support(kernel: NDArray[np.float64], outside: float = _OUTSIDE) -> tuple[int, ...]:
    """Pixels on either side of the middle, per axis, beyond which lies a share of the light."""
    halves = []
    for axis in range(kernel.ndim):
        profile = kernel.sum(axis=tuple(i for i in range(kernel.ndim) if i != axis))
        middle = len(profile) // 2
        inside = [profile[middle - h : middle + h + 1].sum() for h in range(middle + 1)]
        reached = [h for h, share in enumerate(inside) if share >= 1 - outside]
        halves.append(reached[0] if reached else middle)
    return tuple(halves)


def _steps(voxel: Voxel, wanted: Voxel, ndim: int, name: str) -> list[float]:
    """Edges of a voxel of the data in voxels of the PSF."""
    if voxel is None or wanted is None:
        return [1.0] * ndim
    steps = [w / v for v, w in zip(voxel, wanted, strict=True)][-ndim:]
    if min(steps) < 1 / 2 or max(steps) > 8:
        there, here = (" x ".join(f"{v:.4g}" for v in size) for size in (voxel, wanted))
        raise InputError(
            f"{name} has voxels of {there} um (z, y, x), the data of {here} um.",
            "give a PSF of about the same voxels, or correct them with -s task.psf_voxel_um.",
        )
    return [1.0 if abs(1 / s - 1) <= _SAME_VOXEL else s for s in steps]


def _centred(psf: NDArray[np.float64], steps: Sequence[float]) -> NDArray[np.float64]:
    """With its brightest point in the middle of odd sides, filled up with zeros."""
    for axis, step in enumerate(steps):
        if step > 1:  # light per voxel is an average over the larger voxels, not single samples
            psf = _averaged(psf, axis, step)
    centre = _brightest(psf)
    half = [
        math.ceil(max(c, n - 1 - c) / step)
        for c, n, step in zip(centre, psf.shape, steps, strict=True)
    ]
    moved: NDArray[np.float64] = affine_transform(
        psf,
        np.array(steps),
        offset=[c - h * step for c, h, step in zip(centre, half, steps, strict=True)],
        output_shape=tuple(2 * h + 1 for h in half),
    )
    return moved.clip(0)  # splines swing a little below zero


def _averaged(stack: NDArray[np.float64], axis: int, width: float) -> NDArray[np.float64]:
    # A Gaussian of the variance that a box of the larger voxel has beyond one of the smaller.
    smooth: NDArray[np.float64] = gaussian_filter1d(
        stack, math.sqrt((width**2 - 1) / 12), axis=axis, mode="constant"
    )
    return smooth


def _brightest(psf: NDArray[np.float64]) -> list[float]:
    """Position of the maximum of the smoothed PSF, to a fraction of a pixel."""
    smooth = smoothed(psf)
    peak = [int(p) for p in np.unravel_index(int(smooth.argmax()), psf.shape)]
    place = []
    for axis, p in enumerate(peak):
        line = smooth[tuple(slice(None) if i == axis else q for i, q in enumerate(peak))]
        place.append(p + _top(line[max(p - 1, 0) : p + 2]))
    return place


def _top(near: NDArray[np.float64]) -> float:
    """Top of the Gaussian through three pixels, relative to the middle one."""
    if len(near) < 3:
        return 0.0
    before, here, after = np.log(near)
    curvature = before - 2 * here + after
    return float((before - after) / (2 * curvature)) if curvature < 0 else 0.0
