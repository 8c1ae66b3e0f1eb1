"""Point spread functions from theory: a Gaussian, or scalar diffraction through psfmodels.

Both are those of one lens, as in a widefield microscope. Other microscopes have products of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.signal import fftconvolve
from scipy.special import erf

from tiltkit.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["confocal", "diffraction", "gaussian", "gaussian_widths", "light_sheet", "two_photon"]

_FWHM = 2 * math.sqrt(2 * math.log(2))
# Half sides of kernels: standard deviations of a Gaussian, and units of resolution in diffraction.
_REACH, _RINGS, _DEPTHS = 4.0, 6.0, 3.0
# Search for the best focus: steps per depth of field, and most steps in all.
_FINE, _MOST = 8, 1000
# Points per pixel and axis with which the edge of a pinhole is drawn.
_POINTS = 9


def gaussian(fwhm_um: Sequence[float], voxel_um: Sequence[float]) -> NDArray[np.float32]:
    """A Gaussian (z, y, x), integrated over voxels.

    Args:
        fwhm_um: Full widths at half maximum along z, y, x; 0 for a single plane.
        voxel_um: Edges of a voxel.
    """
    profiles = []
    for width, voxel in zip(fwhm_um, voxel_um, strict=True):
        sigma = width / _FWHM / voxel
        half = math.ceil(_REACH * sigma)
        edges = np.arange(-half, half + 2) - 0.5
        cumulative = erf(edges / (math.sqrt(2) * sigma)) if sigma > 0 else np.array([-1.0, 1.0])
        profiles.append(np.diff(cumulative))
    z, y, x = profiles
    kernel: NDArray[np.float64] = z[:, None, None] * y[:, None] * x
    return kernel.astype(np.float32)


def gaussian_widths(na: float, wavelength_um: float, index: float) -> tuple[float, float, float]:
    """FWHM (z, y, x) of the Gaussian nearest to a widefield PSF (Zhang et al., Appl. Opt. 2007)."""
    lateral = _FWHM * 0.225 * wavelength_um / na
    return _FWHM * 0.78 * index * wavelength_um / na**2, lateral, lateral


def diffraction(
    model: Literal["born-wolf", "gibson-lanni"],
    *,
    na: float,
    wavelength_um: float,
    immersion_index: float,
    sample_index: float,
    depth_um: float,
    voxel_um: Sequence[float],
    shape: Sequence[int],
) -> NDArray[np.float32]:
    """Scalar diffraction of a widefield microscope, (z, y, x), by psfmodels.

    Born and Wolf's is Gibson and Lanni's (J. Opt. Soc. Am. A 9, 1992) where sample and immersion
    have one refractive index. The middle plane is the best focus: with indices that differ a point
    is not sharp where it lies.

    Args:
        model: Name of the model.
        na: Numerical aperture.
        wavelength_um: Wavelength of the emission, in vacuum.
        immersion_index: Refractive index of the immersion.
        sample_index: Refractive index of the sample.
        depth_um: Depth of the point below the cover glass.
        voxel_um: Edges of a voxel (z, y, x), y and x alike.
        shape: Shape of the data (z, y, x), which bounds the kernel.

    Raises:
        UsageError: psfmodels is not installed, or pixels are not square.
    """
    try:
        import psfmodels
    except ImportError as error:
        raise UsageError(
            f"The PSF model {model} needs the package psfmodels, which is not installed.",
            "pip install 'tiltkit-deblur[models]', or use -s task.psf_model=gaussian.",
        ) from error
    dz, dy, dx = voxel_um
    if abs(dy / dx - 1) > 0.02:
        raise UsageError(
            f"Pixels of {dy:g} x {dx:g} um are not square.", "use -s task.psf_model=gaussian."
        )
    depth_of_field = immersion_index * wavelength_um / na**2
    rings = math.ceil(_RINGS * 0.61 * wavelength_um / na / dx)
    planes = math.ceil(_DEPTHS * 2 * depth_of_field / dz)
    half = min(rings, (min(shape[1:]) - 1) // 2)
    deep = min(planes, (shape[0] - 1) // 2)
    same = model == "born-wolf"
    at = partial(
        psfmodels.make_psf,
        dxy=dx,
        NA=na,
        wvl=wavelength_um,
        ni=immersion_index, ni0=immersion_index,
        ns=immersion_index if same else sample_index,
        ng=immersion_index if same else 1.515, ng0=immersion_index if same else 1.515,
        pz=0.0 if same else depth_um,
        model="scalar",
    )  # fmt: skip
    focus = 0.0 if same else _focus(at, depth_um, immersion_index / sample_index, depth_of_field)
    stack = at([focus + i * dz for i in range(-deep, deep + 1)], nx=2 * half + 1)
    return np.asarray(stack, np.float32).reshape(2 * deep + 1, 2 * half + 1, 2 * half + 1)


def confocal(
    excitation: NDArray[np.float32],
    emission: NDArray[np.float32],
    pinhole_um: float,
    pixel_um: Sequence[float],
) -> NDArray[np.float32]:
    """Image of a point in a confocal microscope: excitation times detection through the pinhole.

    The emission PSF is convolved with the pinhole (Wilson and Sheppard, Theory and Practice of
    Scanning Optical Microscopy, 1984). A Gaussian emission PSF is darker out of focus than a real
    one, so that an open pinhole still narrows the image along z.

    Args:
        excitation: PSF of the focused laser (z, y, x), its focus in the middle.
        emission: Widefield PSF at the emission wavelength, likewise.
        pinhole_um: Diameter of the pinhole in the sample.
        pixel_um: Edges of a pixel (y, x).
    """
    y, x = (_fine(pinhole_um / 2, edge) for edge in pixel_um)
    disc = np.hypot(y[:, None], x) <= pinhole_um / 2
    pinhole = disc.reshape(len(y) // _POINTS, _POINTS, -1, _POINTS).mean((1, 3))
    detected = fftconvolve(emission, pinhole[None], mode="same", axes=(1, 2)).clip(0)
    first, second = _common(excitation, detected.astype(np.float32))
    product: NDArray[np.float32] = first * second
    return product


def _fine(radius: float, edge: float) -> NDArray[np.float64]:
    """Points, `_POINTS` per pixel, of the pixels that a disc around a pixel's centre touches."""
    side = 2 * math.ceil(radius / edge) + 1
    points: NDArray[np.float64] = (np.arange(side * _POINTS) + 0.5) / _POINTS - side / 2
    points *= edge
    return points


