"""Likelihoods that are not Gaussian: the force from a Gaussian approximation to the exact one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from tiltkit.likelihoods import GaussianLikelihood, Likelihood

__all__ = ["Correction"]

# Largest force in units of 1 / b. A move then shifts a pixel by at most 3 standard deviations of
# the noise of its level. Chosen by hand.
FORCE_LIMIT = 3.0


@dataclass(frozen=True, slots=True)
class Correction:
    """``D = R - R~``: the exact potential ``R`` beyond that of a Gaussian approximation ``R~``.

    Moves are preconditioned for ``R~``. With the force of ``D`` their target is that of ``R``.

    Attributes:
        exact: The likelihood with potential ``R``.
        approximate: Its Gaussian approximation with potential ``R~``.
    """

    exact: Likelihood
    approximate: GaussianLikelihood

    def force(self, x: Tensor, b: float) -> Tensor:
        """``-grad D`` of images at noise level ``b``, clamped to ``FORCE_LIMIT / b`` per pixel.

        The preconditioner of a move is at most ``b^2``, so that the force moves a pixel by at most
        ``FORCE_LIMIT b``. Without the limit moves diverge at the barriers of ``R`` (a rate of 0, a
        ray brighter than the blank scan), which are much stiffer than ``R~``. The limit goes to
        infinity as ``b`` goes to 0.
        """
        force = self.approximate.gradient(x) - self.exact.gradient(x)
        return force.clamp_(-FORCE_LIMIT / b, FORCE_LIMIT / b)
