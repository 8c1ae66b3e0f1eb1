"""Weighted measurements of an operator, and pointwise weights of images."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tiltkit.operators.cg import conjugate_gradient
from tiltkit.operators.spectral import Diagonalised
from tiltkit.protocols import PreconditionedOperator

if TYPE_CHECKING:
    from torch import Tensor

    from tiltkit.protocols import LinearOperator

__all__ = ["Pointwise", "Weighted", "weighted"]

# Smallest weight in the preconditioner, as a fraction of the largest one: it only keeps a division
# by zero away, since values of smaller weight hardly matter.
_SMALLEST_WEIGHT = 1e-4


class Weighted:
    """``W A``: a linear operator whose measurements are multiplied by real weights.

    With the inverse standard deviations of the noise as weights it turns measurements of unequal
    noise into ones of unit noise; weight 0 leaves a value out.

    Args:
        operator: ``A``.
        weights: Real, of a shape that broadcasts against measurements ``(batch, *data)``.
    """

    def __init__(self, operator: LinearOperator, weights: Tensor) -> None:
        self.operator = operator
        self.weights = weights

    def forward(self, x: Tensor) -> Tensor:
        """``W A x``."""
        return self.weights * self.operator.forward(x)

    def adjoint(self, y: Tensor) -> Tensor:
        """``A^H W y``."""
        return self.operator.adjoint(self.weights * y)

    def normal(self, x: Tensor) -> Tensor:
        """``A^H W^2 A x``."""
        return self.adjoint(self.forward(x))

    def solve(self, alpha: float, beta: float, b: Tensor) -> Tensor:
        """``(alpha I + beta A^H W^2 A)^-1 b`` by batched conjugate gradients."""
        return conjugate_gradient(self.normal, b, alpha, beta)[0]

    def data_preconditioner(
        self, variance: Tensor, c: float | Tensor
    ) -> Callable[[Tensor], Tensor] | None:
        """``W^-1 (V W^-2 + c A A^H)^-1 W^-1``, with the operator's approximation of the inverse."""
        if not isinstance(self.operator, PreconditionedOperator):
            return None
        size = self.weights.abs()
        w = size.clamp_min(_SMALLEST_WEIGHT * float(size.max()))
        inner = self.operator.data_preconditioner(variance / w.square(), c)
        return None if inner is None else lambda r: inner(r / w) / w


class Pointwise(Diagonalised):
    """Multiplication of each pixel by a real weight: denoising, masks, flat fields, attenuation.

    Args:
        weights: Real, of the shape of one image ``(channel, *space)``; 0 where nothing is measured.
    """

    def __init__(self, weights: Tensor) -> None:
        self.weights = weights
        self.eigenvalues = weights.square()

    def forward(self, x: Tensor) -> Tensor:
        """``w x``, shaped as the images."""
        return self.weights * x

    def adjoint(self, y: Tensor) -> Tensor:
        """``w y``."""
        return self.weights * y

    def to_spectral(self, x: Tensor) -> Tensor:
        """Images are their own coordinates."""
        return x

    def from_spectral(self, coordinates: Tensor) -> Tensor:
        """Images are their own coordinates."""
        return coordinates


def weighted(operator: LinearOperator, weights: Tensor) -> LinearOperator:
    """``W A``; diagonal where ``A`` is `Pointwise`."""
    if isinstance(operator, Pointwise):
        w = operator.weights
        return Pointwise((w * weights).reshape(w.shape))
    return Weighted(operator, weights)
