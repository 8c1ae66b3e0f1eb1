"""Settings of the task ``ct-recon``."""

from __future__ import annotations

import math
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from tiltkit_ct.candidates import candidates
from tiltkit_ct.options import PrepareOptions
from tiltkit_ct.ramp import Window

__all__ = ["CtOptions"]


class CtOptions(PrepareOptions):
    """Settings of the task ``ct-recon``; what is None is found from the data."""

    axis: str = Field(
        "auto",
        description="detector column of the rotation axis after ranges and binning; auto finds"
        " it, try:FIRST:LAST:STEP draws a slice for each candidate, centre is the middle",
    )
    size: int | None = Field(None, ge=8, description="pixels of each side of the image")
    width: int | None = Field(
        None,
        ge=8,
        description="pixels of each side of the region that is modelled, at least those of the"
        " image; more where the sample is wider than the detector",
    )
    likelihood: Literal["gaussian", "poisson"] = Field(
        "gaussian",
        description="gaussian: line integrals weighted by their noise; poisson: the counts"
        " themselves",
    )
    units: Literal["1/cm", "1/mm"] = Field("1/cm", description="unit of the attenuation")
    scale: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="attenuation, in the unit of the result, that becomes 1 in the prior's units",
    )
    window: Window = Field(
        "hann",
        description="window of the ramp filter of the reconstruction without a prior; ram-lak is"
        " the ramp itself",
    )
    nonnegative: bool = Field(False, description="attenuation below zero is ruled out")
    source_mm: float | None = Field(
        None,
        gt=0,
        description="source to rotation axis in mm: a cone beam, or a fan beam of a single row",
    )
    detector_mm: float | None = Field(
        None, ge=0, description="rotation axis to detector in mm, of a cone or fan beam"
    )
    source_row: float | None = Field(
        None,
        allow_inf_nan=False,
        description="detector row level with the source of a cone beam, after ranges and binning;"
        " the middle of the detector",
    )

    @field_validator("axis", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        """A number in a recipe is fine too."""
        return str(value) if isinstance(value, int | float) else value

    @field_validator("axis")
    @classmethod
    def _axis(cls, value: str) -> str:
        if value in ("auto", "centre") or candidates(value):
            return value
        try:
            finite = math.isfinite(float(value))
        except ValueError:
            finite = False
        if not finite:
            raise ValueError("must be a column, auto, centre or try:FIRST:LAST:STEP")
        return value

    @model_validator(mode="after")
    def _beam(self) -> Self:
        """Parallel rays have no distances."""
        if self.source_mm is None and self.detector_mm is not None:
            raise ValueError("detector_mm is of cone and fan beams: give source_mm too")
        return self

    @model_validator(mode="after")
    def _noise(self) -> Self:
        """Counts have the noise that they have."""
        if self.likelihood == "poisson" and self.extra_noise:
            raise ValueError("Poisson counts take no extra_noise: use likelihood gaussian")
        return self
