"""The spot in a measured point spread function, without background, noise and neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter, label

from tiltkit.errors import InputError
from tiltkit_deblur.noise import spread

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["smoothed", "spot_of"]

# Pixels that a PSF is smoothed by to find its spot; what that leaves of white noise, per axis.
_SMOOTH, _LEFT = 1.0, 0.53
# Standard deviations of noise by which a spot, smoothed, stands out: its peak, and its border.
_PEAK, _BORDER = 6.0, 3.0
# At the edges of the file a PSF has less than this share of its peak.
_CUT_OFF = 0.02


def spot_of(stack: NDArray[np.float32], name: str) -> NDArray[np.float64]:
    """The light of the brightest spot, zero around it.

    The median of the outermost pixels is background, their spread is noise. Noise has to be cut
    off before what is negative becomes zero: far from the spot its positive half, little in every
    pixel but in many, would make the PSF wide.

    Args:
        stack: (z, y, x); one plane for a 2-D PSF.
        name: For messages.

    Returns:
        (z, y, x), or (y, x) where there is one plane.

    Raises:
        InputError: Values that are not finite, no bright spot, or one that the file cuts off.
    """
    psf = np.asarray(stack, np.float64)
    psf = psf[0] if psf.shape[0] == 1 else psf
    if not np.isfinite(psf).all():
        raise InputError(f"{name} holds NaN or infinite values.", "repair it, or measure it again.")
    rim = _rim(psf)
    background = float(np.median(rim))
    light = psf - background
    smooth = smoothed(light)
    noise = _LEFT**psf.ndim * spread(rim)
    if psf.max() <= 0 or not smooth.max() > max(_PEAK * noise, -smooth.min()):
        raise InputError(
            f"{name} holds no light: its values are {psf.min():g} to {psf.max():g}, those at its"
            f" edges {background:g}, and no bright spot stands out.",
            "check that it is a point spread function, bright on dark, and its channel.",
        )
    _check_edges(light, name)
    bright, _ = label(smooth > _BORDER * noise)
    spot = bright == bright.flat[smooth.argmax()]
    return np.where(spot, light.clip(0), 0)


def smoothed(psf: NDArray[np.float64]) -> NDArray[np.float64]:
    """A PSF in which single pixels do not stand out."""
    smooth: NDArray[np.float64] = gaussian_filter(psf, _SMOOTH, mode="constant")
    return smooth


def _rim(psf: NDArray[np.float64]) -> NDArray[np.float64]:
    """The outermost pixels of all planes, along y and x where there are more than two."""
    rim = np.ones(psf.shape[-2:], bool)
    rim[tuple(slice(1, -1) if n > 2 else slice(None) for n in psf.shape[-2:])] = False
    return psf[..., rim] if rim.any() else psf.ravel()


def _check_edges(light: NDArray[np.float64], name: str) -> None:
    """Refuse a PSF that is cut off, whose light would be taken for background.

    Background is as bright in the corners as between them, light is not.

    Raises:
        InputError: In the brightest plane the middles of the edges are too bright.
    """
    plane = light.reshape(-1, *light.shape[-2:])
    plane = plane[int(plane.max(axis=(1, 2)).argmax())]
    (ny, nx), peak = plane.shape, float(plane.max())
    edges = np.concatenate([
        plane[[0, -1], nx // 3 : nx - nx // 3].ravel() if ny > 2 else [],
        plane[ny // 3 : ny - ny // 3, [0, -1]].ravel() if nx > 2 else [],
    ])  # fmt: skip
    share = float(edges.sum()) / max(len(edges), 1) / peak
    if share > _CUT_OFF:
        raise InputError(
            f"{name} is cut off: the middles of its edges are brighter than the rest of them by"
            f" {share:.0%} of its peak, and may be by {_CUT_OFF:.0%}.",
            "give one with more pixels around the spot; of beads, a larger -s task.bead_half.",
        )
