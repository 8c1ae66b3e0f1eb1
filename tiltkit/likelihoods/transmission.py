"""Absorbed radiation: Poisson counts behind an object (Beer and Lambert)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from tiltkit.likelihoods.counts import CountLikelihood, checked, poisson_deviance

if TYPE_CHECKING:
    from torch import Tensor

    from tiltkit.protocols import LinearOperator

__all__ = ["TransmissionPoissonLikelihood"]

NEWTON_STEPS = 12


@dataclass(frozen=True)
class TransmissionPoissonLikelihood(CountLikelihood):
    """``y ~ Poisson(I0 exp(-A x) + background)``.

    ``f = rate - y log rate`` is convex in ``A x`` without background. With one it is convex where
    ``rate^2 >= y background`` and concave where the object is all but opaque: there ``almc`` and
    its theory give no guarantee. ``f`` grows exponentially towards negative ``A x``: from where
    more than ``steepest * max(y, 1)`` counts would pass it continues as a parabola of the value,
    slope and curvature there. So its gradient is finite and Lipschitz for all ``x``; the mass
    beyond is below exp(-6) even for y = 1.

    Attributes:
        operator: Linear forward operator ``A``, real: line integrals of the attenuation.
        y: Counts (1, *data).
        i0: Counts without the object (blank scan): a number or a tensor; 0 where a ray is dead.
        background: Counts that do not come through the object: scatter, dark counts.
        steepest: Where the parabola starts, as multiple of the counts.
        softening: Of the noise ladder; see `CountLikelihood`.
    """

    operator: LinearOperator
    y: Tensor
    i0: float | Tensor
    background: float | Tensor = 0.0
    steepest: float = 10.0
    softening: float = 0.0

    def __post_init__(self) -> None:
        self._check()

    @cached_property
    def live(self) -> Tensor:
        """Where there is a beam."""
        return self._i0 > 0

    def softened(self, variance: float) -> TransmissionPoissonLikelihood:
        """See `CountLikelihood`; the part that is concave becomes a line."""
        return replace(self, softening=variance)

    def _normal(self) -> tuple[Tensor, Tensor]:
        """``-log((y - background) / I0)``, precision ``(y - background)^2 / y``.

        Rays with no more counts than the background are treated as if half a count had passed,
        which gives them hardly any weight: their upper bound on the transmission is no Gaussian.
        """
        passed = (self.counts - self._background).clamp_min(0.5)
        precision = passed.square() / self.counts.clamp_min(1.0)
        return self._log_i0 - passed.log(), torch.where(self.live, precision, 0.0)

    def _prox(self, t: Tensor) -> Tensor:
        """By Newton's method from the left, where the slope, concave, lets it not overshoot."""
        v = self.softening
        reach = t - v * self._slope(t)
        left, right = t.minimum(reach), t.maximum(reach)
        u = left
        for _ in range(NEWTON_STEPS):
            kept, beyond = self._split(u)
            slope, curvature = self._derivatives(kept)
            curvature = curvature.where(u < self._end, 0.0)
            excess = u - t + v * (slope + beyond * curvature)
            u = (u - excess / (1 + v * curvature)).clamp(left, right)
        return u

    def _rate(self, t: Tensor) -> Tensor:
        # Line integrals below the start of the parabola would overflow.
        kept = t.maximum(self._start - math.log(1e3))
        return (self._log_i0 - kept).exp() + self._background

    def _value(self, t: Tensor) -> Tensor:
        kept, beyond = self._split(t)
        log_rate = torch.logaddexp(self._log_i0 - kept, self._background.log())
        slope, curvature = self._derivatives(kept)
        curvature = curvature.where(t < self._end, 0.0)
        parabola = beyond * (slope + beyond * curvature / 2)
        return poisson_deviance(self.counts, log_rate) + parabola

    def _slope(self, t: Tensor) -> Tensor:
        kept, beyond = self._split(t)
        slope, curvature = self._derivatives(kept)
        return slope + beyond * curvature.where(t < self._end, 0.0)

    def _derivatives(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Slope and curvature of ``rate - y log rate``."""
        passed = (self._log_i0 - t).exp()
        rate = passed + self._background
        # y passed / rate, also where both are too small to be told from 0
        share = torch.sigmoid(self._log_i0 - t - self._background.log())
        slope = self.counts * share - passed
        return slope, passed - self.counts * share * self._background / rate.clamp_min(1e-300)

    def _split(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """The line integral where ``f`` is itself, and how far beyond that ``t`` lies."""
        kept = t.clamp(self._start, self._end)
        return kept, t - kept

    @cached_property
    def _start(self) -> Tensor:
        return self._log_i0 - (self.steepest * self.counts.clamp_min(1.0)).log()

    @cached_property
    def _end(self) -> Tensor:
        """Where ``f`` turns concave, if it is to be softened: envelopes need it convex."""
        concave_from = (self.counts * self._background).sqrt() - self._background
        if self.softening == 0:
            return torch.full_like(concave_from, math.inf)
        end = self._log_i0 - concave_from.clamp_min(1e-300).log()
        return end.where((concave_from > 0) & (self._background > 0), math.inf)

    @cached_property
    def _i0(self) -> Tensor:
        return checked("blank scan", self.i0, self.y)

    @cached_property
    def _log_i0(self) -> Tensor:
        return torch.where(self.live, self._i0, 1.0).log()

    @cached_property
    def _background(self) -> Tensor:
        return checked("background", self.background, self.y)
