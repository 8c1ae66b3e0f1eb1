"""The spot in a measured point spread function, without background, noise and neighbours."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d, label, maximum_filter, median_filter

from tiltkit.errors import InputError
from tiltkit_deblur.noise import spread

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Spot", "isolate_spot", "smoothed"]

# Pixels that a PSF is smoothed by to find its spot, and the faint light around it that is out of
# focus; what that leaves of white noise, per axis.
_SMOOTH, _LEFT = 1.0, 0.53
_WIDE, _WIDE_LEFT = 4.0, 0.27
# Significance of a smoothed spot, in standard deviations of the noise: its peak, and its border.
_PEAK, _BORDER = 6.0, 3.0
# A pixel so many times as bright as any next to it is hot: in a spot with a standard deviation of
# 0.7 pixels the peak is 2.8 times as bright, in one of half a pixel, averaged over pixels, 4.4.
_HOT = 5.0
# At the edges of the file a PSF has less than this share of its peak.
_CUT_OFF = 0.02
# The outermost pixels of a computed PSF are symmetric or smooth: the noise in them is less than
# this share of their spread. They are light, not background, where they have less than this share
# of the peak.
_SMOOTH_RIM, _FAINT_RIM = 0.1, 0.01


@dataclass(frozen=True, slots=True)
class Spot:
    """The spot of a point spread function.

    Attributes:
        light: (z, y, x), or (y, x) where there is one plane; zero around the spot.
        apart: Light of other spots in the file, over that of this one.
        computed: True where the PSF has no noise.
    """

    light: NDArray[np.float64]
    apart: float = 0.0
    computed: bool = False


def isolate_spot(stack: NDArray[np.float32], name: str) -> Spot:
    """The light of the brightest spot, zero around it.

    A computed PSF is taken as it is. Otherwise
    the median of the outermost pixels is background, their spread is noise. Noise is cut
    off before negative values become zero: otherwise the positive half of the noise far from the
    spot, small in each of many pixels, would widen the PSF. Each plane out of focus has as much
    light as the one in focus, but it may be below the noise of every pixel: in a stack it is
    searched with more smoothing, once the spot is removed, and kept smoothed.

    Args:
        stack: (z, y, x); one plane for a 2-D PSF.
        name: For messages.

    Raises:
        InputError: Values that are not finite, no bright spot, or one that the file cuts off.
    """
    psf = np.asarray(stack, np.float64)
    psf = psf[0] if psf.shape[0] == 1 else psf
    if not np.isfinite(psf).all():
        raise InputError(f"{name} holds NaN or infinite values.", "repair it, or measure it again.")
    if _is_computed(psf):
        _check_edges(psf, np.unravel_index(psf.argmax(), psf.shape), name)
        return Spot(psf, computed=True)
    rim = _rim(psf)
    background = float(np.median(rim))
    grain = spread(rim)
    light = _without_hot(psf - background, grain)
    smooth = smoothed(light)
    noise = _LEFT**psf.ndim * grain
    if psf.max() <= 0 or not smooth.max() > max(_PEAK * noise, -smooth.min()):
        raise InputError(
            f"{name} holds no light: its values are {psf.min():g} to {psf.max():g}, those at its"
            f" edges {background:g}, and no bright spot stands out; single pixels do not count.",
            "check that it is a point spread function, bright on dark, and its channel.",
        )
    bright = smooth > _BORDER * noise
    # Median-filtered: a few bright pixels next to each other are no spot.
    peak = np.where(bright, smoothed(median_filter(light, 3)), -np.inf).argmax()
    _check_edges(light, np.unravel_index(peak, light.shape), name)
    faint = _faint(light, bright, grain) if light.ndim == 3 else np.zeros_like(light)
    parts, _ = label(bright | (faint > 0))
    found = np.where(bright, light.clip(0), faint)
    kept = np.where(parts == parts.flat[peak], found, 0)
    return Spot(kept, float(found.sum() / kept.sum()) - 1)


def _is_computed(psf: NDArray[np.float64]) -> bool:
    """True for a PSF without noise and without a pedestal, whose outermost pixels are faint light.

    Mirrored pixels, or neighbours along an edge, are then alike, but the pixels are not all equal.
    """
    if min(psf.shape[-2:]) < 5 or psf.min() < 0 or psf.max() <= 0:
        return False
    edges = [psf[..., 0, :], psf[..., -1, :], psf[..., :, 0], psf[..., :, -1]]
    rim = np.concatenate([edge.ravel() for edge in edges])
    differences = [
        np.concatenate([(edge - edge[..., ::-1]).ravel() for edge in edges]) / math.sqrt(2),
        np.concatenate([np.diff(edge, 2, axis=-1).ravel() for edge in edges]) / math.sqrt(6),
    ]
    grain = min(float(np.std(values)) for values in differences)
    return grain < _SMOOTH_RIM * float(np.std(rim)) and rim.min() < _FAINT_RIM * psf.max()


def smoothed(psf: NDArray[np.float64]) -> NDArray[np.float64]:
    """A PSF smoothed against noise of single pixels."""
    smooth: NDArray[np.float64] = gaussian_filter(psf, _SMOOTH, mode="constant")
    return smooth


def _without_hot(light: NDArray[np.float64], grain: float) -> NDArray[np.float64]:
    """Light with isolated bright pixels replaced by the median around them."""
    around = np.ones((3,) * light.ndim, bool)
    around[(1,) * light.ndim] = False
    beside = maximum_filter(light, footprint=around, mode="constant", cval=-np.inf).clip(0)
    return np.where(light > _HOT * beside + _PEAK * grain, median_filter(light, 3), light)


def _faint(
    light: NDArray[np.float64], bright: NDArray[np.bool_], grain: float
) -> NDArray[np.float64]:
    """Light around what is bright, smoothed; zero where it is less than noise."""
    rest = gaussian_filter(np.where(bright, 0, light), _WIDE, mode="constant")
    share = gaussian_filter((~bright).astype(float), _WIDE, mode="constant")
    noise = _WIDE_LEFT**light.ndim * grain
    parts, _ = label(rest > _BORDER * noise)
    significant = np.isin(parts, parts[rest > _PEAK * noise])
    return np.where(significant, rest / share.clip(0.1), 0)


def _rim(psf: NDArray[np.float64]) -> NDArray[np.float64]:
    """The outermost pixels along y and x where there are more than two.

    Of all planes, or of the quarter with the darkest ones where those are darker by more than
    noise: planes out of focus may be lit to their edges.
    """
    rim = np.ones(psf.shape[-2:], bool)
    rim[tuple(slice(1, -1) if n > 2 else slice(None) for n in psf.shape[-2:])] = False
    values = psf[..., rim] if rim.any() else psf.reshape(*psf.shape[:-2], -1)
    if psf.ndim == 3:
        # Neighbouring planes have nearly the same image but independent noise.
        planes = gaussian_filter1d(np.median(values, axis=1), len(psf) / 8)
        dark = values[planes <= np.quantile(planes, 0.25)]
        noise = spread(dark) / math.sqrt(dark.size)
        if 0 < _PEAK * noise < np.median(values) - np.median(dark):
            values = dark
    return values.ravel()


def _check_edges(light: NDArray[np.float64], peak: tuple[np.intp, ...], name: str) -> None:
    """Refuse a PSF that is cut off, whose light would be taken for background.

    Background is as bright in the corners as between them, light is not. What is darker between
    the peak and an edge than at the edge is a neighbour, not the spot.

    Raises:
        InputError: In the plane of the peak the middles of the edges are too bright.
    """
    plane = light[peak[0]] if light.ndim == 3 else light
    edges = []
    for across, at in ((plane, peak[-2]), (plane.T, peak[-1])):
        n = across.shape[1]
        profile = across[:, n // 3 : n - n // 3].mean(axis=1)
        if len(profile) > 2:
            edges += [profile[: at + 1].min(), profile[at:].min()]
    share = float(np.mean(edges)) / float(plane.max()) if edges else 0.0
    if share > _CUT_OFF:
        raise InputError(
            f"{name} is cut off: the middles of its edges are brighter than the rest of them by"
            f" {share:.0%} of its peak, and may be by {_CUT_OFF:.0%}.",
            "give one with more pixels around the spot; of beads, a larger -s task.bead_half.",
        )
