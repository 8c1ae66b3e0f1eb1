"""Base class and helpers of likelihoods of independent Poisson counts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from tiltkit.errors import InputError, UsageError
from tiltkit.likelihoods.gaussian import GaussianLikelihood, whitened
from tiltkit.likelihoods.quadrature import posterior_moments
from tiltkit.operators.compose import Weighted

if TYPE_CHECKING:
    from torch import Tensor

    from tiltkit.protocols import LinearOperator

__all__ = ["CountLikelihood", "checked", "floating", "pearson", "poisson_deviance"]

# Smallest precision of a matched Gaussian, over that of the prior. Counts of 0 give none where the
# rate is positive, and a Gaussian without precision cannot shift a mean. The error in the
# posterior's variance is this share of it.
SMALLEST_INFORMATION = 1e-3


class CountLikelihood(ABC):
    """``y_i ~ Poisson(rate_i((A x)_i))`` for known functions ``rate_i``.

    ``R(x) = sum_i f_i((A x)_i)`` is half the deviance: 0 where the rate equals the count. Its
    gradient costs one forward and one adjoint. Arithmetic on counts is float64.

    Attributes:
        operator: Linear forward operator ``A``, real.
        y: Counts (1, *data), nonnegative, not necessarily integer. Values of dead pixels are not
            used.
    """

    operator: LinearOperator
    y: Tensor

    def potential(self, x: Tensor) -> Tensor:
        """``R`` of images (batch, channel, *space), (batch,) float64."""
        value = self._value(self._forward(x))
        return torch.where(self.live, value, 0.0).flatten(1).sum(1)

    def gradient(self, x: Tensor) -> Tensor:
        """Gradient of ``R``, shaped as ``x``."""
        slope = self._slope(self._forward(x))
        return self.operator.adjoint(torch.where(self.live, slope, 0.0).to(x.dtype))

    def chi2(self, x: Tensor) -> Tensor:
        """Pearson's chi-squared (batch,), 1 on average at the true image; see `pearson`."""
        return pearson(self.counts, self.rate(x))

    def rate(self, x: Tensor) -> Tensor:
        """Expected counts (batch, *data), float64; 0 for dead pixels."""
        return torch.where(self.live, self._rate(self._forward(x)), 0.0)

    def approximation(self) -> GaussianLikelihood:
        """Gaussian approximation from the data alone."""
        centre, precision = self._normal()
        return whitened(self.operator, centre.to(floating(self.y)), precision)

    def matched(self, mean: Tensor, variance: Tensor) -> GaussianLikelihood:
        """Gaussian approximation near images whose ``A x`` has a mean and a variance.

        Per measurement it gives ``t ~ N(mean, variance)`` the posterior mean and variance that the
        counts give it. These are integrals in one dimension. This is the site of expectation
        propagation (Minka, UAI 2001) with ``N(mean, variance)`` as cavity. Unlike an expansion at
        the mode it is right for counts of 0, which bound ``t`` from one side only.

        Args:
            mean: Means of ``A x`` (particle, *data).
            variance: Variances of ``A x``, positive; broadcast to ``mean``.

        Returns:
            A likelihood of unit noise, whose measurement and weights differ from particle to
            particle: its images must be those of the same particles.
        """
        m, v = mean.double(), variance.double()
        moments = posterior_moments(self._value, self._prox(m, v), m, v)
        # The posterior of a log-concave likelihood is no wider than the prior.
        precision = (1 / moments.variance - 1 / v).maximum(SMALLEST_INFORMATION / v)
        precision = torch.where(self.live, precision, 0.0)
        root = precision.sqrt()
        y = root * m + (moments.mean - m) * (precision + 1 / v) / root
        y = torch.where(self.live, y, 0.0).to(mean.dtype)
        dead = int((~self.live).sum())
        return GaussianLikelihood(Weighted(self.operator, root.to(mean.dtype)), y, 1.0, dead)

    @property
    @abstractmethod
    def live(self) -> Tensor:
        """Mask of pixels that are not dead, bool, shaped as ``y``."""

    @cached_property
    def counts(self) -> Tensor:
        """Counts in float64, shaped as ``y``; 0 for dead pixels.

        Raises:
            InputError: A count is negative, NaN or infinite.
        """
        y = torch.where(self.live, self.y.double(), 0.0)
        if not bool((y.isfinite() & (y >= 0)).all()):
            raise InputError(
                "The counts contain values that are negative, NaN or infinite.",
                "undo background subtraction and scaling, and mask dead pixels.",
            )
        return y

    def _check(self) -> None:
        if self.y.is_complex():
            raise InputError(
                f"Counts must be real, but these are {self.y.dtype}.", "give counts of photons."
            )
        if not bool(self.live.any()):
            raise InputError(
                f"All {self.live.numel()} measured values are marked as dead.",
                "check the mask, the gain and the units of the counts.",
            )
        self.counts  # noqa: B018  (checks)

    def _forward(self, x: Tensor) -> Tensor:
        return self.operator.forward(x).double()

    @abstractmethod
    def _rate(self, t: Tensor) -> Tensor:
        """Expected counts at ``t = A x``."""

    @abstractmethod
    def _normal(self) -> tuple[Tensor, Tensor]:
        """Mean and precision of ``A x`` given the counts; precision 0 for dead pixels."""

    @abstractmethod
    def _prox(self, t: Tensor, v: Tensor) -> Tensor:
        """Proximal map of ``f``: the ``u`` with ``u + v f'(u) = t``."""

    @abstractmethod
    def _value(self, t: Tensor) -> Tensor:
        """``f(t)`` per measurement."""

    @abstractmethod
    def _slope(self, t: Tensor) -> Tensor:
        """``f'(t)`` per measurement."""


def poisson_deviance(y: Tensor, log_rate: Tensor) -> Tensor:
    """Half the Poisson deviance, ``rate - y - y log(rate / y)``: ``-log p(y)`` up to a constant."""
    return log_rate.exp() - y - torch.where(y > 0, y * (log_rate - y.clamp_min(1e-300).log()), 0.0)


def pearson(y: Tensor, rate: Tensor) -> Tensor:
    """Pearson's chi-squared over its expected value, (batch,): 1 on average at the true rate.

    Squared residuals are divided by the rate or by 1, whichever is larger. With the rate alone one
    event in a dark pixel could dominate the sum.

    Args:
        y: Counts (1, *data).
        rate: Expected counts (batch, *data).
    """
    variance = rate.clamp_min(1.0)
    residual = ((y - rate).square() / variance).flatten(1).sum(1)
    expected = (rate.clamp_min(0) / variance).flatten(1).sum(1)
    return residual / expected.clamp_min(1e-6)


def checked(name: str, value: float | Tensor, y: Tensor) -> Tensor:
    """A parameter of a likelihood in float64, expanded to the shape of ``y``.

    Raises:
        UsageError: The parameter is negative, NaN or infinite.
    """
    full = torch.as_tensor(value, dtype=torch.float64, device=y.device).expand(y.shape)
    if not bool((full.isfinite() & (full >= 0)).all()):
        raise UsageError(
            f"The {name} contains values that are negative, NaN or infinite.",
            f"give a {name} of zero or more.",
        )
    return full


def floating(y: Tensor) -> torch.dtype:
    """Floating-point type of data that are computed from counts."""
    return y.dtype if y.is_floating_point() else torch.get_default_dtype()
