"""Options of all weighted samplers: noise ladder, collected moves, weights and resampling."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from tiltkit.sampling.particles.weighing import MOST_SHARED_ANCESTRY, MinEss, MostSharedAncestry

__all__ = ["LadderOptions", "WeightOptions"]


class LadderOptions(BaseModel):
    """Options of the noise ladder and of the collected moves at its last level."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    removed: ClassVar[dict[str, tuple[Any, str]]] = {
        "adapt": (False, "adapted noise levels did not bring means closer to the exact ones")
    }

    levels: int = Field(48, ge=2, le=10000, description="noise levels of the ladder")
    collect: int = Field(4, ge=0, le=10000, description="rounds of moves at the last level that "
                         "count towards mean, spread and quantiles")  # fmt: skip
    step: float = Field(
        0.5, gt=0, le=5, description="length of a Langevin move, in relaxation times"
    )
    settle: float = Field(0.0, ge=0, le=10, description="network calls of further moves at the "
                          "last level until the spread has settled, at most this share of all "
                          "others; 0 makes none")  # fmt: skip
    sigma_max: float | None = Field(
        None, gt=0, description="first noise level; the prior's largest when not given"
    )
    tau: float | None = Field(
        None, gt=0, description="last noise level; the prior's smallest when not given"
    )
    rho: float = Field(7.0, ge=1, le=1000, description="exponent of the ladder: larger makes the "
                       "ratio of neighbouring levels more constant")  # fmt: skip


class WeightOptions(LadderOptions):
    """Options of the noise ladder, of weights and of resampling."""

    renamed: ClassVar[dict[str, str]] = {"least_ess": "min_ess", "most_kin": "most_shared_ancestry"}

    min_ess: MinEss = 8.0
    most_shared_ancestry: MostSharedAncestry = MOST_SHARED_ANCESTRY
