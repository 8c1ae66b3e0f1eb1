"""Gaussian conditioning for any linear operator, by iterative solves.

Symbols: `tiltkit.sampling.gaussian.conditioning`.
"""

from __future__ import annotations

import math
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import torch

from tiltkit.operators.bands import Bands
from tiltkit.operators.cg import conjugate_gradient, norm_squared
from tiltkit.operators.inner import inner
from tiltkit.protocols import PreconditionedOperator
from tiltkit.sampling.gaussian.conditioning import (
    FEWEST_IN_SHELL,
    MAX_CONDITION,
    LastNoise,
    Step,
)
from tiltkit.sampling.gaussian.diagonal import shaped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from tiltkit.likelihoods import GaussianLikelihood
    from tiltkit.sampling.particles.rng import ParticleRng

__all__ = ["IterativeConditioning"]

# Error of a residual ratio that solves may leave. Chosen by hand: far below the limit of 1.4 that
# it is compared with.
RATIO_ERROR = 0.01
# Squared error of solves for the error covariance of denoised images, in units of the system, over
# the number of measured values: of a search direction, and of noise.
ROUGH_ERROR, EXACT_ERROR = 0.01, 1e-3


class IterativeConditioning:
    """Algebra for any linear operator, by batched solves with ``noise_var I + c A A^H``.

    Solves are in data space. Directions that are not measured are therefore exact, however small
    the noise, and potentials are inner products. Noise of covariance ``P`` is ``P`` applied to
    noise of covariance ``P^-1``: white noise of variance ``1 / v``, and ``A^H S_s^-1`` applied to
    noise of covariance ``S_s``.

    Coordinates are images. Bands are shells of spatial frequency.

    Where the noise of the image is far above that of the data, ``S_s`` is nearly singular, and
    conjugate gradients do not converge in single precision. There the noise variance in ``S_s`` is
    raised until its condition number is `MAX_CONDITION`. This is allowed because potentials with
    ``s > 0`` are free to choose; only ``R_0`` must be exact.

    Args:
        likelihood: The linear-Gaussian likelihood.
        shape: Shape of an image (channel, *space).
        dtype: Real type of the particles.
        potential_error: Error of a potential that solves may leave, in nats per measured value.
        sample_error: Error of a sample that solves may leave, in posterior standard deviations of a
            pixel (root mean square).
    """

    def __init__(
        self,
        likelihood: GaussianLikelihood,
        shape: tuple[int, ...],
        dtype: torch.dtype,
        potential_error: float = 3e-3,
        sample_error: float = 0.01,
    ) -> None:
        self._operator = likelihood.operator
        self._y, self.noise_var = likelihood.y, likelihood.noise_var
        self._shape, self._dtype = shape, dtype
        self.measured = float(likelihood.measured)
        # Squared errors in units of the system, see `conjugate_gradient`.
        self._potential_error = 2 * potential_error * self.measured
        self._sample_error = sample_error**2 * math.prod(shape)
        self._ratio_error = RATIO_ERROR * self.measured
        self.bands = Bands.shells(shape, likelihood.y.device)
        self.shells = Bands.shells(shape, likelihood.y.device, FEWEST_IN_SHELL)
        self._expected = lru_cache(maxsize=1)(self._expected_square)  # the same for all chunks
        self.iterations = 0

    def coordinates(self, x: Tensor) -> Tensor:
        """Images are their own coordinates."""
        return x

    def image(self, c: Tensor) -> Tensor:
        """Images are their own coordinates."""
        return c

    def potential(self, c: Tensor, s: float) -> Tensor:
        """See `Conditioning`."""
        return self.likelihood_score(c, [s**2] * self.bands.count)[1]

    def likelihood_score(
        self, c: Tensor, variance: Sequence[float] | Tensor
    ) -> tuple[Tensor, Tensor]:
        """See `Conditioning`; one solve for both."""
        r = self._y - self._operator.forward(c)
        solved = self._solve(*self._covariance(variance), r, self._potential_error)
        return self._operator.adjoint(solved), _energy(r, solved)

    def residual_ratio(self, c: Tensor, variance: Sequence[float] | Tensor) -> Tensor:
        """See `Conditioning`; one more solve."""
        variance = _numbers(variance)
        r = self._y - self._operator.forward(c)
        solved = self._solve(*self._covariance(variance), r, self._ratio_error)
        return 2 * _energy(r, solved) / self._expected(variance)

    def residual(self, x: Tensor) -> Tensor:
        """See `Conditioning`; data coordinates are measurements."""
        return self._y - self._operator.forward(x)

    def forward(self, x: Tensor) -> Tensor:
        """See `Conditioning`."""
        return self._operator.forward(x)

    def adjoint(self, w: Tensor) -> Tensor:
        """See `Conditioning`."""
        return self._operator.adjoint(w)

    def solve(self, r: Tensor, variance: Sequence[float], *, rough: bool = True) -> Tensor:
        """See `Conditioning`."""
        noise_var = self._noise_at(max(variance))
        error = ROUGH_ERROR if rough else EXACT_ERROR
        return self._solve(self.shells.broadcast(variance), noise_var, r, error * self.measured)

    def data_noise(self, rng: ParticleRng, rows: slice) -> Tensor:
        """See `Conditioning`."""
        return self._data_noise(0.0, rng, rows)

    def conditioned_noise(self, variance: Sequence[float], rng: ParticleRng, rows: slice) -> Tensor:
        """See `Conditioning`; one solve."""
        u = shaped(rng.normal(rows, self._shape, self._dtype), self.shells, variance)
        d = self._operator.forward(u) + self._data_noise(0.0, rng, rows)
        back = self._operator.adjoint(self.solve(d, variance, rough=False))
        return u - self.shells.scale(back, self.shells.broadcast(variance))

    def _expected_square(self, variance: tuple[float, ...]) -> float:
        """``E[r^H S^-1 r]`` for residuals whose covariance is ``S`` without the raised noise.

        This is the number of measured values where `_noise_at` adds nothing. Otherwise it is a
        trace, estimated by one solve with random signs (Hutchinson).
        """
        covariance, noise_var = self._covariance(variance)
        excess = noise_var - self.noise_var
        if excess <= 0:
            return float(self.measured)
        signs = self._random_signs
        solved = self._solve(covariance, noise_var, signs, self._ratio_error)
        dependent = float(2 * _energy(signs, signs))
        independent = (self.measured - dependent) * self.noise_var / noise_var
        return independent + dependent - excess * float(2 * _energy(signs, solved))

    def step_length(self, c: Tensor, direction: Tensor) -> Tensor:
        """See `Conditioning`."""
        r, ad = self._y - self._operator.forward(c), self._operator.forward(direction)
        return _energy(r, ad) / _energy(ad, ad).clamp_min(1e-30)

    def _covariance(self, variance: Sequence[float] | Tensor) -> tuple[Tensor | float, float]:
        """``C`` of the variances per band, and the noise variance in ``S``, as `_solve` needs."""
        variance = _numbers(variance)
        largest = max(variance)
        c = self.bands.broadcast(variance) if min(variance) < largest else largest
        return c, self._noise_at(largest)

    @cached_property
    def _random_signs(self) -> Tensor:
        """Random signs (1, *data); 0 for data that do not depend on the image."""
        g = torch.Generator().manual_seed(0)
        image = torch.randn((1, *self._shape), generator=g, dtype=self._dtype).to(self._y.device)
        data = self._operator.forward(image)
        parts = torch.view_as_real(data) if data.is_complex() else data
        signs = torch.randn(parts.shape, generator=g, dtype=self._dtype).sign().to(parts.device)
        signs = torch.where(parts == 0, 0.0, signs)
        return torch.view_as_complex(signs) if data.is_complex() else signs

    def white_noise(self, rng: ParticleRng, rows: slice) -> Tensor:
        """See `Conditioning`."""
        return rng.normal(rows, self._shape, self._dtype)

    def predict(
        self, m: Tensor, step: Step, rng: ParticleRng, rows: slice
    ) -> tuple[Tensor, LastNoise, Tensor]:
        """See `Conditioning`; one solve for mean and ``log Z``, one for the noise."""
        v, s2 = step.v, step.s**2
        r = self._y - self._operator.forward(m)
        error = min(self._potential_error, self._sample_error * s2 / v)
        solved = self._solve(s2 + v, self._noise_at(s2), r, error)
        one = torch.ones((), dtype=m.dtype, device=m.device)
        last_noise = LastNoise(one, self._noise(v, step.s, rng, rows), v)
        mean = m + v * self._operator.adjoint(solved)
        return mean + last_noise.xi, last_noise, -_energy(r, solved)

    def move(
        self,
        c: Tensor,
        score: Tensor,
        step: Step,
        last_noise: LastNoise | None,
        rng: ParticleRng,
        rows: slice,
    ) -> tuple[Tensor, None]:
        """See `Conditioning`.

        With ``n ~ N(0, Q^-1)``, ``Q = I / kernel_variance + A^H S_s^-1 A``, ``K`` is ``e/2 P Q``
        and the rest has the covariance ``e P - e^2/4 P Q P``. One solve serves drift and noise, so
        that the noise alone is not known and the move returns None for it.

        Where no last noise is known, moves of noise ``(2 e - e^2) P`` would leave too little
        variance where the prior is wider than its kernel: of a Gaussian of variance ``v / r`` in
        directions without data, ``e (2 - e r)`` leaves the right one, with ``r = 1 - J`` and the
        mean Jacobian for ``J``.
        """
        v, s2 = step.v, step.s**2
        e = -math.expm1(-step.length)
        if last_noise is not None:
            e = min(e, 2 * last_noise.kernel_variance / v)
        q, kept = e * score, torch.zeros_like(c)
        d = e * (self._y - self._operator.forward(c))
        if last_noise is None:
            image_part = e * (2 - e * (1 - step.mean_jacobian)) / v
            data_part = e * (2 - e)
        else:
            kept = e / 2 * last_noise.xi
            q = q + e / 2 * (1 / last_noise.kernel_variance - 1 / v) * last_noise.xi
            image_part = e / v - e**2 / (4 * last_noise.kernel_variance)
            data_part = e - e**2 / 4
        q = q + math.sqrt(image_part) * rng.normal(rows, self._shape, self._dtype)
        d = d + math.sqrt(data_part) * self._data_noise(step.s, rng, rows)
        return c + kept + self._precondition(v, s2, q, d), None

    def _noise(self, v: float, s: float, rng: ParticleRng, rows: slice) -> Tensor:
        """Noise of covariance ``P``, shaped as a chunk of images."""
        d = self._data_noise(s, rng, rows)
        q = rng.normal(rows, self._shape, self._dtype) / math.sqrt(v)
        return self._precondition(v, s**2, q, d)

    def _precondition(self, v: float, s2: float, q: Tensor, d: Tensor) -> Tensor:
        """``P q + P A^H S_s^-1 d`` of images ``q`` and data ``d``, by one solve.

        It equals ``v q + v A^H (noise_var I + (v + s^2) A A^H)^-1 (d - v A q)``. In units of ``P``
        the error is ``v / (noise_var / |A|^2 + s^2)`` times that of the solve.
        """
        d = d - v * self._operator.forward(q)
        solved = self._solve(s2 + v, self._noise_at(s2), d, self._sample_error * s2 / v)
        return v * (q + self._operator.adjoint(solved))

    def _data_noise(self, s: float, rng: ParticleRng, rows: slice) -> Tensor:
        """Noise of covariance ``S_s`` (particle, *data)."""
        shape = tuple(self._y.shape[1:])
        if self._y.is_complex():
            xi = torch.view_as_complex(rng.normal(rows, (*shape, 2), self._dtype))
        else:
            xi = rng.normal(rows, shape, self._dtype)
        noise = math.sqrt(self._noise_at(s**2)) * xi
        if s == 0:
            return noise
        return noise + s * self._operator.forward(rng.normal(rows, self._shape, self._dtype))

    def _noise_at(self, s2: float) -> float:
        """Noise variance in ``S_s``: that of the data, or what `MAX_CONDITION` needs."""
        return max(self.noise_var, s2 * self._norm / MAX_CONDITION) if s2 > 0 else self.noise_var

    @cached_property
    def _norm(self) -> float:
        """Largest eigenvalue of ``A^H A``."""
        g = torch.Generator().manual_seed(0)
        start = torch.randn((1, *self._shape), generator=g, dtype=self._dtype)
        return norm_squared(self._operator, start.to(self._y.device))

    def _solve(self, c: float | Tensor, noise_var: float, r: Tensor, error: float) -> Tensor:
        """``(noise_var I + A C A^H)^-1 r`` by preconditioned conjugate gradients.

        Args:
            c: Diagonal of ``C``: a number, or one for each Hartley coefficient.
            noise_var: Noise variance in the system.
            r: Right-hand sides (particle, *data).
            error: Squared error of the solution in the norm of the system, per particle.
        """
        operator = self._operator
        precondition = None
        has_image_part = isinstance(c, torch.Tensor) or c > 0
        if has_image_part and isinstance(operator, PreconditionedOperator):
            variance = torch.full_like(self._y.real, noise_var)
            precondition = operator.data_preconditioner(variance, c)
        x, iterations = conjugate_gradient(
            lambda u: operator.forward(self.shells.scale(operator.adjoint(u), c)),
            r,
            noise_var,
            float(has_image_part),
            rtol=4 * torch.finfo(r.dtype).eps,
            max_iter=2000,
            precondition=precondition or (lambda u: u / noise_var),
            energy=error,
        )
        self.iterations += iterations
        return x


def _numbers(variance: Sequence[float] | Tensor) -> tuple[float, ...]:
    """Variances per band as numbers, on which a solve depends."""
    return tuple(variance.tolist() if isinstance(variance, torch.Tensor) else variance)


def _energy(r: Tensor, solved: Tensor) -> Tensor:
    """``Re(r^H solved) / 2``, (particle,) float64."""
    return inner(r, solved) / 2
