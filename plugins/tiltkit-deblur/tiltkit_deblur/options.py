"""Settings of the task `deblur`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

__all__ = ["DeblurOptions"]


# Longest wavelength of light that microscopes use, in the infrared.
_LONGEST_UM = 15.0


def _three(value: object) -> object:
    """Three numbers as the command line has them: ``0.3,0.1,0.1``, also in brackets."""
    parts = value.strip("[] ").split(",") if isinstance(value, str) else value
    if isinstance(parts, list | tuple) and len(parts) != 3:
        raise ValueError("be three numbers, such as 0.3,0.1,0.1")
    return parts


def _listed(value: object) -> object:
    """Numbers as the command line has them, separated by commas."""
    return value.strip("[] ").split(",") if isinstance(value, str) else value


def _in_micrometres(value: float) -> float:
    """A wavelength; visible light has 0.4 to 0.7 um, and 400 to 700 nm."""
    if value > _LONGEST_UM:
        raise ValueError("be in um, not in nm: 0.52 for 520 nm")
    return value


Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Triple = Annotated[tuple[Positive, Positive, Positive], BeforeValidator(_three)]


Waves = tuple[Annotated[Positive, AfterValidator(_in_micrometres)], ...]


class DeblurOptions(BaseModel):
    """None is estimated from the data, or read from the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    psf: Path | None = Field(None, description="file with the point spread function")
    psf_channel: int = Field(0, ge=0, description="channel of the PSF file")
    psf_voxel_um: Triple | None = Field(None, description="voxel of the PSF file (z, y, x)")
    psf_centre: Literal["array", "mass", "peak"] = Field(
        "array", description="position of the point in a measured PSF: the middle of its array, its"
        " centre of mass, or its brightest point"
    )  # fmt: skip
    beads: Path | None = Field(None, description="file with an image of beads, to average")
    bead_half: Annotated[tuple[int, int, int], BeforeValidator(_three)] = Field(
        (12, 12, 12), description="pixels (z, y, x) on either side that belong to a bead"
    )
    psf_model: Literal["gaussian", "born-wolf", "gibson-lanni"] | None = Field(
        None, description="model of the PSF"
    )
    fwhm_um: Triple | None = Field(
        None, description="full width at half maximum (z, y, x) of a Gaussian PSF"
    )
    microscope: Literal["widefield", "confocal", "two-photon", "light-sheet"] = Field(
        "widefield", description="kind of microscope that the model of the PSF is for"
    )
    excitation_um: Positive | None = Field(
        None, description="wavelength of the laser of a confocal or two-photon microscope"
    )
    pinhole_au: Positive = Field(
        1.0, description="diameter of a confocal pinhole in Airy units of the emission"
    )
    sheet_um: Positive | None = Field(
        None, description="thickness (full width at half maximum) of a light sheet"
    )
    na: Positive | None = Field(None, description="numerical aperture")
    wavelength_um: Annotated[Positive, AfterValidator(_in_micrometres)] | None = Field(
        None, description="emission wavelength in vacuum, such as 0.52"
    )
    immersion_index: float = Field(
        1.515, ge=1, le=2.5, description="refractive index of the immersion"
    )
    sample_index: float = Field(1.33, ge=1, le=2.5, description="refractive index of the sample")
    depth_um: float = Field(0.0, ge=0, description="depth of the object below the cover glass")

    channel: Annotated[int, Field(ge=0)] | Literal["all"] | None = Field(
        None, description="channel to deblur, or all: each with its own PSF and noise"
    )
    wavelengths_um: Annotated[Waves | None, BeforeValidator(_listed)] = Field(
        None, description="emission wavelength of every channel, with channel=all, such as"
        " 0.46,0.52"
    )  # fmt: skip
    time: int | None = Field(None, ge=0, description="time to deblur; all of them when unset")
    dataset: str | None = Field(None, description="array of an HDF5 file that holds several")
    series: int | None = Field(
        None, ge=0, description="position, scene or image of a file that holds several"
    )
    axes: str | None = Field(None, description="axes of the array, such as tzyx")
    voxel_um: Triple | None = Field(
        None, description="voxel of the data (z, y, x), such as 0.3,0.1,0.1"
    )
    dimensions: Literal[2, 3] | None = Field(
        None, description="2: every plane by itself; 3: volumes; those of the PSF when unset"
    )

    gain: Positive | None = Field(None, description="readings per electron")
    offset: float | None = Field(None, allow_inf_nan=False, description="reading in the dark")
    read_noise: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="standard deviation of the readout, in readings",
    )
    dark: Path | None = Field(
        None, description="file with dark frames of the camera: offset, read noise and hot pixels"
    )
    gain_map: Path | None = Field(None, description="file with the gain of every pixel")
    offset_map: Path | None = Field(
        None, description="file with the reading in the dark of every pixel"
    )
    variance_map: Path | None = Field(
        None, description="file with the variance of the read noise of every pixel, in readings^2"
    )
    background: float = Field(
        0.0,
        ge=0,
        allow_inf_nan=False,
        description="light that is no part of the image, in readings",
    )
    saturation: Positive | None = Field(
        None, description="reading from which on pixels are saturated and left out; the largest"
        " that the file's type can hold, or a camera of 10, 12 or 14 bits give, when unset"
    )  # fmt: skip
    nonnegative: bool = Field(True, description="whether images are zero or more")
    solver: Literal["iterative", "spectral"] = Field(
        "iterative", description="iterative: every pixel has a noise variance of its own; spectral:"
        " one for all pixels, that of bright ones, which is faster and trusts dark ones too little"
    )  # fmt: skip
    boundary: Literal["free", "circular"] = Field(
        "free",
        description="free: the object continues beyond the image; circular: it repeats itself",
    )
    scale: Positive | None = Field(
        None, description="image value, in readings, that becomes 1 in the prior's units"
    )
    planes: Literal["xy", "all"] = Field(
        "xy", description="planes of a volume that the prior is applied to; all (xy, xz and yz)"
        " where voxels are about as long as they are wide"
    )  # fmt: skip
    margin: int = Field(
        16,
        ge=0,
        le=512,
        description="pixels by which tiles overlap, beyond those of the PSF",
    )
    iterations: int = Field(
        20, ge=1, le=1000, description="iterations of Richardson-Lucy, the baseline"
    )

    @model_validator(mode="after")
    def _one_psf(self) -> Self:
        named = [name for name in ("psf", "beads", "psf_model") if getattr(self, name) is not None]
        if len(named) > 1:
            raise ValueError(f"{' and '.join(named)} are both given, but there is one PSF")
        if self.wavelengths_um is not None and self.channel != "all":
            raise ValueError("wavelengths_um needs channel=all; for one channel give wavelength_um")
        if self.microscope != "widefield" and (self.psf_model is None or self.fwhm_um):
            raise ValueError("microscope needs psf_model and na, not a PSF or its width")
        return self
