"""Gaussian conditioning: the linear-Gaussian algebra of one noise level.

Symbols, here and in the implementations `DiagonalConditioning` and `IterativeConditioning`:

    y = A x + noise, noise_var     the measurement and its noise variance per real component
    N = A^H A
    S_s = noise_var I + s^2 A A^H  covariance of the data given an image with noise of level s
    R_s(x) = 1/2 (y - A x)^H S_s^-1 (y - A x)           potential of level s; R_0 = -log p(y | x)
    P = (I / v + A^H S_s^-1 A)^-1  covariance of ``N(m, v I) exp(-R_s)``; preconditioner of moves

Particles are held in the coordinates of the implementation: spectral ones where ``N`` is
diagonalised, so that all operations are elementwise, and images elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from tiltkit.operators.bands import Bands
    from tiltkit.sampling.particles.rng import ParticleRng

__all__ = ["FEWEST_IN_SHELL", "MAX_CONDITION", "Conditioning", "LastNoise", "Step"]

# Fewest coefficients of a shell. Measured with the spectrum of images at 32x32 and noise 0.3: with
# 64 coarse detail had 0.84 of its variance, with 16 0.92, with 4 and with 2 0.97.
FEWEST_IN_SHELL = 4
# Largest condition number of a data covariance that is solved with. Chosen by hand: conjugate
# gradients in single precision still converge there.
MAX_CONDITION = 1e4


@dataclass(frozen=True, slots=True)
class LastNoise:
    """The last injected Gaussian noise ``spread * xi``, independent of the particles before it.

    Attributes:
        spread: Standard deviation; broadcasts against the particles.
        xi: White noise (particle, ...); in `IterativeConditioning` coloured, with ``spread`` 1.
        kernel_variance: Variance ``v`` of the kernel ``N(m, v I)`` that was conditioned.
    """

    spread: Tensor
    xi: Tensor
    kernel_variance: float

    def at(self, rows: slice | Tensor) -> LastNoise:
        """The noise of the particles ``rows``."""
        return replace(self, xi=self.xi[rows])


@dataclass(frozen=True, slots=True)
class Step:
    """Parameters of the Gaussian ``N(m, v I) exp(-R_s)`` of one step.

    Attributes:
        v: Variance of the prior's kernel; ``b^2`` for Langevin moves at noise level ``b``.
        s: Noise level of the potential ``R_s``.
        length: Length of a Langevin move in relaxation times of a Gaussian with covariance ``P``;
            0 for predictions.
        mean_jacobian: Mean diagonal of the denoiser's Jacobian at the level of a Langevin move;
            0 where unknown.
    """

    v: float
    s: float
    length: float = 0.0
    mean_jacobian: float = 0.0


class Conditioning(Protocol):
    """Linear-Gaussian algebra of one likelihood.

    Attributes:
        iterations: Solver iterations so far; 0 without a solver.
        bands: Groups of coordinates with one error variance each.
        shells: Bands of spatial frequency of images, finer at low frequencies than `bands`.
        noise_var: Noise variance per real component.
        measured: Number of real measured values that depend on the image.
    """

    iterations: int
    bands: Bands
    shells: Bands
    noise_var: float
    measured: float

    def coordinates(self, x: Tensor) -> Tensor:
        """Coordinates (particle, ...) of images (particle, channel, *space)."""
        ...

    def image(self, c: Tensor) -> Tensor:
        """Images (particle, channel, *space) of coordinates (particle, ...)."""
        ...

    def potential(self, c: Tensor, s: float) -> Tensor:
        """``R_s`` up to a constant that all particles share, (particle,) float64."""
        ...

    def likelihood_score(
        self, c: Tensor, variance: Sequence[float] | Tensor
    ) -> tuple[Tensor, Tensor]:
        """Likelihood score ``A^H S^-1 (y - A x)`` and potential for ``S = noise_var I + A C A^H``.

        Args:
            c: Particles (particle, ...).
            variance: Diagonal of the error covariance ``C``, one value for each of the `bands`. A
                tensor stays on its device; its values must not change after the call.

        Returns:
            The score, shaped as ``c``, and the potential, (particle,) float64.
        """
        ...

    def residual_ratio(self, c: Tensor, variance: Sequence[float] | Tensor) -> Tensor:
        """``r^H S^-1 r`` of ``r = y - A x`` over its expected value, (particle,) float64.

        The expected value is for residuals with the covariance ``S`` of `likelihood_score`.
        """
        ...

    def step_length(self, c: Tensor, direction: Tensor) -> Tensor:
        """Multiple of ``direction`` that minimises ``|y - A x|^2``, (particle,) float64.

        This is the least-squares step length ``(A d)^H (y - A x) / |A d|^2``.
        """
        ...

    def white_noise(self, rng: ParticleRng, rows: slice) -> Tensor:
        """Coordinates of white noise images of variance 1, for the particles ``rows``."""
        ...

    def predict(
        self, m: Tensor, step: Step, rng: ParticleRng, rows: slice
    ) -> tuple[Tensor, LastNoise, Tensor]:
        """Samples of ``N(m, v I) exp(-R_s) / Z(m)``, their noise, and ``log Z(m)``.

        Args:
            m: Mean of the prior's kernel (particle, ...).
            step: ``v`` and ``s``.
            rng: Randomness.
            rows: The particles of this chunk.

        Returns:
            Samples shaped as ``m``; the noise in them; ``log Z``, (particle,) float64, up to the
            constant of `potential`.
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
        """One preconditioned Langevin move towards ``p_b exp(-R_s)``, and its noise.

        ``x + e P g + K n + rest``, with ``e = 1 - exp(-length)``, ``g`` the gradient of the log of
        the target and ``n`` the last noise in ``x``. ``K n`` has the covariance ``e P / 2`` with
        ``n``. The move then keeps the variance of a Gaussian target in every direction, also where
        the target is much wider than ``P``. Without ``n`` it does so only where the target's
        covariance is ``P``. This generalises the scheme of Leimkuhler and Matthews (Appl. Math.
        Res. Express 2013).

        Args:
            c: Particles (particle, ...).
            score: Score of the noised prior at ``c``, shaped as ``c``.
            step: ``v = b^2``, ``s`` and the length.
            last_noise: Last noise in ``c``; None where it is not known.
            rng: Randomness.
            rows: The particles of this chunk.
        """
        ...

    def residual(self, x: Tensor) -> Tensor:
        """``y - A x`` of images, in data coordinates (particle, *data).

        Data coordinates have white noise of variance ``noise_var``. Directions that no image
        reaches may be left out.
        """
        ...

    def forward(self, x: Tensor) -> Tensor:
        """``A x`` of images, in data coordinates."""
        ...

    def adjoint(self, w: Tensor) -> Tensor:
        """``A^H w``: images of data coordinates."""
        ...

    def solve(self, r: Tensor, variance: Sequence[float], *, rough: bool = True) -> Tensor:
        """``(noise_var I + A C A^H)^-1 r``, approximately.

        Args:
            r: Data coordinates (particle, *data).
            variance: ``C``: one value for each of the `shells`.
            rough: A direction that is close to the solution will do.
        """
        ...

    def data_noise(self, rng: ParticleRng, rows: slice) -> Tensor:
        """Noise of the measurement, in data coordinates (particle, *data)."""
        ...

    def conditioned_noise(self, variance: Sequence[float], rng: ParticleRng, rows: slice) -> Tensor:
        """Images ``u - K (A u + e)``: noise of about the covariance of an image given the data.

        ``u ~ N(0, C)``, ``e`` is noise of the data. With ``K = C A^H (noise_var I + A C A^H)^-1``
        the covariance is ``(C^-1 + A^H A / noise_var)^-1``; other ``K`` give a larger one.

        Args:
            variance: ``C``: one value for each of the `shells`.
            rng: Randomness.
            rows: The particles of the chunk.
        """
        ...
