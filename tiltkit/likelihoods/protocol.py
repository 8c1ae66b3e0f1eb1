"""What the engine asks of a likelihood; plugins may bring their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from tiltkit.likelihoods.gaussian import GaussianLikelihood

if TYPE_CHECKING:
    from torch import Tensor

    from tiltkit.protocols import Operator

__all__ = ["Approximable", "Likelihood", "Softenable", "linear_gaussian"]


@runtime_checkable
class Likelihood(Protocol):
    """Any differentiable potential. Linear-Gaussian ones get exact treatment by the engine."""

    def potential(self, x: Tensor) -> Tensor:
        """``R`` of images (batch, channel, *space), one float64 value each, up to a constant."""
        ...

    def gradient(self, x: Tensor) -> Tensor:
        """Gradient of ``R`` at ``x``, same shape."""
        ...

    def chi2(self, x: Tensor) -> Tensor:
        """Squared residual over noise variance per measured real component, one value each.

        Its expected value at the true image is 1.
        """
        ...


@runtime_checkable
class Approximable(Likelihood, Protocol):
    """A likelihood with a Gaussian near it, so that weighted samplers can start from that one."""

    def approximation(self) -> GaussianLikelihood:
        """A linear-Gaussian likelihood ``R~`` near this one, made from the data alone."""
        ...


@runtime_checkable
class Softenable(Approximable, Protocol):
    """A likelihood that knows what it is where ``A x`` carries noise: it is sampled best.

    Attributes:
        operator: The linear forward operator ``A``.
    """

    operator: Operator

    def softened(self, variance: float) -> Approximable:
        """Its potential where the noise of ``A x`` has a variance: smoother, less curved."""
        ...


def linear_gaussian(likelihood: Likelihood) -> GaussianLikelihood | None:
    """The likelihood itself where it is linear-Gaussian, its approximation, or None."""
    if isinstance(likelihood, GaussianLikelihood):
        return likelihood
    return likelihood.approximation() if isinstance(likelihood, Approximable) else None
