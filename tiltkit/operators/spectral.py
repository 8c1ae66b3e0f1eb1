"""Operators whose ``A^H A`` is diagonalised once, so that every solve is cheap."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Dense", "Diagonalised"]


class Diagonalised(ABC):
    """Base of operators with ``A^H A = U diag(eigenvalues) U^H``; see `SpectralOperator`."""

    eigenvalues: Tensor

    @abstractmethod
    def to_spectral(self, x: Tensor) -> Tensor:
        """``U^H x``."""

    @abstractmethod
    def from_spectral(self, coordinates: Tensor) -> Tensor:
        """``U c``."""

    def spectral_white(self, xi: Tensor) -> Tensor:
        """Spectral coordinates of white noise images ``xi``."""
        return self.to_spectral(xi)

    def normal(self, x: Tensor) -> Tensor:
        """``A^H A x``."""
        return self.from_spectral(self.eigenvalues * self.to_spectral(x))

    def solve(self, alpha: float, beta: float, b: Tensor) -> Tensor:
        """``(alpha I + beta A^H A)^-1 b``."""
        return self.from_spectral(self.to_spectral(b) / (alpha + beta * self.eigenvalues))


class Dense(Diagonalised):
    """A matrix acting on flattened real images; for small problems with known answers.

    Args:
        matrix: (data, pixel) real matrix.
        shape: Image shape ``(channel, *space)`` whose product is ``pixel``.
    """

    def __init__(self, matrix: Tensor, shape: tuple[int, ...]) -> None:
        self.matrix = matrix
        self.shape = shape
        values, self._vectors = torch.linalg.eigh(matrix.T @ matrix)
        self.eigenvalues = values.clamp_min(0)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, *shape) to (batch, data)."""
        return x.flatten(1) @ self.matrix.T

    def adjoint(self, y: Tensor) -> Tensor:
        """(batch, data) to (batch, *shape)."""
        return torch.reshape(y @ self.matrix, (-1, *self.shape))

    def to_spectral(self, x: Tensor) -> Tensor:
        """(batch, *shape) to (batch, pixel)."""
        coordinates: Tensor = x.flatten(1) @ self._vectors
        return coordinates

    def from_spectral(self, coordinates: Tensor) -> Tensor:
        """(batch, pixel) to (batch, *shape)."""
        return torch.reshape(coordinates @ self._vectors.T, (-1, *self.shape))

    def spectral_white(self, xi: Tensor) -> Tensor:
        """White noise stays white under a rotation."""
        return xi.flatten(1)
