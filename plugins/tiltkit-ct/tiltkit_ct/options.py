"""Settings of the preparation of a scan."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tiltkit_ct.projections import Kind
from tiltkit_ct.stripes import Filter

__all__ = ["PrepareOptions"]


class PrepareOptions(BaseModel):
    """Part of a scan to use, and its correction; None is estimated from the data."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    entry: str | None = Field(None, description="which scan of a file that has several")
    data: str | None = Field(
        None,
        description="HDF5 dataset of the projections in a file of another layout; NAME[5:80] is a"
        " part of its frames, NAME[0] one of several scans",
    )
    theta: str | None = Field(
        None,
        description="text file with one angle per line, or, beside data, HDF5 dataset of the"
        " angles",
    )
    flats: str | None = Field(
        None, description="flats from elsewhere: FILE, FILE::DATASET, or ::DATASET of the same file"
    )
    darks: str | None = Field(
        None, description="darks from elsewhere: FILE, FILE::DATASET, or ::DATASET of the same file"
    )
    rows: str | None = Field(None, description="detector rows FIRST:END to use")
    columns: str | None = Field(None, description="detector columns FIRST:END to use")
    angles: str | None = Field(None, description="projections FIRST:END:STEP to use")
    exclude_views: str | None = Field(
        None, description="projections to leave out, such as 20-28,31,50-; counted from 0"
    )
    binning: int = Field(1, ge=1, le=64, description="detector pixels to average, each way")
    bin_rows: int | None = Field(
        None, ge=1, le=64, description="detector rows to average, where other than binning"
    )
    bin_columns: int | None = Field(
        None, ge=1, le=64, description="detector columns to average, where other than binning"
    )
    angle_unit: Literal["deg", "rad"] | None = Field(None, description="unit of the angles")
    angle_range: str | None = Field(
        None,
        description="degrees FIRST:LAST of the first and the last projection of the file, evenly"
        " spaced, instead of the angles in it",
    )
    pixel_mm: float | None = Field(None, gt=0, description="detector pixel at the sample in mm")
    energy_kev: float | None = Field(None, gt=0, description="photon energy in keV")
    distance_mm: float | None = Field(None, gt=0, description="sample to detector in mm")
    tilt_axis: Literal["x", "y"] | None = Field(
        None, description="direction of the rotation axis in the projections"
    )
    kind: Kind | None = Field(None, description="what the values are: counts or line_integrals")
    flat_value: float | None = Field(None, gt=0, description="counts without sample, no flats")
    dark_value: float | None = Field(None, ge=0, description="counts without beam, no darks")
    background: float | None = Field(
        None, description="value of line integrals where there is nothing"
    )
    gain: float | None = Field(None, gt=0, description="detector counts per photon, unbinned")
    zingers: float = Field(
        8.0, ge=0, description="spikes above so many standard deviations are masked; 0: none"
    )
    air: int | None = Field(
        None,
        ge=0,
        description="columns at both sides without sample, to follow the beam; found from the"
        " projections, 0: the flats alone count",
    )
    monitor: bool = Field(
        True, description="follow the beam by the monitor that the file has, where it has one"
    )
    extra_noise: float = Field(
        0.0,
        ge=0,
        allow_inf_nan=False,
        description="standard deviation of line integrals beyond that of counting, for errors"
        " of the model: motion, misalignment, spectra",
    )
    stripes: Filter = Field("none", description="filter against rings: none, sort or wavelet")
    stripe_width: int = Field(5, ge=1, le=999, description="columns of the widest stripes")
    delta_beta: float | None = Field(
        None, gt=0, description="ratio delta / beta of the material: phase retrieval (Paganin)"
    )

    @model_validator(mode="after")
    def _square(self) -> Self:
        """The filter of phase retrieval is one of square pixels."""
        if self.delta_beta is not None and self.bins[0] != self.bins[1]:
            raise ValueError("phase retrieval needs square pixels: use binning")
        return self

    @property
    def bins(self) -> tuple[int, int]:
        """Detector rows and columns that are averaged into one."""
        return self.bin_rows or self.binning, self.bin_columns or self.binning
