"""Further images of a posterior: complex samples, the spread of the phase, maps of the problem."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from tiltkit.posterior.outcome import FurtherImage

if TYPE_CHECKING:
    from torch import Tensor

    from tiltkit.problem import Problem

__all__ = ["further_images", "phase_std"]


def further_images(
    problem: Problem, mean: Tensor, std: Tensor, x: Tensor, particle_mean: Tensor
) -> dict[str, FurtherImage]:
    """Further images of a problem by name.

    Args:
        problem: The problem.
        mean: Posterior mean (*image) in the user's units.
        std: Posterior standard deviation (*image).
        x: Samples (n, channel, *space) in the prior's units.
        particle_mean: Posterior mean (channel, *space) in the prior's units.
    """
    found = {
        name: _stored(one.compute(mean, std), one.long_name, one.units)
        for name, one in problem.maps.items()
    }
    if problem.complex_image is not None:
        samples = problem.complex_image(x)
        centre = problem.complex_image(particle_mean[None].to(x))[0]
        found["complex_mean"] = _stored(centre, "posterior mean of the complex image")
        found["complex_samples"] = _stored(samples, "posterior sample of the complex image")
        found["phase_std"] = _stored(
            phase_std(samples, centre), "posterior standard deviation of the phase", "rad"
        )
    return found


def phase_std(samples: Tensor, mean: Tensor) -> Tensor:
    """Standard deviation of the phase (*image) in radians, about the phase of the mean.

    Phases are those of ``z conj(mean)``, so that they do not wrap where the mean has phase pi. They
    have no meaning where the mean is not above the standard deviation of ``z`` (root of the summed
    variances of both parts), as in air: NaN there, and for a single sample.

    Args:
        samples: Complex samples ``z`` (n, *image).
        mean: Complex posterior mean (*image).
    """
    n = len(samples)
    if n < 2:
        return torch.full_like(mean.real, torch.nan)
    spread = ((samples - mean).abs().square().sum(0) / (n - 1)).sqrt()
    std = ((samples * mean.conj()).angle().square().sum(0) / (n - 1)).sqrt()
    return std.where(mean.abs() > spread, torch.nan)


def _stored(image: Tensor, long_name: str, units: str | None = None) -> FurtherImage:
    single = image.to(torch.complex64 if image.is_complex() else torch.float32)
    return FurtherImage(single.cpu().numpy(), long_name, units)
