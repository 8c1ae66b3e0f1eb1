"""The algebra of a level for any linear operator: iterative solves. Names as in `Conditioning`."""

from __future__ import annotations

import math
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, ClassVar

import torch

from tiltkit.operators.bands import Bands
from tiltkit.operators.cg import conjugate_gradient, norm_squared
from tiltkit.protocols import PreconditionedOperator
from tiltkit.sampling.gaussian.conditioning import LastNoise, Step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from tiltkit.likelihoods import GaussianLikelihood
    from tiltkit.sampling.particles.rng import ParticleRng

__all__ = ["IterativeConditioning"]

# Error of a misfit that solves may leave.
_JUDGING = 0.01
# Largest over smallest eigenvalue of a covariance of the data that solves still have to do with.
_CONDITION = 1e4


class IterativeConditioning:
    """Algebra for any linear operator, through batched solves with ``noise_var I + c A A^H``.

    Solves are those of measurements, not of images: what the data do not see is exact, however
    small the noise, and potentials are plain inner products. Draws with covariance
    ``(I / v + A^H S_s^-1 A)^-1`` are ``P`` applied to noise of its inverse: white noise, and noise
    of covariance ``S_s`` in data space pulled back by ``A^H S_s^-1``.

    Solves stop where what is left out is too small to matter: ``weighing`` nats of a potential
    for each measured value, and ``drawing`` standard deviations of a pixel (root mean square).

    Bands are shells of spatial frequency, which most operators see in the order of their radius.

    Noise of the image far above that of the data makes ``S_s`` nearly singular: iterations grow
    without end, and single precision cannot tell the two apart. There ``S_s`` has more noise than
    the data, as much as keeps its condition number at ``_CONDITION``: potentials at high noise are
    free to choose, only the last, at s = 0, is that of the data.
    """

    normalised: ClassVar[bool] = False  # determinants are out of reach of iterative solves

    def __init__(
        self,
        likelihood: GaussianLikelihood,
        shape: tuple[int, ...],
        dtype: torch.dtype,
        weighing: float = 3e-3,
        drawing: float = 0.01,
    ) -> None:
        self._operator = likelihood.operator
        self._y, self._noise_var = likelihood.y, likelihood.noise_var
        self._shape, self._dtype = shape, dtype
        self._measured = likelihood.measured
        self._weighing = 2 * weighing * self._measured
        self._drawing = drawing**2 * math.prod(shape)
        self._judging = _JUDGING * self._measured
        self.bands = Bands.shells(shape, likelihood.y.device)
        self._expected = lru_cache(maxsize=1)(self._expected_energy)  # the same for all chunks
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

    def likelihood_score(self, c: Tensor, variance: Sequence[float]) -> tuple[Tensor, Tensor]:
        """See `Conditioning`; one solve for both."""
        r = self._y - self._operator.forward(c)
        solved = self._solve(*self._spread(variance), r, self._weighing)
        return self._operator.adjoint(solved), _energy(r, solved)

    def weighted_residual(self, c: Tensor, variance: Sequence[float]) -> Tensor:
        """See `Conditioning`; another solve."""
        r = self._y - self._operator.forward(c)
        solved = self._solve(*self._spread(variance), r, self._judging)
        return 2 * _energy(r, solved) / self._expected(tuple(variance))

    def _expected_energy(self, variance: tuple[float, ...]) -> float:
        """Of ``r^H S^-1 r``, for residuals whose covariance is S less what `_noise_at` adds.

        Without that it is the number of measured values, with it another solve.
        """
        spread, noise_var = self._spread(variance)
        excess = noise_var - self._noise_var
        if excess <= 0:
            return float(self._measured)
        difference_step = self._probe
        answer = self._solve(spread, noise_var, difference_step, self._judging)
        alive = float(2 * _energy(difference_step, difference_step))
        blind = (self._measured - alive) * self._noise_var / noise_var
        return blind + alive - excess * float(2 * _energy(difference_step, answer))

    def line_search(self, c: Tensor, direction: Tensor) -> Tensor:
        """See `Conditioning`."""
        r, likelihood_term_at = (
            self._y - self._operator.forward(c),
            self._operator.forward(direction),
        )
        return _energy(r, likelihood_term_at) / _energy(
            likelihood_term_at, likelihood_term_at
        ).clamp_min(1e-30)

    def _spread(self, variance: Sequence[float]) -> tuple[Tensor | float, float]:
        """``C`` and the white part of ``S`` of variances by band."""
        largest = max(variance)
        spread = self.bands.spread_out(variance) if min(variance) < largest else largest
        return spread, self._noise_at(largest)

    @cached_property
    def _probe(self) -> Tensor:
        """Random signs (1, *data) where the data depend on the image at all, zero elsewhere."""
        g = torch.Generator().manual_seed(0)
        image = torch.randn((1, *self._shape), generator=g, dtype=self._dtype).to(self._y.device)
        likelihood_term_at = self._operator.forward(image)
        parts = (
            torch.view_as_real(likelihood_term_at)
            if likelihood_term_at.is_complex()
            else likelihood_term_at
        )
        signs = torch.randn(parts.shape, generator=g, dtype=self._dtype).sign().to(parts.device)
        difference_step = torch.where(parts == 0, 0.0, signs)
        return (
            torch.view_as_complex(difference_step)
            if likelihood_term_at.is_complex()
            else difference_step
        )

    def white(self, rng: ParticleRng, rows: slice) -> Tensor:
        """See `Conditioning`."""
        return rng.normal(rows, self._shape, self._dtype)

    def predict(
        self, m: Tensor, step: Step, rng: ParticleRng, rows: slice
    ) -> tuple[Tensor, LastNoise, Tensor]:
        """See `Conditioning`; one solve for mean and normaliser."""
        v, s2 = step.v, step.s**2
        r = self._y - self._operator.forward(m)
        energy = min(self._weighing, self._drawing * s2 / v)
        solved = self._solve(s2 + v, self._noise_at(s2), r, energy)
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

        With ``n ~ N(0, Q^-1)``, ``Q = I / kernel + A^H S_s^-1 A``, ``K`` is ``e/2 P Q`` and the
        rest has the covariance ``e P - e^2/4 P Q P``. It is not known apart from the drift, so
        that a second move has no noise to reuse.
        """
        v, s2 = step.v, step.s**2
        e = -math.expm1(-step.length)
        if last_noise is not None:
            e = min(e, 2 * last_noise.kernel / v)
        q, kept = e * score, torch.zeros_like(c)
        likelihood_score = e * (self._y - self._operator.forward(c))
        if last_noise is None:
            prior, data = (2 * e - e**2) / v, 2 * e - e**2
        else:
            kept = e / 2 * last_noise.xi
            q = q + e / 2 * (1 / last_noise.kernel - 1 / v) * last_noise.xi
            prior, data = e / v - e**2 / (4 * last_noise.kernel), e - e**2 / 4
        q = q + math.sqrt(prior) * rng.normal(rows, self._shape, self._dtype)
        likelihood_score = likelihood_score + math.sqrt(data) * self._data(step.s, rng, rows)
        return c + kept + self._smooth(v, s2, q, likelihood_score), None

    def _noise(self, v: float, s: float, rng: ParticleRng, rows: slice) -> Tensor:
        """Noise of covariance ``(I / v + A^H S_s^-1 A)^-1``."""
        data = self._data(s, rng, rows)
        q = rng.normal(rows, self._shape, self._dtype) / math.sqrt(v)
        return self._smooth(v, s**2, q, data)

    def _smooth(self, v: float, s2: float, q: Tensor, d: Tensor) -> Tensor:
        """``P q + P A^H S_s^-1 d``.

        It is ``v q + v A^H (noise_var I + (v + s^2) A A^H)^-1 (d - v A q)``.
        An error of the solve is smaller by ``v / (noise_var / |A|^2 + s^2)``, in units of ``P``.
        """
        d = d - v * self._operator.forward(q)
        solved = self._solve(s2 + v, self._noise_at(s2), d, self._drawing * s2 / v)
        return v * (q + self._operator.adjoint(solved))

    def _data(self, s: float, rng: ParticleRng, rows: slice) -> Tensor:
        """Noise of covariance ``S_s`` in data space."""
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
        """Variance of the white part of ``S_s``: that of the data, or what keeps it regular."""
        return max(self._noise_var, s2 * self._norm / _CONDITION) if s2 > 0 else self._noise_var

    @cached_property
    def _norm(self) -> float:
        """Largest eigenvalue of ``A^H A``."""
        g = torch.Generator().manual_seed(0)
        start = torch.randn((1, *self._shape), generator=g, dtype=self._dtype)
        return norm_squared(self._operator, start.to(self._y.device))

    def _solve(self, c: float | Tensor, noise_var: float, r: Tensor, energy: float) -> Tensor:
        """``(noise_var I + A C A^H)^-1 r``, up to an error of a size in units of the system.

        ``C`` is a number, or one for each Hartley coefficient.
        """
        operator = self._operator
        precondition = None
        likelihood_term_at = isinstance(c, torch.Tensor) or c > 0
        if likelihood_term_at and isinstance(operator, PreconditionedOperator):
            variance = torch.full_like(self._y.real, noise_var)
            precondition = operator.data_preconditioner(variance, c)
        x, iterations = conjugate_gradient(
            lambda u: operator.forward(self.bands.scale(operator.adjoint(u), c)),
            r,
            noise_var,
            float(likelihood_term_at),
            rtol=4 * torch.finfo(r.dtype).eps,
            max_iter=2000,
            precondition=precondition or (lambda u: u / noise_var),
            energy=energy,
        )
        self.iterations += iterations
        return x


def _energy(r: Tensor, solved: Tensor) -> Tensor:
    """``r^H solved / 2``, float64 (particle,)."""
    product = (r.conj() * solved).real if r.is_complex() else r * solved
    return product.flatten(1).sum(1, dtype=torch.float64) / 2
