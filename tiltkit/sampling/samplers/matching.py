"""The denoiser of one noise level as a Gaussian: its covariance, and the guidance that it implies.

Symbols as in `tiltkit.sampling.samplers.moments`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from tiltkit.operators.inner import inner, per_image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from tiltkit.sampling.target import Target

__all__ = ["Denoiser"]

# Largest eigenvalue of a denoiser's Jacobian that is believed. Chosen by hand: those of networks
# are 1 to 2; between two separate modes it may be larger.
LARGEST_EIGENVALUE = 10.0


@dataclass(frozen=True, slots=True)
class Denoiser:
    """``D = x + s^2 score_a(x)`` with the error covariance ``s^2 J``.

    Attributes:
        target: The problem.
        level: Noise level ``a``.
        s: Noise above that of the last level.
        variance: ``C``: diagonal of the error covariance, one value per shell.
        mean_jacobian: Mean diagonal of ``J``.
        products: Products with ``J``, each one network call.
        difference_step: Length of the finite difference, in posterior standard deviations of the
            denoised image.
    """

    target: Target
    level: float
    s: float
    variance: Sequence[float]
    mean_jacobian: float
    products: int
    difference_step: float

    def guidance(self, x: Tensor, score: Tensor) -> tuple[Tensor, Tensor]:
        """``g = J A^H w`` of a chunk of particles, and the residual ratio of each.

        ``w`` solves ``(noise_var I + s^2 A J A^H) w = r``, ``r = y - A D``, by conjugate
        directions. The residual ratio ``r^H w`` over its expected value, (particle,) float64, is 1
        on average where the prior is right.

        Args:
            x: Particles at noise level ``a`` (particle, channel, *space).
            score: Score of the prior there.
        """
        denoised = torch.add(x, score, alpha=self.s**2)
        conditioning = self.target.conditioning_at(denoised, self.variance)
        r, noise_var = conditioning.residual(denoised), conditioning.noise_var
        # Directions so far, their products with the system, their energies.
        done: list[tuple[Tensor, Tensor, Tensor]] = []
        g, explained = torch.zeros_like(x), torch.zeros((), dtype=torch.float64)
        for index in range(self.products):
            p = conditioning.solve(r, self.variance)
            for old, product, energy in done:
                p = p - per_image(inner(p, product) / energy, p) * old
            u = conditioning.adjoint(p)
            ju = self._jacobian_product(x, denoised, u)
            square = noise_var * inner(p, p)
            energy = torch.add(square, _energy(u, ju), alpha=self.s**2).clamp_min(1e-30)
            along = inner(p, r)
            length = along / energy
            g += per_image(length, ju) * ju
            explained = explained.to(along) + along * length
            if index + 1 < self.products:
                product = noise_var * p + self.s**2 * conditioning.forward(ju)
                r = r - per_image(length, p) * product
                done.append((p, product, energy))
        return g, explained / conditioning.measured

    def _jacobian_product(self, x: Tensor, denoised: Tensor, u: Tensor) -> Tensor:
        """``J u`` by a finite difference of the denoiser along ``u``; one network call.

        The length of the difference is a multiple of ``s sqrt(tr J)``, the standard deviation of
        the clean image given ``x``. A fixed multiple of ``s`` would be lost in the rounding errors
        of networks at low precision in high dimension.
        """
        spread = self.s * math.sqrt(max(self.mean_jacobian * u[0].numel(), 1.0))
        d = self.difference_step * spread
        norm = per_image(u.flatten(1).norm(dim=1).clamp_min(1e-20), u)
        moved = torch.addcmul(x, u, d / norm)
        score = self.target.score(moved, self.level)
        difference: Tensor = torch.add(moved, score, alpha=self.s**2).sub_(denoised)
        return difference.mul_(norm / d)


def _energy(u: Tensor, ju: Tensor) -> Tensor:
    """``<u, J u>``, or a positive substitute where no covariance gives such a product.

    A covariance with the largest eigenvalue L has ``<u, J u> >= |J u|^2 / L``. The Jacobian of a
    network has negative products far from its training images; a product near 0 would
    make the step along ``J u`` as large as the noise is small.
    """
    product, square = inner(u, ju), inner(ju, ju)
    return torch.where(product > 0, torch.maximum(product, square / LARGEST_EIGENVALUE), square)
