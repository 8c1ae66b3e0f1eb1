"""Likelihoods that are not Gaussian: the correction from a Gaussian approximation to the exact one.

The exact potential is ``R = R~ + D``: ``R~`` that of a Gaussian approximation, ``D`` the
correction. Targets are ``p_b exp(-R~_s - D_s)`` with ``D_0 = D``.
"""

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

# Largest force in units of 1 / b. A move then shifts a pixel by at most 3 standard deviations of
# the noise of its level. Chosen by hand.
FORCE_LIMIT = 3.0
# Delay with which the correction of likelihoods without `softened` is switched on. Measured on two
# pixels with 1500 particles: 1 leaves an ESS of 1, 10 to 100 leave 345 to 720.
DELAY = 30.0


@dataclass(frozen=True, slots=True)
class LinearisedCorrection:
    """``D_s`` in one prediction: ``N(m, v I)`` times the exponential of ``-D_s`` linearised at m.

    This shifts the mean by ``-v grad D_s(m)``. Weights then depend on the injected noise to second
    order only. They stay flat, and selection hardly correlates with the last noise, which the next
    move reuses.

    Attributes:
        correction: The correction.
        conditioning: The linear-Gaussian algebra.
        potential: ``D`` of the particles before the step at the level before, (particle,) float64.
        m: Mean of the prior's kernel, as images.
        image_shift: ``-v grad D_s(m)``, as images.
        step: ``v`` and ``s`` of the step.
        shift: ``image_shift`` in the coordinates of ``conditioning``.
    """

    correction: Correction
    conditioning: Conditioning
    potential: Tensor
    m: Tensor
    image_shift: Tensor
    step: Step
    shift: Tensor

    def log_weight(self, c: Tensor) -> Tensor:
        """Log of the factor of the weights for new particles ``c``, (particle,) float64.

        ``D_a(x) - D_b(x')``, plus the log density ratio of the kernel without and with the shift.
        """
        x, shift = self.conditioning.image(c), self.image_shift
        # log N(x'; m, v I) - log N(x'; m + shift, v I)
        ratio = (shift * (shift / 2 - (x - self.m))).flatten(1).sum(1, dtype=torch.float64)
        return self.potential - self.correction.potential(x, self.step.s) + ratio / self.step.v


@dataclass(frozen=True, slots=True)
class Correction:
    """``D = R - R~``, scaled to ``D_s`` where the image carries noise of level ``s``.

    Noise of level s in the image adds ``s^2 |a|^2`` to the variance ``v`` of a measurement, where
    ``a`` is its row of ``A``. ``R~_s`` includes that variance. ``D_s`` must too, or it would
    dominate ``R~_s`` at high noise. At ``s = 0`` both forms below are ``D``.

    * Likelihoods with `Softenable.softened`: ``D_s = beta_s D'_s``. ``D'_s`` is the difference of
      both potentials softened by ``s^2 |a|^2``, the noise of one measurement. Measurements share
      noise, as rays through a smooth image do. Along the best measured direction ``R~_s`` has a
      curvature of at most ``1 / s^2``, ``D'_s`` one of nearly ``|A|^2 / v``, the largest eigenvalue
      of ``A^H A / v``. ``beta_s = 1 / (1 + s^2 |A|^2 / v)`` keeps their ratio. (Measured: with
      ``|a|`` for ``|A|`` a tomogram of 60 photons a ray diverged.) It also removes ``D_s`` at high
      noise where data bound ``A x`` from one side only (zero counts).
    * Other likelihoods: ``D_s = beta_s D``. The leading term of ``D`` is cubic. At residuals of
      size ``sqrt(v + s^2 |a|^2)`` its curvature grows as that root, and that of ``R~_s`` falls as
      its square. A power of -3/2 keeps their ratio. Barriers, such as a rate of 0, are steeper
      than any power. `DELAY` switches ``D`` on only where the noise of the image is well below that
      of the data: ``beta_s = (1 + DELAY s^2 |a|^2 / v)^(-3/2)``.

    Attributes:
        exact: The likelihood with potential ``R``.
        approximate: Its Gaussian approximation with potential ``R~``.
        row_energy: ``|a|^2`` averaged over the measurements; 0 without `Softenable.softened`.
        information: ``|A|^2 / v`` with `Softenable.softened`; otherwise ``|a|^2 / v`` averaged over
            the measurements.
    """

    exact: Likelihood
    approximate: GaussianLikelihood
    row_energy: float
    information: float

    @classmethod
    def between(
        cls,
        exact: Likelihood,
        approximate: GaussianLikelihood,
        shape: tuple[int, ...],
        dtype: torch.dtype,
        device: torch.device,
    ) -> Correction:
        """The correction for images of the shape (channel, *space), by random probe images."""
        g = torch.Generator().manual_seed(0)
        probes = torch.randn((16, *shape), generator=g, dtype=dtype).to(device)

        def row_energy(operator: Operator) -> float:
            energy = operator.forward(probes).abs().double().square().sum()
            return float(energy) / len(probes) / approximate.measured

        operator, variance = approximate.operator, approximate.noise_var
        if isinstance(exact, Softenable):
            energy, information = row_energy(exact.operator), norm_squared(operator, probes[:1])
        else:
            energy, information = 0.0, row_energy(operator)
        return cls(exact, approximate, energy, information / variance)

    def potential(self, x: Tensor, s: float) -> Tensor:
        """``D_s`` of images, (particle,) float64, up to a constant that all particles share."""
        exact, approximate, beta = self._at(s)
        return beta * (exact.potential(x) - approximate.potential(x))

    def force(self, x: Tensor, b: float, s: float) -> Tensor:
        """``-grad D_s`` of images at noise level ``b``, clamped to ``FORCE_LIMIT / b`` per pixel.

        The preconditioner of a move is at most ``b^2``, so that the force moves a pixel by at most
        ``FORCE_LIMIT b``. Without the limit moves diverge at the barriers of ``R`` (a rate of 0, a
        ray brighter than the blank scan), which are much stiffer than ``R~``. The limit goes to
        infinity as ``b`` goes to 0.
        """
        exact, approximate, beta = self._at(s)
        force = beta * (approximate.gradient(x) - exact.gradient(x))
        return force.clamp_(-FORCE_LIMIT / b, FORCE_LIMIT / b)

    def linearise(
        self, conditioning: Conditioning, x: Tensor, m: Tensor, s: float, step: Step
    ) -> LinearisedCorrection:
        """The correction of one prediction.

        Args:
            conditioning: The linear-Gaussian algebra, in whose coordinates ``x`` and ``m`` are.
            x: Particles before the step (particle, ...).
            m: Mean of the prior's kernel (particle, ...).
            s: Level of the potential before the step.
            step: ``v`` and ``s`` of the step.
        """
        image = conditioning.image(m)
        shift = step.v * self.force(image, math.sqrt(step.v), step.s)
        potential = self.potential(conditioning.image(x), s)
        coordinates = conditioning.coordinates(shift)
        return LinearisedCorrection(self, conditioning, potential, image, shift, step, coordinates)

    def _at(self, s: float) -> tuple[Likelihood, GaussianLikelihood, float]:
        """The likelihoods of ``R`` and ``R~`` at level ``s``, and ``beta_s``."""
        r = s**2 * self.information
        if s > 0 and isinstance(self.exact, Softenable):
            softened = self.exact.softened(s**2 * self.row_energy)
            return softened, softened.approximation(), 1 / (1 + r)
        return self.exact, self.approximate, float((1 + DELAY * r) ** -1.5)
