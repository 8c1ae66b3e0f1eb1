"""Gaussian noise with a variance for each pixel, or one variance for all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from tiltkit.likelihoods import GaussianLikelihood, gaussian

if TYPE_CHECKING:
    from torch import Tensor

    from tiltkit_deblur.prepare import Prepared
    from tiltkit_deblur.tiles import Rolled

__all__ = ["UniformNoise", "likelihood_of"]


@dataclass(frozen=True, slots=True)
class UniformNoise(GaussianLikelihood):
    """Gaussian noise of one variance, chosen larger than that of most pixels.

    The variance of counts grows with their brightness. One variance for all keeps solves diagonal;
    it is that of bright pixels, where most of the error is, and is too large for dark ones.
    Chi-squared uses the mean expected variance, so that it is still 1 at the truth.

    Attributes:
        expected: Mean variance of the measured pixels over ``noise_var``.
    """

    expected: float = 1.0

    def potential(self, x: Tensor) -> Tensor:
        """``|y - A x|^2 / (2 noise_var)``."""
        return self.chi2(x) * (self.expected * self.measured / 2)

    def chi2(self, x: Tensor) -> Tensor:
        """``|y - A x|^2`` over its expected value at the truth."""
        residual = (self.y - self.operator.forward(x)).flatten(1).double()
        return residual.square().sum(dim=1) / (self.noise_var * self.measured * self.expected)


def likelihood_of(
    prepared: Prepared, placed: Rolled, scale: float, variance: float | None
) -> GaussianLikelihood:
    """Likelihood with one variance for all measured pixels, or with that of each where None."""
    operator, measured = prepared.operator, prepared.measured
    y = placed.roll(prepared.y) / scale
    if variance is None:
        own = torch.where(measured, prepared.variance / scale**2, torch.inf)
        return gaussian(operator, y, placed.roll(own))
    return UniformNoise(
        operator,
        y,
        variance / scale**2,
        dead=int((~measured).sum()),
        expected=float(prepared.variance[measured].double().mean()) / variance,
    )
