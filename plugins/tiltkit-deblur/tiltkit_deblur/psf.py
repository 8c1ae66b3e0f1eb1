"""Point spread functions as kernels: checked, freed of background, centred, cropped, normalised."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import zoom

from tiltkit.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["half_support", "kernel_of", "resampled"]

# Share of the light that may be left out: when a kernel is cropped, and beyond its half support.
_CROPPED, _OUTSIDE = 1e-4, 1e-2
# Voxel edges that differ by less are the same.
_SAME_VOXEL = 0.02


def kernel_of(stack: NDArray[np.float32], name: str = "The PSF") -> NDArray[np.float64]:
    """A kernel made of a measured or computed point spread function.

    The median of its outermost pixels is taken for background, what is negative then is noise
    around zero and set to zero. The brightest spot of the smoothed PSF goes to the middle, and
    what holds next to no light is cut off, alike on both sides.

    Args:
        stack: (z, y, x); one plane for a 2-D PSF.
        name: For messages.

    Returns:
        Odd sides, sum 1; (z, y, x), or (y, x) where there is one plane.

    Raises:
        InputError: Values that are not finite, no light, or no spot.
    """
    psf = np.asarray(stack, np.float64)
    psf = psf[0] if psf.shape[0] == 1 else psf
    if not np.isfinite(psf).all():
        raise InputError(f"{name} holds NaN or infinite values.", "repair it, or measure it again.")
    psf = np.maximum(psf - _background(psf), 0)
    total = float(psf.sum())
    if not total > 0:
        raise InputError(
            f"{name} holds no light: nothing in it is brighter than its edges.",
            "check that it is a point spread function, and its channel.",
        )
    return _cropped(_centred(psf / total))


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


def resampled(
    stack: NDArray[np.float32],
    voxel: Sequence[float] | None,
    wanted: Sequence[float] | None,
    name: str = "The PSF",
) -> NDArray[np.float32]:
    """A PSF (z, y, x) on the voxels of the data.

    Raises:
        InputError: Its voxels are larger than twice those of the data: detail is not there.
    """
    if voxel is None or wanted is None:
        return stack
    factors = [v / w if n > 1 else 1.0 for v, w, n in zip(voxel, wanted, stack.shape, strict=True)]
    if all(abs(f - 1) <= _SAME_VOXEL for f in factors):
        return stack
    if max(factors) > 2 or min(factors) < 1 / 8:
        there, here = (" x ".join(f"{v:.4g}" for v in size) for size in (voxel, wanted))
        raise InputError(
            f"{name} has voxels of {there} um (z, y, x), the data of {here} um.",
            "give a PSF of about the same voxels, or correct them with -s task.psf_voxel_um.",
        )
    # Pixel values are light per voxel: averages over the larger voxels, not single samples.
    smooth = np.asarray(stack, np.float64)
    for axis, factor in enumerate(factors):
        if factor < 1 - _SAME_VOXEL:
            smooth = _averaged(smooth, axis, 1 / factor)
    finer: NDArray[np.float32] = zoom(
        smooth, factors, order=1, grid_mode=True, mode="grid-constant"
    )
    return finer.astype(np.float32)


def _averaged(stack: NDArray[np.float64], axis: int, width: float) -> NDArray[np.float64]:
    from scipy.ndimage import gaussian_filter1d

    # A Gaussian of the variance that a box of the larger voxel has beyond one of the smaller.
    smooth: NDArray[np.float64] = gaussian_filter1d(
        stack, math.sqrt((width**2 - 1) / 12), axis=axis, mode="constant"
    )
    return smooth


def _background(psf: NDArray[np.float64]) -> float:
    """Median of the outermost pixels; that of all planes' edges for a stack."""
    rim = np.ones(psf.shape[-2:], bool)
    if min(rim.shape) > 2:
        rim[1:-1, 1:-1] = False
    return float(np.median(psf[..., rim]))


def _centred(psf: NDArray[np.float64]) -> NDArray[np.float64]:
    """With the brightest spot in the middle of odd sides, filled up with zeros."""
    from scipy.ndimage import gaussian_filter

    peak = np.unravel_index(int(gaussian_filter(psf, 1.0, mode="constant").argmax()), psf.shape)
    half = [max(p, n - 1 - p) for p, n in zip(peak, psf.shape, strict=True)]
    pad = [(h - p, h - (n - 1 - p)) for h, p, n in zip(half, peak, psf.shape, strict=True)]
    return np.pad(psf, [(int(a), int(b)) for a, b in pad])


def _cropped(kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    halves = half_support(kernel, _CROPPED)
    middle = [n // 2 for n in kernel.shape]
    box = tuple(slice(m - h, m + h + 1) for m, h in zip(middle, halves, strict=True))
    kept: NDArray[np.float64] = kernel[box] / kernel[box].sum()
    return kept
