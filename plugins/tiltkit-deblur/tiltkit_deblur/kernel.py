"""The point spread function that the options choose."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tiltkit.errors import UsageError
from tiltkit.io.sniff import find_reader
from tiltkit.problem import Note
from tiltkit_deblur.beads import bead_average
from tiltkit_deblur.models import (
    confocal,
    diffraction,
    gaussian,
    gaussian_widths,
    light_sheet,
    two_photon,
)
from tiltkit_deblur.psf import Voxel, cropped, kernel_of
from tiltkit_deblur.volume import full_scale

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tiltkit_deblur.options import DeblurOptions

__all__ = ["channels_of_psf", "find_kernel"]


def find_kernel(
    o: DeblurOptions, voxel: tuple[float, float, float] | None, shape: Sequence[int]
) -> tuple[NDArray[np.float64], tuple[Note, ...]]:
    """The kernel of a file, of beads, or of a model, and what was assumed about it.

    Args:
        o: Options of the task.
        voxel: Edges of a voxel of the data (z, y, x) in micrometres, where known.
        shape: Shape of the data (z, y, x).

    Raises:
        UsageError: No point spread function is named, or what a model needs is missing.
        InputError: Its file is not usable.
    """
    if o.psf is not None:
        stack, own, saturation = _read(o.psf, o.psf_channel)
        return _measured(stack, o, str(o.psf), own, voxel, saturation)
    if o.beads is not None:
        stack, own, saturation = _read(o.beads, o.psf_channel)
        bead, _ = bead_average(stack, o.bead_half, saturation, str(o.beads))
        return _measured(bead, o, str(o.beads), own, voxel, math.inf)
    if o.psf_model is None:
        raise UsageError(
            "No point spread function is named.",
            "give -s task.psf=FILE, -s task.beads=FILE, or -s task.psf_model=gaussian with"
            " -s task.na and -s task.wavelength_um.",
        )
    return _model(o, voxel, shape), ()


def channels_of_psf(o: DeblurOptions) -> int:
    """Number of channels of the file with the point spread function; 0 where there is none."""
    path = o.psf or o.beads
    if path is None:
        return 0
    with find_reader(path, gives="deblur.volume").open(path) as volume:
        return int(volume.shape[1])


def _measured(
    stack: NDArray[np.float32], o: DeblurOptions, name: str, own: Voxel, voxel: Voxel,
    saturation: float,
) -> tuple[NDArray[np.float64], tuple[Note, ...]]:  # fmt: skip
    """The kernel of a measured PSF; a note where its voxel is not known."""
    kernel, notes = kernel_of(
        stack,
        name,
        voxel=o.psf_voxel_um or own,
        wanted=voxel,
        centre=o.psf_centre,
        saturation=saturation,
    )
    text = "The PSF has no voxel size: that of the data is assumed; else give psf_voxel_um."
    known = o.psf_voxel_um or own or not voxel
    return kernel, notes if known else (*notes, Note("psf_voxel_assumed", text, assumed=True))


def _model(
    o: DeblurOptions, voxel: tuple[float, float, float] | None, shape: Sequence[int]
) -> NDArray[np.float64]:
    """The kernel of a model of the microscope.

    Raises:
        UsageError: A property of the microscope or of the data is missing.
    """
    if voxel is None:
        raise UsageError(
            "The file does not contain its voxel size, which a model of the PSF needs.",
            "give -s task.voxel_um=Z,Y,X.",
        )
    flat = shape[0] == 1 or o.dimensions == 2
    size = (1, *shape[1:]) if flat else tuple(shape)
    if o.psf_model == "gaussian" and o.fwhm_um is not None:
        return cropped(gaussian((0.0, *o.fwhm_um[1:]) if flat else o.fwhm_um, voxel))
    lens = partial(_lens, o, voxel=voxel, shape=size, flat=flat)
    if o.microscope == "two-photon":
        return cropped(two_photon(lens(_given(o, "excitation_um"))))
    wavelength_um = _given(o, "wavelength_um")
    emission = lens(wavelength_um)
    if o.microscope == "confocal":
        pinhole_um = o.pinhole_au * 1.22 * wavelength_um / _given(o, "na")
        return cropped(confocal(lens(_given(o, "excitation_um")), emission, pinhole_um, voxel[1:]))
    if o.microscope == "light-sheet":
        return cropped(light_sheet(emission, _given(o, "sheet_um"), voxel[0]))
    return cropped(emission)


_NEEDED = {
    "na": ("numerical aperture", "1.4"),
    "wavelength_um": ("wavelength", "0.52"),
    "excitation_um": ("wavelength of the laser", "0.488"),
    "sheet_um": ("thickness of the sheet", "2"),
}


def _given(o: DeblurOptions, name: str) -> float:
    """A property of the microscope.

    Raises:
        UsageError: It is not given.
    """
    value: float | None = getattr(o, name)
    if value is None:
        meaning, example = _NEEDED[name]
        raise UsageError(
            f"The PSF model {o.psf_model} of a {o.microscope} microscope needs the {meaning}.",
            f"give -s task.{name}={example}.",
        )
    return value


def _lens(
    o: DeblurOptions,
    wavelength_um: float,
    *,
    voxel: tuple[float, float, float],
    shape: Sequence[int],
    flat: bool,
) -> NDArray[np.float32]:
    """PSF (z, y, x) of one lens at a wavelength."""
    na = _given(o, "na")
    if na >= o.immersion_index:
        raise UsageError(
            f"The numerical aperture is {na:g}, but must be less than the refractive index of"
            f" the immersion, {o.immersion_index:g}.",
            "correct -s task.na or -s task.immersion_index.",
        )
    if o.psf_model == "gaussian":
        widths = gaussian_widths(na, wavelength_um, o.immersion_index)
        return gaussian((0.0, *widths[1:]) if flat else widths, voxel)
    assert o.psf_model is not None  # noqa: S101  (the caller's check)
    return diffraction(
        o.psf_model,
        na=na,
        wavelength_um=wavelength_um,
        immersion_index=o.immersion_index,
        sample_index=o.sample_index,
        depth_um=o.depth_um,
        voxel_um=voxel,
        shape=shape,
    )


def _read(
    path: Path, channel: int
) -> tuple[NDArray[np.float32], tuple[float, float, float] | None, float]:
    """A stack (z, y, x), its voxel, and the reading at which it is saturated."""
    with find_reader(path, gives="deblur.volume").open(path) as volume:
        if channel >= volume.shape[1]:
            raise UsageError(
                f"{path} has no channel {channel}; it has {volume.shape[1]}.",
                "count channels from 0: -s task.psf_channel=NUMBER.",
            )
        stack = volume.read(0, channel)
        return stack, volume.voxel_um, min(volume.saturation, full_scale(stack))
