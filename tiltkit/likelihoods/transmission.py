"""Transmission: Poisson counts behind an absorbing object (Beer-Lambert law)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from tiltkit.likelihoods.counts import CountLikelihood, checked, poisson_deviance

if TYPE_CHECKING:
    from torch import Tensor

    from tiltkit.protocols import LinearOperator

__all__ = ["TransmissionPoissonLikelihood"]

# Newton steps of the proximal map. Chosen by hand: enough for float64 in the tests.
NEWTON_STEPS = 12


@dataclass(frozen=True)
class TransmissionPoissonLikelihood(CountLikelihood):
    """``y ~ Poisson(I0 exp(-A x) + background)``.

    Without background ``f = rate - y log rate`` is convex in ``A x``. With background it is convex
    where ``rate^2 >= y background`` and concave where the object is nearly opaque; there the theory
    of ``almc`` does not hold. Towards negative ``A x`` ``f`` grows exponentially. Beyond a
    transmitted count of ``steepest * max(y, 1)`` it is continued by its second-order expansion, so
    that the gradient is finite and Lipschitz for all ``x``. The mass beyond is below exp(-6) even
    for ``y = 1``.

    Attributes:
        operator: Linear forward operator ``A``, real: line integrals of the attenuation.
        y: Counts (1, *data).
        i0: Counts without the object (blank scan, flat field): a number or a tensor; 0 for dead
            detector pixels.
        background: Counts that do not come through the object: scatter, dark counts.
        steepest: Transmitted counts at which the parabola starts, over ``max(y, 1)``. 10 is chosen
            by hand.

    Raises:
        UsageError: A parameter is negative, NaN or infinite.
        InputError: A count is negative, NaN or infinite, or all pixels are dead.
    """

    operator: LinearOperator
    y: Tensor
    i0: float | Tensor
    background: float | Tensor = 0.0
    steepest: float = 10.0

    def __post_init__(self) -> None:
        self._check()

    @cached_property
    def live(self) -> Tensor:
        """Mask of pixels with a positive blank scan, shaped as ``y``."""
        return self._i0 > 0

    def _normal(self) -> tuple[Tensor, Tensor]:
        """Mean ``-log((y - background) / I0)`` and precision ``(y - background)^2 / y``.

        Rays with no more counts than the background are taken to transmit half a count. Their
        precision is then nearly 0: an upper bound on the transmission is not Gaussian.
        """
        passed = (self.counts - self._background).clamp_min(0.5)
        precision = passed.square() / self.counts.clamp_min(1.0)
        return self._log_i0 - passed.log(), torch.where(self.live, precision, 0.0)

    def _prox(self, t: Tensor, v: Tensor) -> Tensor:
        """See `CountLikelihood`; by Newton's method from the left.

        The slope is concave, so that iterates do not overshoot.
        """
        explicit = t - v * self._slope(t)
        left, right = t.minimum(explicit), t.maximum(explicit)  # they bracket the solution
        u = left
        for _ in range(NEWTON_STEPS):
            clamped, rest = self._split(u)
            slope, curvature = self._derivatives(clamped)
            excess = u - t + v * (slope + rest * curvature)
            u = (u - excess / (1 + v * curvature)).clamp(left, right)
        return u

    def _rate(self, t: Tensor) -> Tensor:
        # Line integrals below the start of the parabola would overflow.
        clamped = t.maximum(self._start - math.log(1e3))
        return (self._log_i0 - clamped).exp() + self._background

    def _value(self, t: Tensor) -> Tensor:
        clamped, rest = self._split(t)
        log_rate = torch.logaddexp(self._log_i0 - clamped, self._background.log())
        slope, curvature = self._derivatives(clamped)
        parabola = rest * (slope + rest * curvature / 2)
        return poisson_deviance(self.counts, log_rate) + parabola

    def _slope(self, t: Tensor) -> Tensor:
        clamped, rest = self._split(t)
        slope, curvature = self._derivatives(clamped)
        return slope + rest * curvature

    def _derivatives(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """First and second derivative of ``rate - y log rate`` at line integrals ``t``."""
        passed = (self._log_i0 - t).exp()
        rate = passed + self._background
        # y passed / rate, also where both underflow
        share = torch.sigmoid(self._log_i0 - t - self._background.log())
        slope = self.counts * share - passed
        return slope, passed - self.counts * share * self._background / rate.clamp_min(1e-300)

    def _split(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """``t`` clamped to where ``f`` is not continued, and the remainder."""
        clamped = t.maximum(self._start)
        return clamped, t - clamped

    @cached_property
    def _start(self) -> Tensor:
        return self._log_i0 - (self.steepest * self.counts.clamp_min(1.0)).log()

    @cached_property
    def _i0(self) -> Tensor:
        return checked("blank scan", self.i0, self.y)

    @cached_property
    def _log_i0(self) -> Tensor:
        return torch.where(self.live, self._i0, 1.0).log()

    @cached_property
    def _background(self) -> Tensor:
        return checked("background", self.background, self.y)
