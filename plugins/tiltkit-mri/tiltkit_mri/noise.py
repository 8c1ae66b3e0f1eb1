"""Noise covariance of a scan without a noise measurement, and whitening of its coils."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Whitening", "estimate_covariance", "whitening"]

# Most iterations of selection and estimate, as a stop: the selection settles within a few.
_ROUNDS = 20
# A row counts as noise when its energy is within so many standard deviations of pure noise; more
# would let in weak signal, fewer would bias the noise low.
_TOLERANCE = 2.5


@dataclass(frozen=True, slots=True)
class Whitening:
    """Mixes coils so that their noise is white, with the mean noise power kept.

    Attributes:
        matrix: (coil, coil), complex; the identity where the noise is white already.
        noise_level: Standard deviation of the noise per real component, before and after, in the
            file's units.
    """

    matrix: Tensor
    noise_level: float

    def apply(self, data: Tensor) -> Tensor:
        """Mix the first axis of ``data`` (coil, ...)."""
        return torch.einsum("cd,d...->c...", self.matrix, data)


def estimate_covariance(hybrid: Tensor) -> Tensor:
    """Noise covariance of the coils, from image rows that hold no object.

    After the inverse FFT along the readout, rows of air contain noise alone, at every phase
    encoding step. Rows are sorted by their energy, with equal weights of coils; the quietest row
    starts the set, and all rows whose energy pure noise could have join it until the set stays the
    same. Only the outer half of the measured columns is used: the object leaks least into the air
    (ringing, motion) there. Where the object fills the whole readout the quietest rows
    still hold some signal, and the estimate is too high.

    Args:
        hybrid: Measured columns (coil, image row, column), outer half of k-space, complex.

    Returns:
        ``E[n n^H]`` (coil, coil), Hermitian and positive, of both real components together.
    """
    n_coils, _, n_columns = hybrid.shape
    power = hybrid.abs().square().double().mean(dim=2)
    # Equal weights: otherwise coils with a high gain would dominate.
    quiet = power.quantile(0.05, dim=1, keepdim=True)
    energy = (power / quiet.clamp_min(quiet.max() * 1e-9)).mean(dim=0).sort()
    spread = 1 / math.sqrt(n_coils * n_columns)
    least = max(2, math.ceil(2 * n_coils / n_columns))
    count = least
    for _ in range(_ROUNDS):
        level = float(energy.values[:count].median())
        limit = level * (1 + _TOLERANCE * spread)
        grown = max(least, int((energy.values <= limit).sum()))
        if grown == count:
            break
        count = grown
    noise = hybrid[:, energy.indices[:count]].flatten(1)
    covariance = noise @ noise.mH / noise.shape[1]
    # Few samples give a covariance with too large a spread of eigenvalues.
    shrink = min(1.0, n_coils / noise.shape[1])
    diagonal = torch.diag(covariance.diagonal())
    return torch.lerp(covariance, diagonal, torch.tensor(shrink, dtype=covariance.dtype))


def whitening(covariance: Tensor) -> Whitening:
    """The whitening of coils with a noise covariance (coil, coil).

    Raises:
        ValueError: The covariance is not positive: a coil, or a mixture of coils, has no noise.
    """
    mean = float(covariance.diagonal().real.mean())
    factor, failed = torch.linalg.cholesky_ex(covariance / mean)
    if failed:
        raise ValueError("The noise covariance is not positive.")
    identity = torch.eye(len(factor), dtype=factor.dtype, device=factor.device)
    matrix = torch.linalg.solve_triangular(factor, identity, upper=False)
    return Whitening(matrix, math.sqrt(mean / 2))
