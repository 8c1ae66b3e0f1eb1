"""Point spread functions as kernels: centred, on the voxels of the data, cropped, normalised."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.ndimage import affine_transform, center_of_mass, gaussian_filter1d

from tiltkit.errors import InputError
from tiltkit_deblur.measured_psf import isolate_spot, smoothed
from tiltkit_deblur.psf_faults import (
    notes_on_centre,
    notes_on_depth,
    notes_on_saturation,
    notes_on_spots,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tiltkit.problem import Note

__all__ = ["Centre", "crop_depth", "cropped", "half_support", "kernel_of"]

Voxel = Sequence[float] | None
Centre = Literal["array", "mass", "peak"]

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
    centre: Centre = "array",
    saturation: float = math.inf,
) -> tuple[NDArray[np.float64], tuple[Note, ...]]:
    """The kernel of a measured point spread function, and notes on its faults and its centre.

    Args:
        stack: (z, y, x); one plane for a 2-D PSF.
        name: For messages.
        voxel: Edges of a voxel of the PSF (z, y, x), where known.
        wanted: Edges of a voxel of the data, where known.
        centre: Position of the point: the middle of the array, the centre of mass of the
            light, or the brightest point of the smoothed PSF, to a fraction of a pixel.
        saturation: Reading from which on a pixel is saturated.

    Returns:
        The kernel has odd sides and the sum 1; (z, y, x), or (y, x) where there is one plane.

    Raises:
        InputError: Values that are not finite, no light, no whole spot, or voxels that are larger
            than twice those of the data: detail is not there.
    """
    spot = isolate_spot(stack, name)
    notes = [*notes_on_saturation(stack, spot, saturation), *notes_on_spots(spot)]
    notes += notes_on_depth(spot.light, name)
    steps = _steps(voxel, wanted, spot.light.ndim, name)
    light = spot.light
    for axis, step in enumerate(steps):
        if step > 1:  # light per voxel is an average over the larger voxels, not single samples
            light = _averaged(light, axis, step)
    places = _places(light)
    offsets = {name: _offset(at, places[centre], steps) for name, at in places.items()}
    notes += notes_on_centre(centre, offsets)
    return cropped(_placed(light, places[centre], steps)), tuple(notes)


def _places(light: NDArray[np.float64]) -> dict[str, list[float]]:
    """The centre of a PSF by each definition, in pixels of its array."""
    mass = [float(m) for m in center_of_mass(light)]
    middle = [_middle(n, m) for n, m in zip(light.shape, mass, strict=True)]
    return {"array": middle, "mass": mass, "peak": _brightest(light)}


def _middle(n: int, mass: float) -> float:
    """Middle of an axis.

    That of an even number of pixels is between two pixels, or the second of these, as in Fourier
    transforms: the one nearer to the centre of mass.
    """
    between = (n - 1) / 2
    return n // 2 if abs(n // 2 - mass) < abs(between - mass) else between


def _offset(
    place: Sequence[float], centre: Sequence[float], steps: Sequence[float]
) -> tuple[float, ...]:
    """Distance from the centre in pixels of the data."""
    return tuple((p - c) / step for p, c, step in zip(place, centre, steps, strict=True))


def crop_depth(kernel: NDArray[np.float64], planes: int) -> tuple[NDArray[np.float64], float]:
    """A kernel (z, y, x) without planes that lie farther apart than any two planes of the data.

    Returns:
        The kernel, sum 1, and the share of its light that was left out.
    """
    middle, half = len(kernel) // 2, min(len(kernel) // 2, planes - 1)
    kept = kernel[middle - half : middle + half + 1]
    share = float(kept.sum() / kernel.sum())
    return kept / kept.sum(), 1 - share


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


def _placed(
    psf: NDArray[np.float64], centre: Sequence[float], steps: Sequence[float]
) -> NDArray[np.float64]:
    """With its centre in the middle of odd sides, filled up with zeros."""
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
