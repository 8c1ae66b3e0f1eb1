"""Likelihoods: the measurement, its noise model, and the potential ``R(x) = -log p(y | x)``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from tiltkit.errors import TiltkitError

if TYPE_CHECKING:
    from torch import Tensor

    from tiltkit.protocols import LinearOperator

__all__ = ["GaussianLikelihood", "Likelihood"]


@runtime_checkable
class Likelihood(Protocol):
    """Any differentiable potential. Linear-Gaussian ones get exact treatment by the engine."""

    def potential(self, x: Tensor) -> Tensor:
        """``R`` of images (batch, channel, *space), one float64 value each."""
        ...

    def gradient(self, x: Tensor) -> Tensor:
        """Gradient of ``R`` at ``x``, same shape."""
        ...

    def chi2(self, x: Tensor) -> Tensor:
        """Squared residual over noise variance per measured real component, one value each.

        Its expected value at the true image is 1.
        """
        ...


@dataclass(frozen=True, slots=True)
class GaussianLikelihood:
    """``y = A x + noise`` with white Gaussian noise.

    Attributes:
        operator: Linear forward operator ``A``.
        y: Measurement (1, *data), real or complex.
        noise_var: Variance of the noise per real component, positive.
    """

    operator: LinearOperator
    y: Tensor
    noise_var: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.noise_var) and self.noise_var > 0):
            raise TiltkitError(
                f"The noise variance is {self.noise_var}, but must be positive and finite.",
                "give the noise level of the measurement.",
            )

    @property
    def measured(self) -> int:
        """Number of measured real components."""
        return self.y[0].numel() * (2 if self.y.is_complex() else 1)

    def potential(self, x: Tensor) -> Tensor:
        """``|y - A x|^2 / (2 noise_var)``."""
        return self.chi2(x) * (self.measured / 2)

    def gradient(self, x: Tensor) -> Tensor:
        """``A^H (A x - y) / noise_var``."""
        operator = self.operator
        return (operator.normal(x) - operator.adjoint(self.y)) / self.noise_var

    def chi2(self, x: Tensor) -> Tensor:
        """``|y - A x|^2 / (noise_var * measured)``."""
        residual = (self.y - self.operator.forward(x)).flatten(1).abs().double()
        return residual.square().sum(dim=1) / (self.noise_var * self.measured)
