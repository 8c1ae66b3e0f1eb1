"""Gaussian noise: white, or independent with a variance of its own for every measurement."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from tiltkit.errors import TiltkitError
from tiltkit.operators.compose import weighted

if TYPE_CHECKING:
    from torch import Tensor

    from tiltkit.protocols import LinearOperator

__all__ = ["GaussianLikelihood", "gaussian", "whitened"]


@dataclass(frozen=True, slots=True)
class GaussianLikelihood:
    """``y = A x + noise`` with white Gaussian noise. See `gaussian` for noise that is not white.

    Attributes:
        operator: Linear forward operator ``A``.
        y: Measurement (1, *data), real or complex.
        noise_var: Variance of the noise per real component, positive.
        dead: How many values of ``y`` were not measured: their row of ``A`` is zero.
    """

    operator: LinearOperator
    y: Tensor
    noise_var: float
    dead: int = 0

    def __post_init__(self) -> None:
        """Refuse what would make all samples NaN.

        Raises:
            TiltkitError: Noise that is not positive, or a measurement that is not finite.
        """
        if not (math.isfinite(self.noise_var) and self.noise_var > 0):
            raise TiltkitError(
                f"The noise variance is {self.noise_var}, but must be positive and finite.",
                "give the noise level of the measurement.",
            )
        if not bool(self.y.isfinite().all()):
            raise TiltkitError(
                "The measurement holds values that are NaN or infinite.",
                "leave them out: give them an infinite variance in tiltkit.likelihoods.gaussian.",
            )

    @property
    def measured(self) -> int:
        """Number of measured real components."""
        return (self.y[0].numel() - self.dead) * (2 if self.y.is_complex() else 1)

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


def gaussian(operator: LinearOperator, y: Tensor, variance: float | Tensor) -> GaussianLikelihood:
    """``y = A x + noise`` with independent Gaussian noise of any variances.

    A variance that is the same everywhere leaves the operator as it is, so that a diagonalised one
    stays so. Others whiten operator and data, which is exact.

    Args:
        operator: Linear forward operator ``A``.
        y: Measurement (1, *data), real or complex; anything, NaN too, where it is dead.
        variance: Per real component: a number, or a tensor that broadcasts against ``y`` (one
            value per coil, per channel, per pixel). Infinite where ``y`` is dead or blocked.

    Raises:
        TiltkitError: A variance that is not positive, NaN data, or nothing measured.
    """
    if not isinstance(variance, torch.Tensor):
        return whitened(operator, y, torch.tensor(1 / variance if variance else math.inf))
    return whitened(operator, y, 1 / variance.double())


def whitened(operator: LinearOperator, y: Tensor, precision: Tensor) -> GaussianLikelihood:
    """`gaussian` with inverse variances; 0 where ``y`` is dead."""
    if not bool((precision.isfinite() & (precision >= 0)).all()):
        raise TiltkitError(
            "The noise variance holds values that are zero, negative or NaN.",
            "give positive variances, infinite ones for dead pixels.",
        )
    precision = precision.double().expand(y.shape)
    live = precision > 0
    if not bool(live.any()):
        raise TiltkitError(
            f"None of the {live.numel()} measured values carries information: all are dead.",
            "check the mask, the gain and the units of the counts.",
        )
    y = torch.where(live, y, 0)
    first = float(precision.flatten()[0])
    if bool((precision == first).all()):
        return GaussianLikelihood(operator, y, 1 / first)
    weights = precision.sqrt().to(y.real.dtype)
    dead = int((~live).sum())
    return GaussianLikelihood(weighted(operator, weights), weights * y, 1.0, dead)
