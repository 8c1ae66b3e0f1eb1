"""Protocols of likelihoods, which plugins may implement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from tiltkit.likelihoods.gaussian import GaussianLikelihood

if TYPE_CHECKING:
    from torch import Tensor

    from tiltkit.protocols import Operator

__all__ = ["Approximable", "Likelihood", "MomentMatched", "linear_gaussian"]


@runtime_checkable
class Likelihood(Protocol):
    """A differentiable potential ``R(x) = -log p(y | x)``."""

    def potential(self, x: Tensor) -> Tensor:
        """``R`` of images (batch, channel, *space) up to a constant, (batch,) float64."""
        ...

    def gradient(self, x: Tensor) -> Tensor:
        """Gradient of ``R``, shaped as ``x``."""
        ...

    def chi2(self, x: Tensor) -> Tensor:
        """Squared residual over noise variance per measured real component, (batch,).

        Its expected value at the true image is 1.
        """
        ...


@runtime_checkable
class Approximable(Likelihood, Protocol):
    """A likelihood with a Gaussian approximation, which preconditions moves and projections."""

    def approximation(self) -> GaussianLikelihood:
        """A linear-Gaussian likelihood with a potential ``R~`` near ``R``, from the data alone."""
        ...


@runtime_checkable
class MomentMatched(Approximable, Protocol):
    """A likelihood with a local Gaussian approximation: best for samplers that denoise.

    Attributes:
        operator: The linear forward operator ``A``.
    """

    operator: Operator

    def matched(self, mean: Tensor, variance: Tensor) -> GaussianLikelihood:
        """Gaussian approximation where ``A x`` has a mean (particle, *data) and a variance.

        Data and noise of the approximation may differ from particle to particle.
        """
        ...


def linear_gaussian(likelihood: Likelihood) -> GaussianLikelihood | None:
    """The likelihood where it is linear-Gaussian, else its approximation, else None."""
    if isinstance(likelihood, GaussianLikelihood):
        return likelihood
    return likelihood.approximation() if isinstance(likelihood, Approximable) else None
