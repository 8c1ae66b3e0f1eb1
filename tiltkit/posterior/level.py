"""The record that a sampler keeps of each noise level."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["REMOVED", "RENAMED", "Info", "reliable_residual_ratio"]

# Figures of the certificate by their names in results of release 0.1.
RENAMED = {
    "kinship": "shared_ancestry",
    "prior_misfit": "residual_ratio",
    "prior_misfit_max": "residual_ratio_max",
    "temper": "weight_power",
    "temper_min": "weight_power_min",
}

# Figures of former releases without a successor of the same meaning, and what there is instead.
REMOVED = {
    "fisher": "it was 0 by construction; fisher_at_least and the warnings spread_narrow,"
    " spread_wide and mean_off come from a test of the samples",
    "kl_bound": "it was no bound; ess_min and weight_power_min describe the weights",
    "kl_bound_per_level": "it was no bound; ess has one value per level",
    "log_evidence": "its constant depended on how the operator was solved",
}

# Fewest degrees of freedom for a residual ratio with a standard error sqrt(2 / dof) below 5 %.
MIN_DOF = 1000.0
# Smallest dof / dimension for a residual ratio that depends on the prior alone. At the first levels
# particles lag behind the data. Measured on held-out heads: below this fraction the ratio scatters
# between 1 and 4, above it between 0.9 and 1.5.
MIN_DOF_FRACTION = 0.015


@dataclass(frozen=True, slots=True)
class Info:
    """Figures of one noise level.

    Attributes:
        noise_level: Noise level of the prior, in the prior's units (variance-exploding convention).
        ess: Effective sample size before resampling; that of the exact weights, even when they
            were flattened or left out.
        weight_power: Power of the weights that was used; 1 is exact, 0 leaves them out.
        resampled: True when particles were resampled.
        final: True when the particles follow the last target, so that they count as samples.
        residual_ratio: Squared residual of the data at the denoised images over its value expected
            from the prior at this noise level: 1 for images of the prior. NaN where not measured.
        dof: Degrees of freedom of the denoised images: trace of the denoiser's Jacobian. The
            standard error of the residual ratio is about ``sqrt(2 / dof)``.
        dof_fraction: ``dof`` over the dimension of an image.
        swaps: Share of particles that swapped between each pair of neighbouring levels, for
            samplers that do; NaN where it was not tried.
    """

    noise_level: float
    ess: float
    weight_power: float = 1.0
    resampled: bool = False
    final: bool = False
    residual_ratio: float = math.nan
    dof: float = 0.0
    dof_fraction: float = 0.0
    swaps: Sequence[float] = ()


def reliable_residual_ratio(infos: Sequence[Info]) -> float | None:
    """The largest statistically reliable residual ratio; None where no level has one.

    A level counts when its denoised images have at least `MIN_DOF` degrees of freedom and they are
    at least `MIN_DOF_FRACTION` of the dimension.
    """
    reliable = [
        info.residual_ratio
        for info in infos
        if info.dof >= MIN_DOF and info.dof_fraction >= MIN_DOF_FRACTION
    ]
    return max(reliable, default=None)
