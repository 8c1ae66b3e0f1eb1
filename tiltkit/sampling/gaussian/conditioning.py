"""The linear-Gaussian algebra of one noise level: tilted prediction, its weight, Langevin moves.

Names follow the mathematics: ``N = A^H A``, potentials ``R_s`` with covariance
``S_s = noise_var I + s^2 A A^H``; ``b`` is the noise level of the prior. Particles are held in
the tilt's own coordinates: spectral where ``N`` is diagonalised (then everything is elementwise),
plain images elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from tiltkit.operators.bands import Bands
    from tiltkit.sampling.particles.rng import ParticleRng

__all__ = ["LastNoise", "Step", "Conditioning"]


@dataclass(frozen=True, slots=True)
class LastNoise:
    """The newest noise in particles, independent of all that was there before: ``spread * xi``.

    Attributes:
        spread: Standard deviation, of a shape that broadcasts against the particles.
        xi: White noise (particle, ...); coloured by `IterativeConditioning`, with a spread of 1.
        kernel: Variance ``v`` of the prediction that it comes from.
    """

    spread: Tensor
    xi: Tensor
    kernel: float

    def at(self, rows: slice | Tensor) -> LastNoise:
        """That of some particles."""
        return replace(self, xi=self.xi[rows])


@dataclass(frozen=True, slots=True)
class Step:
    """The Gaussian of one step: ``N(m, v I) exp(-R_s)``, normalised.

    Attributes:
        v: Variance of the prior's kernel; ``b^2`` for Langevin moves at noise level ``b``.
        s: Level of the potential.
        length: Of a Langevin move, in relaxation times of a Gaussian with the covariance
            ``P = (I / v + A^H S_s^-1 A)^-1``.
    """

    v: float
    s: float
    length: float = 0.0


class Conditioning(Protocol):
    """What samplers need of a linear-Gaussian likelihood."""

    iterations: int
    normalised: ClassVar[bool]

    def coordinates(self, x: Tensor) -> Tensor:
        """Images (particle, channel, *space) in the tilt's coordinates."""
        ...

    def image(self, c: Tensor) -> Tensor:
        """Coordinates back to images."""
        ...

    def potential(self, c: Tensor, s: float) -> Tensor:
        """``R_s`` up to a constant shared by all particles, float64 (particle,).

        Where `normalised`, the constant is shared by all levels too: ``-log N(y; A x, S_s)``.
        """
        ...

    bands: Bands

    def likelihood_score(self, c: Tensor, variance: Sequence[float]) -> tuple[Tensor, Tensor]:
        """``A^H S^-1 (y - A x)`` and the potential, with ``S = noise_var I + A C A^H``.

        Args:
            c: Particles.
            variance: The diagonal of ``C``, one value for each of the `bands`.
        """
        ...

    def weighted_residual(self, c: Tensor, variance: Sequence[float]) -> Tensor:
        """``r^H S^-1 r`` of the residual, ``S`` as in `likelihood_score`, float64 (particle,)."""
        ...

    def line_search(self, c: Tensor, direction: Tensor) -> Tensor:
        """The multiple (particle,) of a direction that brings ``c`` nearest to the data.

        ``(A d)^H (y - A c) / |A d|^2``, float64.
        """
        ...

    def white(self, rng: ParticleRng, rows: slice) -> Tensor:
        """White noise."""
        ...

    def predict(
        self, m: Tensor, step: Step, rng: ParticleRng, rows: slice
    ) -> tuple[Tensor, LastNoise, Tensor]:
        """A draw from ``N(m, v I) exp(-R_s)``, the noise in it, and the log of its normaliser.

        The logarithm is float64 (particle,), up to the constant of `potential`.
        """
        ...

    def move(
        self,
        c: Tensor,
        score: Tensor,
        step: Step,
        last_noise: LastNoise | None,
        rng: ParticleRng,
        rows: slice,
    ) -> tuple[Tensor, LastNoise | None]:
        """One preconditioned Langevin step towards ``p_b exp(-R_s)``, and its newest noise.

        ``x + e P grad + K n + rest``, where ``n`` is the newest noise in ``x`` and ``K n`` has
        the covariance ``e P / 2`` with it: then the variance of the target is kept in every
        direction of a Gaussian, however much wider than ``P`` it is, and not only where ``P``
        fits, as without ``n``. This is Leimkuhler and Matthews' scheme (Appl. Math. Res. Express
        2013) for any ``n``.
        """
        ...
