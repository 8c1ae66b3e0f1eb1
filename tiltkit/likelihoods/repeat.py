"""Repeated measurements: data simulated from an image, and the likelihood of two data sets.

All three functions are single-dispatch functions of the likelihood's class. A plugin adds its own
class with ``simulate.register``, ``remeasure.register`` and ``combine.register``.
"""

from __future__ import annotations

from dataclasses import replace
from functools import singledispatch
from typing import TYPE_CHECKING

import torch

from tiltkit.errors import UsageError
from tiltkit.likelihoods.camera import PoissonGaussianLikelihood
from tiltkit.likelihoods.counts import CountLikelihood, floating
from tiltkit.likelihoods.gaussian import GaussianLikelihood
from tiltkit.likelihoods.poisson import PoissonLikelihood
from tiltkit.likelihoods.transmission import TransmissionPoissonLikelihood

if TYPE_CHECKING:
    from torch import Tensor

    from tiltkit.likelihoods.protocol import Likelihood

__all__ = ["combine", "remeasure", "simulate"]


@singledispatch
def simulate(likelihood: Likelihood, x: Tensor, generator: torch.Generator) -> Tensor:
    """Draw a measurement of an image from the noise model, shaped and typed as ``y``.

    Args:
        likelihood: Operator and noise model; its own measurement gives only shape and type.
        x: Image (1, channel, *space) in the prior's value range.
        generator: Random numbers on the CPU, so that all devices give the same noise.

    Raises:
        UsageError: The class of the likelihood cannot simulate.
    """
    raise _unknown(likelihood, "simulate a measurement")


@singledispatch
def remeasure(likelihood: Likelihood, y: Tensor) -> Likelihood:
    """Likelihood of another measurement ``y`` by the same operator and noise.

    Raises:
        UsageError: The class of the likelihood is not known here.
    """
    raise _unknown(likelihood, "take another measurement")


@singledispatch
def combine(likelihood: Likelihood, y: Tensor) -> Likelihood:
    """Likelihood of its own measurement and of a second, independent one, ``p(y1 | x) p(y2 | x)``.

    Sufficient statistics keep the operator: the mean of two Gaussian measurements has half the
    noise variance, and the sum of two Poisson counts is Poisson with twice the rate.

    Raises:
        UsageError: The class of the likelihood is not known here.
    """
    raise _unknown(likelihood, "combine two measurements")


def _unknown(likelihood: object, what: str) -> UsageError:
    name = type(likelihood).__name__
    return UsageError(
        f"The likelihood {name} cannot {what}.",
        f"register a function for {name}: see tiltkit.likelihoods.repeat.",
    )


@simulate.register(GaussianLikelihood)
def _(likelihood: GaussianLikelihood, x: Tensor, generator: torch.Generator) -> Tensor:
    y = likelihood.y
    clean = likelihood.operator.forward(x)
    parts = (*clean.shape, 2) if y.is_complex() else tuple(clean.shape)
    noise = torch.randn(parts, generator=generator, dtype=y.real.dtype).to(y.device)
    noise = likelihood.noise_var**0.5 * (torch.view_as_complex(noise) if y.is_complex() else noise)
    if likelihood.dead:  # rows of dead values are zero, and so are their measurements
        noise = torch.where((clean == 0) & (y == 0), 0, noise)
    return clean + noise


@simulate.register(CountLikelihood)
def _(likelihood: CountLikelihood, x: Tensor, generator: torch.Generator) -> Tensor:
    counts = torch.poisson(likelihood.rate(x).clamp_min(0).cpu(), generator=generator)
    return counts.to(likelihood.y.device, floating(likelihood.y))


@simulate.register(PoissonGaussianLikelihood)
def _(likelihood: PoissonGaussianLikelihood, x: Tensor, generator: torch.Generator) -> Tensor:
    y, shifted = likelihood.y, likelihood.shifted
    # The rate of the shifted readings has the squared read noise in it, which is not Poisson.
    background = torch.as_tensor(likelihood.background, dtype=torch.float64, device=y.device)
    rate = likelihood.operator.forward(x).double() + background
    electrons = torch.poisson(rate.clamp_min(0).cpu(), generator=generator)
    white = torch.randn(electrons.shape, generator=generator, dtype=torch.float64)
    gain, offset, spread = (
        torch.as_tensor(value).to(y.device, torch.float64)
        for value in (likelihood.gain, likelihood.offset, likelihood.read_noise)
    )
    reading = gain * electrons.to(y.device) + offset + spread * white.to(y.device)
    return torch.where(shifted.live, reading, 0.0).to(floating(y))


@remeasure.register(GaussianLikelihood)
@remeasure.register(PoissonLikelihood)
@remeasure.register(TransmissionPoissonLikelihood)
@remeasure.register(PoissonGaussianLikelihood)
def _(
    likelihood: GaussianLikelihood
    | PoissonLikelihood
    | TransmissionPoissonLikelihood
    | PoissonGaussianLikelihood,
    y: Tensor,
) -> Likelihood:
    return replace(likelihood, y=y)


@combine.register(GaussianLikelihood)
def _(likelihood: GaussianLikelihood, y: Tensor) -> Likelihood:
    return replace(likelihood, y=(likelihood.y + y) / 2, noise_var=likelihood.noise_var / 2)


@combine.register(PoissonLikelihood)
def _(likelihood: PoissonLikelihood, y: Tensor) -> Likelihood:
    return replace(likelihood, y=likelihood.y + y, gain=2 * likelihood.gain)


@combine.register(TransmissionPoissonLikelihood)
def _(likelihood: TransmissionPoissonLikelihood, y: Tensor) -> Likelihood:
    i0, background = 2 * likelihood.i0, 2 * likelihood.background
    return replace(likelihood, y=likelihood.y + y, i0=i0, background=background)


@combine.register(PoissonGaussianLikelihood)
def _(likelihood: PoissonGaussianLikelihood, y: Tensor) -> Likelihood:
    """Sum of the shifted readings, with twice the rate of one."""
    both = likelihood.readings + replace(likelihood, y=y).readings
    once = likelihood.shifted
    return replace(once, y=both.clamp_min(0).to(once.y), gain=2 * once.gain)
