"""Emitted or reflected light: Poisson counts whose rate is linear in the image."""

from __future__ import annotations

from dataclasses import dataclass, replace
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

    ``f = rate - y log rate`` is convex. It ends at rate 0, which iterates of a sampler do not
    respect: below ``floor * max(y, 1)`` counts it continues as a parabola with the curvature that
    it has there, ``1 / (floor^2 max(y, 1))``. So it stays convex, differentiable and finite for
    all ``x``, with a gradient of known Lipschitz constant. For y = 0 the parabola has curvature
    where ``f`` has none: it is the wall at 0. What it lets through: 3 % of the mass for y = 0 and
    floor 0.1 under a flat prior, less for every count more; a `Constraint` removes it.

    Attributes:
        operator: Linear forward operator ``A``, real.
        y: Counts (1, *data).
        gain: Counts per unit of ``A x``: a number or a tensor; 0 where a pixel is dead.
        background: In the units of ``A x``.
        floor: Where the parabola starts, as share of the counts.
        softening: Of the noise ladder; see `CountLikelihood`.
    """

    operator: LinearOperator
    y: Tensor
    gain: float | Tensor = 1.0
    background: float | Tensor = 0.0
    floor: float = 0.1
    softening: float = 0.0

    def __post_init__(self) -> None:
        self._check()

    @cached_property
    def live(self) -> Tensor:
        """Where the gain is positive."""
        return self._gain > 0

    def softened(self, variance: float) -> PoissonLikelihood:
        """See `CountLikelihood`."""
        return replace(self, softening=variance)

    def _normal(self) -> tuple[Tensor, Tensor]:
        """``y / gain - background``, variance ``max(y, 1) / gain^2``.

        Value, slope and curvature of ``R`` at ``rate = y``, where ``y >= 1``.
        """
        gain = self._gain.where(self.live, 1.0)
        return self.counts / gain - self._background, self._gain.square() / self._most

    def _prox(self, t: Tensor) -> Tensor:
        v = self._gain.square() * self.softening  # of the rate
        rate, low, curvature = self._rate(t), self.floor * self._most, self._curvature
        half = (rate - v) / 2
        inside = half + (half.square() + v * self.counts).sqrt()
        parabola = (rate - v * (1 - self.counts / low - curvature * low)) / (1 + v * curvature)
        return t + (inside.where(inside >= low, parabola) - rate) / self._gain.where(self.live, 1.0)

    def _rate(self, t: Tensor) -> Tensor:
        return self._gain * (t + self._background)

    def _value(self, t: Tensor) -> Tensor:
        kept, beyond = self._split(t)
        slope = 1 - self.counts / kept
        parabola = beyond * (slope + beyond * self._curvature / 2)
        return poisson_deviance(self.counts, kept.log()) + parabola

    def _slope(self, t: Tensor) -> Tensor:
        kept, beyond = self._split(t)
        return self._gain * (1 - self.counts / kept + beyond * self._curvature)

    def _split(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """The rate where ``f`` is itself, and how far below that the rate lies."""
        rate = self._rate(t)
        kept = rate.maximum(self.floor * self._most)
        return kept, rate - kept

    @cached_property
    def _gain(self) -> Tensor:
        return checked("gain", self.gain, self.y)

    @cached_property
    def _background(self) -> Tensor:
        return checked("background", self.background, self.y)

    @cached_property
    def _most(self) -> Tensor:
        return self.counts.clamp_min(1.0)

    @property
    def _curvature(self) -> Tensor:
        return 1 / (self.floor**2 * self._most)
