"""What a sampler reports about each noise level."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Info", "certain_misfit"]

# Degrees of freedom from which on chance moves the misfit by less than a twentieth.
LEAST_FREEDOM = 1000.0
# Share of them among all values from which on particles keep up with the data. Measured: below it
# the misfit of held-out heads scatters between 1 and 4, above it between 0.9 and 1.5.
LEAST_OPEN = 0.015


@dataclass(frozen=True, slots=True)
class Info:
    """What happened on one level.

    Attributes:
        noise_level: Of the prior, in the prior's units (variance-exploding convention).
        ess: Effective sample size before resampling; that of the exact weights, even when they
            were flattened or left out.
        log_evidence: Estimate of the log ratio of normalisers of this level and the one before.
        kl: What the level adds to the KL bound of unweighted particles.
        temper: Power of the weights that was used; 1 is exact, 0 leaves them out.
        resampled: Whether particles were resampled.
        final: Whether the particles follow the last target, so that they count as samples.
        misfit: Squared misfit of the data from denoised particles, over what the prior expects it
            to be at this noise level; 1 for an image that the prior knows. NaN where not measured.
        freedom: Directions in which denoised particles can differ at this level: the trace of the
            denoiser's Jacobian. The misfit is certain to about ``sqrt(2 / freedom)``.
        opened: Their share of all directions.
        swaps: Share of particles that swapped between each pair of neighbouring levels, for
            samplers that do; NaN where it was not tried.
    """

    noise_level: float
    ess: float
    log_evidence: float = 0.0
    kl: float = 0.0
    temper: float = 1.0
    resampled: bool = False
    final: bool = False
    misfit: float = math.nan
    freedom: float = 0.0
    opened: float = 0.0
    swaps: Sequence[float] = ()


def certain_misfit(infos: Sequence[Info]) -> float | None:
    """The largest misfit that neither chance nor haste explains; None where there is none.

    Only levels count at which the denoised image has many degrees of freedom. At the first levels,
    where it has next to none, particles still lag behind the data, which says nothing of the prior.
    """
    certain = [
        info.misfit for info in infos if info.freedom >= LEAST_FREEDOM and info.opened >= LEAST_OPEN
    ]
    return max(certain, default=None)
