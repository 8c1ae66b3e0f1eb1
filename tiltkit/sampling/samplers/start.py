"""What samplers in the tilt's coordinates share: a start, scores, images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from tiltkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from tiltkit.sampling.gaussian.conditioning import LastNoise, Step
    from tiltkit.sampling.particles.rng import ParticleRng
    from tiltkit.sampling.target import Target

__all__ = ["images_of", "refuse_corrections", "score_at", "conditioned_gaussian"]


def refuse_corrections(target: Target) -> None:
    """For samplers whose moves know no more than a Gaussian likelihood.

    Raises:
        UsageError: The likelihood is another one.
    """
    if target.correction is not None:
        raise UsageError(
            f"This sampler needs a Gaussian likelihood, not"
            f" {type(target.problem.likelihood).__name__}.",
            "use --sampler walmc or almc.",
        )


def conditioned_gaussian(
    target: Target, step: Step, rng: ParticleRng
) -> Iterator[tuple[slice, Tensor, LastNoise | None]]:
    """Chunks of draws from the Gaussian around the prior's mean, given the data.

    The prior, noised by a level where it is all but Gaussian, times ``exp(-R_s)``; costs one
    network call for one image.

    Args:
        target: The problem.
        step: Variance of the noised prior, and the level of the potential.
        rng: Randomness.
    """
    mean = target.conditioning.coordinates(target.prior_mean(step.v**0.5))
    for rows in target.chunks():
        m = mean.expand(rows.stop - rows.start, *mean.shape[1:])
        c, last_noise, _ = target.conditioning.predict(m, step, rng, rows)
        yield rows, *target.constrained(c, last_noise)


def score_at(target: Target, c: Tensor, level: float) -> Tensor:
    """The prior's score at a chunk of particles, all in the tilt's coordinates; counted."""
    conditioning = target.conditioning
    return conditioning.coordinates(target.score(conditioning.image(c), level))


def images_of(target: Target, c: Tensor) -> Tensor:
    """Particles in the tilt's coordinates as images (particle, channel, *space)."""
    return torch.cat([target.conditioning.image(c[rows]) for rows in target.chunks()])
