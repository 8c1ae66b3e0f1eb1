"""Noise that is the same everywhere, standing in for noise that is not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiltkit.likelihoods import GaussianLikelihood

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["UniformNoise"]


@dataclass(frozen=True, slots=True)
class UniformNoise(GaussianLikelihood):
    """Gaussian noise of one variance, chosen larger than that of most pixels.

    Counts are as noisy as they are bright. One variance for all keeps solves diagonal; it must be
    that of bright pixels, where most of the error is, and is too large for dark ones. Chi-squared
    is measured against the noise that is really expected, so that it is still 1 at the truth.

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
