"""Gaussian noise: white, or independent with one variance per measured value."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from tiltkit.errors import InputError, UsageError
from tiltkit.operators.compose import weighted

if TYPE_CHECKING:
    from torch import Tensor

    from tiltkit.protocols import LinearOperator

__all__ = ["GaussianLikelihood", "gaussian", "whitened"]


@dataclass(frozen=True, slots=True)
class GaussianLikelihood:
    """``y = A x + noise`` with white Gaussian noise. See `gaussian` for other variances.

    Attributes:
        operator: Linear forward operator ``A``.
        y: Measurement (1, *data), real or complex.
        noise_var: Variance of the noise per real component, positive.
        dead: Number of values of ``y`` that were not measured; their rows of ``A`` are zero.
    """

    operator: LinearOperator
    y: Tensor
    noise_var: float
    dead: int = 0

    def __post_init__(self) -> None:
        """Check noise and measurement.

        Raises:
            UsageError: The noise variance is not positive and finite.
            InputError: The measurement is not finite.
        """
        if not (math.isfinite(self.noise_var) and self.noise_var > 0):
            raise UsageError(
                f"The noise variance is {self.noise_var}, but must be positive and finite.",
                "give the variance of the measurement's noise.",
            )
        if not bool(self.y.isfinite().all()):
            raise InputError(
                "The measurement contains NaN or infinite values.",
                "give these an infinite variance with tiltkit.likelihoods.gaussian.",
            )

    @property
    def measured(self) -> int:
        """Number of measured real components."""
        return (self.y[0].numel() - self.dead) * (2 if self.y.is_complex() else 1)

    def potential(self, x: Tensor) -> Tensor:
        """``R = |y - A x|^2 / (2 noise_var)`` of images (batch, channel, *space), (batch,)."""
        return self.chi2(x) * (self.measured / 2)

    def gradient(self, x: Tensor) -> Tensor:
        """Gradient of ``R``, ``A^H (A x - y) / noise_var``, shaped as ``x``."""
        operator = self.operator
        return (operator.normal(x) - operator.adjoint(self.y)) / self.noise_var

    def chi2(self, x: Tensor) -> Tensor:
        """``|y - A x|^2 / (noise_var * measured)``, (batch,) float64; 1 on average at the truth."""
        residual = (self.y - self.operator.forward(x)).flatten(1).abs().double()
        return residual.square().sum(dim=1) / (self.noise_var * self.measured)


def gaussian(operator: LinearOperator, y: Tensor, variance: float | Tensor) -> GaussianLikelihood:
    """Likelihood of ``y = A x + noise`` with independent Gaussian noise of given variances.

    With one variance for all values the operator is kept, so that a diagonalised operator remains
    diagonalised. Otherwise operator and data are whitened, which is exact.

    Args:
        operator: Linear forward operator ``A``.
        y: Measurement (1, *data), real or complex. Dead values are not used and may be NaN.
        variance: Variance per real component: a number, or a tensor that broadcasts against ``y``
            (one value per coil, per channel, per pixel). Infinite for dead values.

    Raises:
        UsageError: A variance is not positive.
        InputError: Measured values are not finite, or all values are dead.
    """
    if not isinstance(variance, torch.Tensor):
        return whitened(operator, y, torch.tensor(1 / variance if variance else math.inf))
    return whitened(operator, y, 1 / variance.double())


def whitened(operator: LinearOperator, y: Tensor, precision: Tensor) -> GaussianLikelihood:
    """See `gaussian`; with inverse variances, 0 for dead values."""
    if not bool((precision.isfinite() & (precision >= 0)).all()):
        raise UsageError(
            "The noise variance contains values that are zero, negative or NaN.",
            "give positive variances, and infinite ones for dead pixels.",
        )
    precision = precision.double().expand(y.shape)
    live = precision > 0
    if not bool(live.any()):
        raise InputError(
            f"All {live.numel()} measured values are marked as dead.",
            "check the mask, the gain and the units of the counts.",
        )
    y = torch.where(live, y, 0)
    first = float(precision.flatten()[0])
    if bool((precision == first).all()):
        return GaussianLikelihood(operator, y, 1 / first)
    weights = precision.sqrt().to(y.real.dtype)
    dead = int((~live).sum())
    return GaussianLikelihood(weighted(operator, weights), weights * y, 1.0, dead)
