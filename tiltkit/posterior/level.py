"""What a sampler reports about each noise level."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["RENAMED", "Info", "reliable_residual_ratio"]

# Figures of the certificate by their names in results of release 0.1.
RENAMED = {
    "kinship": "shared_ancestry",
    "prior_misfit": "residual_ratio",
    "prior_misfit_max": "residual_ratio_max",
    "temper": "weight_power",
    "temper_min": "weight_power_min",
}

# Degrees of freedom from which on chance moves the misfit by less than a twentieth.
MIN_DOF = 1000.0
# Share of them among all values from which on particles keep up with the data. Measured: below it
# the misfit of held-out heads scatters between 1 and 4, above it between 0.9 and 1.5.
MIN_DOF_FRACTION = 0.015


@dataclass(frozen=True, slots=True)
class Info:
    """What happened on one level.

    Attributes:
        noise_level: Of the prior, in the prior's units (variance-exploding convention).
        ess: Effective sample size before resampling; that of the exact weights, even when they
            were flattened or left out.
        log_evidence: Estimate of the log ratio of normalisers of this level and the one before.
        kl: What the level adds to the KL bound of unweighted particles.
        weight_power: Power of the weights that was used; 1 is exact, 0 leaves them out.
        resampled: Whether particles were resampled.
        final: Whether the particles follow the last target, so that they count as samples.
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
    log_evidence: float = 0.0
    kl: float = 0.0
    weight_power: float = 1.0
    resampled: bool = False
    final: bool = False
    residual_ratio: float = math.nan
    dof: float = 0.0
    dof_fraction: float = 0.0
    swaps: Sequence[float] = ()


def reliable_residual_ratio(infos: Sequence[Info]) -> float | None:
    """The largest misfit that neither chance nor haste explains; None where there is none.

    Only levels count at which the denoised image has many degrees of freedom. At the first levels,
    where it has next to none, particles still lag behind the data, which says nothing of the prior.
    """
    certain = [
        info.residual_ratio
        for info in infos
        if info.dof >= MIN_DOF and info.dof_fraction >= MIN_DOF_FRACTION
    ]
    return max(certain, default=None)
