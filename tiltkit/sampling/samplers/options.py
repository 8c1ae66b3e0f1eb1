"""Options that weighted samplers share: noise ladder, moves and resampling."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from tiltkit.sampling.particles.weighing import MOST_SHARED_ANCESTRY, MinEss, MostSharedAncestry

__all__ = ["LadderOptions", "WeightOptions"]


class LadderOptions(BaseModel):
    """Noise ladder, and the rounds at its last level."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    levels: int = Field(48, ge=2, le=10000, description="noise levels of the ladder")
    collect: int = Field(4, ge=0, le=10000, description="rounds of moves at the last level that "
                         "count towards mean, spread and quantiles")  # fmt: skip
    step: float = Field(0.5, gt=0, le=5, description="length of a move, in relaxation times")
    sigma_max: float | None = Field(None, gt=0, description="first noise level; the prior's own")
    tau: float | None = Field(None, gt=0, description="last noise level; the prior's smallest")
    rho: float = Field(
        7.0, ge=1, le=1000, description="shape of the ladder: larger gives a more constant ratio"
    )
    adapt: bool = Field(False, description="place levels so that weights are equally uneven")


class WeightOptions(LadderOptions):
    """Noise ladder of a weighted sampler, and when it resamples or leaves out weights."""

    renamed: ClassVar[dict[str, str]] = {"least_ess": "min_ess", "most_kin": "most_shared_ancestry"}

    resample_below: float = Field(
        0.7, gt=0, le=1, description="resample when the ESS falls below this share"
    )
    min_ess: MinEss = 8.0
    most_shared_ancestry: MostSharedAncestry = MOST_SHARED_ANCESTRY
