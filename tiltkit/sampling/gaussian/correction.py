"""Likelihoods that are not Gaussian: from a Gaussian approximation to the exact potential."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from tiltkit.likelihoods import Softenable
from tiltkit.operators.cg import norm_squared

if TYPE_CHECKING:
    from torch import Tensor

    from tiltkit.likelihoods import GaussianLikelihood, Likelihood
    from tiltkit.protocols import Operator
    from tiltkit.sampling.gaussian.conditioning import Conditioning, Step

__all__ = ["Correction"]

LIMIT = 3.0
LATE = 30.0


@dataclass(frozen=True, slots=True)
class Passage:
    """The part of ``D`` in one prediction: ``N(m, v I)`` is also tilted by ``D`` linearised at m.

    With the shift ``-v grad D``, weights depend on the new noise to second order only. That keeps
    them flat, and the newest noise, which moves reuse, independent of what was selected.
    """

    correction: Correction
    conditioning: Conditioning
    before: Tensor
    m: Tensor
    image_shift: Tensor
    step: Step
    shift: Tensor

    def log_weight(self, c: Tensor) -> Tensor:
        """``D_a(x) - D_b(x')``, and what the shift has in it already; float64 (particle,)."""
        x, shift = self.conditioning.image(c), self.image_shift
        # exp(-shift (x' - m) / v + shift^2 / (2 v)) turns N(m + shift, v I) back into N(m, v I)
        back = (shift * (shift / 2 - (x - self.m))).flatten(1).sum(1, dtype=torch.float64)
        return self.before - self.correction.potential(x, self.step.s) + back / self.step.v


@dataclass(frozen=True, slots=True)
class Correction:
    """``D = R - R~``, what the approximation ``R~`` misses; targets are ``p_b exp(-R~_s - D_s)``.

    Noise of level s in the image adds ``s^2 |a|^2`` to the variance ``v`` of a measurement with row
    ``a`` of ``A``. ``R~_s`` knows that; so must ``D_s``, or it would dwarf ``R~_s`` at high noise.

    * Likelihoods that can be softened give ``D_s = beta_s D'_s``, ``D'_s`` the difference of both,
      softened by ``s^2 |a|^2``. That is the noise of one measurement. What many share, as rays
      through a smooth image do, adds up: in the direction that is measured best ``R~_s`` has a
      curvature of ``1 / s^2`` at most, ``D'_s`` of nearly ``|A|^2 / v``, the largest eigenvalue of
      ``A^H A / v``. ``beta_s = 1 / (1 + s^2 |A|^2 / v)`` keeps their ratio (measured: with ``|a|``
      for ``|A|`` tomography of 60 photons a ray ran away from its data), and lets ``D_s`` fade
      where data bound ``A x`` from one side only (no counts at all).
    * Others are switched on: ``D_s = beta_s D``. The leading term of ``D`` is cubic, so that at
      residuals of size ``sqrt(v + s^2 |a|^2)`` its curvature grows as that root, while the one of
      ``R~_s`` falls as its square: a power of -3/2 keeps their ratio. Walls are steeper than any
      power, so that nearly all of ``D`` waits until the noise of the image is well below that of
      the data: ``beta_s = (1 + LATE s^2 |a|^2 / v)^(-3/2)`` (measured: 1 for ``LATE`` leaves one
      effective particle of 1500 in a problem with two pixels, 10 to 100 leave 345 to 720).

    Both are ``D`` exactly at s = 0.

    Attributes:
        exact: ``R``.
        approximate: ``R~``.
        row_energy: ``|a|^2``, averaged over the measurements.
        information: ``|a|^2 / v``, averaged over the measurements; ``|A|^2 / v`` where the
            likelihood can be softened.
    """

    exact: Likelihood
    approximate: GaussianLikelihood
    row_energy: float
    information: float

    @classmethod
    def of(
        cls,
        exact: Likelihood,
        approximate: GaussianLikelihood,
        shape: tuple[int, ...],
        dtype: torch.dtype,
        device: torch.device,
    ) -> Correction:
        """The correction for images of a shape."""
        g = torch.Generator().manual_seed(0)
        probes = torch.randn((16, *shape), generator=g, dtype=dtype).to(device)

        def row_energy(operator: Operator) -> float:
            likelihood_term_at = operator.forward(probes).abs().double().square().sum()
            return float(likelihood_term_at) / len(probes) / approximate.measured

        operator, variance = approximate.operator, approximate.noise_var
        if isinstance(exact, Softenable):
            energy, information = row_energy(exact.operator), norm_squared(operator, probes[:1])
        else:
            energy, information = 0.0, row_energy(operator)
        return cls(exact, approximate, energy, information / variance)

    def potential(self, x: Tensor, s: float) -> Tensor:
        """``D_s`` of images, float64 (particle,), up to a constant shared by all."""
        exact, approximate, beta = self._at(s)
        return beta * (exact.potential(x) - approximate.potential(x))

    def force(self, x: Tensor, b: float, s: float) -> Tensor:
        """``-grad D_s``, at most ``LIMIT / b`` per pixel.

        The preconditioner of a move at noise level b is at most ``b^2``, so that the force moves a
        pixel by at most ``LIMIT`` standard deviations of that noise. Without the limit the walls of
        ``R`` (a rate of 0, a ray that brightens), much stiffer than ``R~``, throw particles far
        away. The limit fades with b.
        """
        exact, approximate, beta = self._at(s)
        force = beta * (approximate.gradient(x) - exact.gradient(x))
        return force.clamp_(-LIMIT / b, LIMIT / b)

    def along(
        self, conditioning: Conditioning, x: Tensor, m: Tensor, s: float, step: Step
    ) -> Passage:
        """For predictions around ``m`` of particles ``x`` that follow level ``s``."""
        image = conditioning.image(m)
        shift = step.v * self.force(image, math.sqrt(step.v), step.s)
        before = self.potential(conditioning.image(x), s)
        return Passage(
            self, conditioning, before, image, shift, step, conditioning.coordinates(shift)
        )

    def _at(self, s: float) -> tuple[Likelihood, GaussianLikelihood, float]:
        """``R`` and ``R~`` at level ``s``, and what their difference is multiplied by."""
        r = s**2 * self.information
        if s > 0 and isinstance(self.exact, Softenable):
            softened = self.exact.softened(s**2 * self.row_energy)
            return softened, softened.approximation(), 1 / (1 + r)
        return self.exact, self.approximate, float((1 + LATE * r) ** -1.5)