def two_photon(excitation: NDArray[np.float32]) -> NDArray[np.float32]:
    """Image of a point with two-photon excitation: the square of the focused laser's intensity.

    All emitted light counts, wherever it is detected (Denk, Strickler and Webb, Science 248, 1990).
    """
    squared: NDArray[np.float32] = excitation**2
    return squared


def light_sheet(
    emission: NDArray[np.float32], thickness_um: float, plane_um: float
) -> NDArray[np.float32]:
    """Image of a point that a sheet of Gaussian profile along z excites (Huisken et al., 2004).

    Args:
        emission: Widefield PSF at the emission wavelength (z, y, x), its focus in the middle.
        thickness_um: Full width at half maximum of the sheet.
        plane_um: Distance of planes.
    """
    z = (np.arange(len(emission)) - len(emission) // 2) * plane_um
    sheet = np.exp(-4 * math.log(2) * (z / thickness_um) ** 2)
    lit: NDArray[np.float32] = emission * sheet[:, None, None].astype(np.float32)
    return lit


def _common(*stacks: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """The middle parts of stacks with odd sides, of one shape."""
    size = [min(sides) for sides in zip(*(stack.shape for stack in stacks), strict=True)]
    first = [[(n - m) // 2 for n, m in zip(s.shape, size, strict=True)] for s in stacks]
    boxes = [tuple(slice(f, f + m) for f, m in zip(at, size, strict=True)) for at in first]
    return [stack[box] for stack, box in zip(stacks, boxes, strict=True)]


def _focus(
    at: Callable[..., NDArray[np.float64]], depth: float, ratio: float, depth_of_field: float
) -> float:
    """Plane in which a point at a depth is brightest: near it, or near the paraxial focus."""
    last = 2 * depth * max(ratio, 1.0)
    steps = min(math.ceil(_FINE * last / depth_of_field), _MOST)
    z = np.linspace(0.0, last, steps + 1)
    return float(z[np.asarray(at(z, nx=1)).ravel().argmax()])
