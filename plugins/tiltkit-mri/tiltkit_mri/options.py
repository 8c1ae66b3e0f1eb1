"""Settings of the task ``mri-recon``."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

__all__ = ["ESTIMATED", "Compression", "MriOptions"]

# Value of `MriOptions.maps` for maps from calibration lines.
ESTIMATED = "espirit"
Compression = Literal["svd", "geometric"]
Output = Literal["complex", "snr", "g_factor", "posterior_g_factor"]


class MriOptions(BaseModel):
    """Settings of `tiltkit_mri.task.MriRecon`; what is None is found from the data."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("output", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        """Names from a text with commas."""
        return [name.strip() for name in value.split(",")] if isinstance(value, str) else value

    maps: str = Field(
        ESTIMATED,
        min_length=1,
        description="'espirit' estimates coil maps from calibration lines; else a file with maps:"
        " BART's .cfl, numpy's .npy, or HDF5 with a dataset 'maps' (coil, row, column)",
    )
    calibration: str | None = Field(
        None,
        min_length=1,
        description="scan with the calibration lines, of the same coils and field of view, in any"
        " layout; when unset the lines of the scan itself",
    )
    shared_maps: bool = Field(
        True,
        description="whether the frames of a slice (repetitions, phases) share coil maps, from the"
        " mean of their k-space",
    )
    calibration_lines: int | None = Field(
        None,
        ge=2,
        le=1024,
        description="k-space lines at the centre to use for the maps; all, up to 32, when unset",
    )
    calibration_rows: int | None = Field(
        None,
        ge=2,
        le=1024,
        description="readout samples at the centre to use for the maps; when unset 32, or as many"
        " as there are lines",
    )
    kernel: int | None = Field(
        None,
        ge=2,
        le=16,
        description="size of the ESPIRiT kernels in k-space samples; 6, and less with fewer than 16"
        " lines, when unset",
    )
    threshold: float = Field(
        0.02,
        gt=0,
        lt=1,
        description="smallest ESPIRiT singular value that counts as signal, as a share of the"
        " largest",
    )
    noise_level: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="standard deviation of the noise per real component of k-space, in the file's"
        " units; found from the data when unset",
    )
    scale: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="image value, in the file's units, that becomes 1 in the prior's units;"
        " found from the data when unset",
    )
    coils: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="virtual coils that all coils are reduced to; when unset all coils up to 16,"
        " and of more coils as many as hold 99.9 % of the signal's energy",
    )
    compression: Compression = Field(
        "svd",
        description="how coils become virtual ones: 'svd' combines them alike in the whole image,"
        " 'geometric' anew at each position along the readout, which needs fewer virtual coils and"
        " whole columns of k-space",
    )
    output: tuple[Output, ...] = Field(
        (),
        description="images in the result beside magnitude and phase, separated by commas:"
        " complex (complex samples, their mean, the spread of the phase), snr (mean over spread),"
        " g_factor (of SENSE, without a prior), posterior_g_factor",
    )
    choose: str | None = Field(
        None,
        min_length=1,
        description="slices by their names, as 'contrast=1,repetition=0:4' (up to 3); 'tiltkit"
        " check' shows the names; all when unset",
    )
    crop: bool = Field(True, description="whether to cut the image to the header's size")
    axes: str | None = Field(
        None,
        description="order of the axes of the dataset 'kspace', for example"
        " 'slice,coil,row,column'; an axis 'pair' holds real and imaginary parts, further names"
        " number images; recognised when unset",
    )
    trajectory: str | None = Field(
        None,
        min_length=1,
        description="file with the positions of the samples of an array: BART's .cfl, numpy's .npy,"
        " or HDF5 with a dataset 'trajectory'; when unset those of the scan's own file",
    )
    centre: str | None = Field(
        None,
        description="row and column of the centre of k-space, counted from 0, for example '0,0';"
        " found from the data when unset",
    )
