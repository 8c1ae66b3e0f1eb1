"""Poisson counts with a rate that is linear in the image: emission, fluorescence, photographs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from tiltkit.likelihoods.counts import CountLikelihood, checked, poisson_deviance

if TYPE_CHECKING:
    from torch import Tensor

    from tiltkit.protocols import LinearOperator

__all__ = ["PoissonLikelihood"]


@dataclass(frozen=True)
class PoissonLikelihood(CountLikelihood):
    """``y ~ Poisson(gain (A x + background))``.

    ``f = rate - y log rate`` is convex and defined for positive rates only, but iterates of a
    sampler may have negative ones. Below ``floor * max(y, 1)`` counts ``f`` is continued by a
    parabola of curvature ``1 / (floor^2 max(y, 1))``, that of ``f`` at this point for ``y >= 1``.
    It is then convex, differentiable and finite for all ``x``, with a Lipschitz gradient. For
    ``y = 0`` the parabola acts as a barrier at 0. Under a flat prior 3 % of the mass remain below a
    rate of 0 for ``y = 0`` and floor 0.1, and less for larger counts. A `Constraint` removes it.

    Attributes:
        operator: Linear forward operator ``A``, real.
        y: Counts (1, *data).
        gain: Counts per unit of ``A x``: a number or a tensor; 0 for dead pixels.
        background: Background in units of ``A x``.
        floor: Rate at which the parabola starts, over ``max(y, 1)``. 0.1 is chosen by hand.

    Raises:
        UsageError: A parameter is negative, NaN or infinite.
        InputError: A count is negative, NaN or infinite, or all pixels are dead.
    """

    operator: LinearOperator
    y: Tensor
    gain: float | Tensor = 1.0
    background: float | Tensor = 0.0
    floor: float = 0.1

    def __post_init__(self) -> None:
        self._check()

    @cached_property
    def live(self) -> Tensor:
        """Mask of pixels with a positive gain, shaped as ``y``."""
        return self._gain > 0

    def _normal(self) -> tuple[Tensor, Tensor]:
        """Mean ``y / gain - background`` and variance ``max(y, 1) / gain^2``.

        For ``y >= 1`` this is the expansion of ``R`` to second order at ``rate = y``.
        """
        gain = self._gain.where(self.live, 1.0)
        return self.counts / gain - self._background, self._gain.square() / self._at_least_one

    def _prox(self, t: Tensor, v: Tensor) -> Tensor:
        v = self._gain.square() * v  # variance of the rate
        rate, low, curvature = self._rate(t), self.floor * self._at_least_one, self._curvature
        half = (rate - v) / 2
        inside = half + (half.square() + v * self.counts).sqrt()
        parabola = (rate - v * (1 - self.counts / low - curvature * low)) / (1 + v * curvature)
        return t + (inside.where(inside >= low, parabola) - rate) / self._gain.where(self.live, 1.0)

    def _rate(self, t: Tensor) -> Tensor:
        return self._gain * (t + self._background)

    def _value(self, t: Tensor) -> Tensor:
        clamped, rest = self._split(t)
        slope = 1 - self.counts / clamped
        parabola = rest * (slope + rest * self._curvature / 2)
        return poisson_deviance(self.counts, clamped.log()) + parabola

    def _slope(self, t: Tensor) -> Tensor:
        clamped, rest = self._split(t)
        return self._gain * (1 - self.counts / clamped + rest * self._curvature)

    def _split(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """The rate clamped to where ``f`` is not continued, and the remainder (0 or negative)."""
        rate = self._rate(t)
        clamped = rate.maximum(self.floor * self._at_least_one)
        return clamped, rate - clamped

    @cached_property
    def _gain(self) -> Tensor:
        return checked("gain", self.gain, self.y)

    @cached_property
    def _background(self) -> Tensor:
        return checked("background", self.background, self.y)

    @cached_property
    def _at_least_one(self) -> Tensor:
        return self.counts.clamp_min(1.0)

    @property
    def _curvature(self) -> Tensor:
        return 1 / (self.floor**2 * self._at_least_one)
