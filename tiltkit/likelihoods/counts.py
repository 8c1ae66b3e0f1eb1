"""Counted events: what all likelihoods of independent Poisson counts share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from tiltkit.errors import TiltkitError
from tiltkit.likelihoods.gaussian import whitened

if TYPE_CHECKING:
    from torch import Tensor

    from tiltkit.likelihoods.gaussian import GaussianLikelihood
    from tiltkit.protocols import LinearOperator

__all__ = ["CountLikelihood", "checked", "floating", "pearson", "poisson_deviance"]


class CountLikelihood(ABC):
    """``y_i ~ Poisson(rate_i((A x)_i))`` for known functions ``rate_i``.

    Then ``R(x) = sum_i f_i((A x)_i)``: its gradient needs one forward and one adjoint. All
    arithmetic on counts is float64. ``R`` is half the deviance: 0 where the rate is the count.

    Where ``A x`` carries noise of variance ``v`` itself, on the way down a noise ladder, ``f`` is
    softened to its Moreau envelope ``min_u f(u) + (t - u)^2 / (2 v)``: convex, at most ``1 / v``
    curved, and for Gaussian noise just what adds ``v`` to its variance.

    Attributes:
        operator: Linear forward operator ``A``, real.
        y: Counts (1, *data), nonnegative; need not be whole. Anything where they are dead.
        softening: ``v``; 0 for the data's own likelihood.
    """

    operator: LinearOperator
    y: Tensor
    softening: float

    def potential(self, x: Tensor) -> Tensor:
        """``R`` of images (batch, channel, *space), float64 (batch,)."""
        t, v = self._seen(x), self.softening
        if v == 0:
            value = self._value(t)
        else:
            u = self._prox(t)
            value = self._value(u) + (t - u).square() / (2 * v)
        return torch.where(self.live, value, 0.0).flatten(1).sum(1)

    def gradient(self, x: Tensor) -> Tensor:
        """Gradient of ``R``, shaped as ``x``."""
        t, v = self._seen(x), self.softening
        slope = self._slope(t) if v == 0 else (t - self._prox(t)) / v
        return self.operator.adjoint(torch.where(self.live, slope, 0.0).to(x.dtype))

    def chi2(self, x: Tensor) -> Tensor:
        """Pearson's chi-squared, 1 on average at the true image; see `pearson`."""
        return pearson(self.counts, self.rate(x))

    def rate(self, x: Tensor) -> Tensor:
        """Expected counts (batch, *data), float64; 0 where they are dead."""
        return torch.where(self.live, self._rate(self._seen(x)), 0.0)

    def approximation(self) -> GaussianLikelihood:
        """The Gaussian likelihood near this one, from the data alone; softened as this one is."""
        centre, precision = self._normal()
        precision = precision / (1 + self.softening * precision)
        return whitened(self.operator, centre.to(floating(self.y)), precision)

    @abstractmethod
    def softened(self, variance: float) -> CountLikelihood:
        """The same counts where ``A x`` carries noise of a variance."""

    @property
    @abstractmethod
    def live(self) -> Tensor:
        """Where something is measured, shaped as ``y``."""

    @cached_property
    def counts(self) -> Tensor:
        """``y`` in float64, 0 where it is dead; checked."""
        y = torch.where(self.live, self.y.double(), 0.0)
        if not bool((y.isfinite() & (y >= 0)).all()):
            raise TiltkitError(
                "The counts hold values that are negative, NaN or infinite.",
                "undo background subtraction and scaling, and mask dead pixels.",
            )
        return y

    def _check(self) -> None:
        if self.y.is_complex():
            raise TiltkitError("Counts must be real, but these are complex.", "give counts.")
        if not bool(self.live.any()):
            raise TiltkitError(
                f"None of the {self.live.numel()} measured values carries information: all are"
                " dead.",
                "check the mask, the gain and the units of the counts.",
            )
        self.counts  # noqa: B018  (checks)

    def _seen(self, x: Tensor) -> Tensor:
        return self.operator.forward(x).double()

    @abstractmethod
    def _rate(self, t: Tensor) -> Tensor:
        """Expected counts at ``t = A x``."""

    @abstractmethod
    def _normal(self) -> tuple[Tensor, Tensor]:
        """Centre and precision of ``A x`` given the counts; precision 0 where they are dead."""

    @abstractmethod
    def _prox(self, t: Tensor) -> Tensor:
        """The ``u`` with ``u + softening f'(u) = t``."""

    @abstractmethod
    def _value(self, t: Tensor) -> Tensor:
        """``f(t)``."""

    @abstractmethod
    def _slope(self, t: Tensor) -> Tensor:
        """``f'(t)``."""


def poisson_deviance(y: Tensor, log_rate: Tensor) -> Tensor:
    """Half the deviance, ``rate - y - y log(rate / y)``: ``-log p(y)`` up to a constant."""
    return log_rate.exp() - y - torch.where(y > 0, y * (log_rate - y.clamp_min(1e-300).log()), 0.0)


def pearson(y: Tensor, rate: Tensor) -> Tensor:
    """Squared residual over variance per measurement, where both are the rate; (batch,).

    Rates below one count are weighted as if they were one, in numerator and expectation alike:
    Pearson's own weights let one event in a dark pixel outweigh all others.
    """
    variance = rate.clamp_min(1.0)
    residual = ((y - rate).square() / variance).flatten(1).sum(1)
    expected = (rate.clamp_min(0) / variance).flatten(1).sum(1)
    return residual / expected.clamp_min(1e-6)


def checked(name: str, value: float | Tensor, y: Tensor) -> Tensor:
    """A parameter in float64 of the shape of ``y``.

    Raises:
        TiltkitError: It is negative, NaN or infinite.
    """
    full = torch.as_tensor(value, dtype=torch.float64, device=y.device).expand(y.shape)
    if not bool((full.isfinite() & (full >= 0)).all()):
        raise TiltkitError(
            f"The {name} holds values that are negative, NaN or infinite.",
            f"give a {name} of zero or more.",
        )
    return full


def floating(y: Tensor) -> torch.dtype:
    """The type in which operators take what is made of the counts."""
    return y.dtype if y.is_floating_point() else torch.get_default_dtype()
