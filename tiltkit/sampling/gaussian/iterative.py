"""The algebra of a level for any linear operator: iterative solves. Names as in `Tilt`."""

from __future__ import annotations

import math
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, ClassVar

import torch

from tiltkit.operators.bands import Bands
from tiltkit.operators.cg import conjugate_gradient, norm_squared
from tiltkit.protocols import PreconditionedOperator
from tiltkit.sampling.gaussian.conditioning import Fresh, Step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from tiltkit.likelihoods import GaussianLikelihood
    from tiltkit.sampling.particles.rng import Draw

__all__ = ["SolveTilt"]

# Error of a misfit that solves may leave.
_JUDGING = 0.01
# Largest over smallest eigenvalue of a covariance of the data that solves still have to do with.
_CONDITION = 1e4


class SolveTilt:
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
        """See `Tilt`."""
        return self.pull(c, [s**2] * self.bands.count)[1]

    def pull(self, c: Tensor, variance: Sequence[float]) -> tuple[Tensor, Tensor]:
        """See `Tilt`; one solve for both."""
        r = self._y - self._operator.forward(c)
        solved = self._solve(*self._spread(variance), r, self._weighing)
        return self._operator.adjoint(solved), _energy(r, solved)

    def misfit(self, c: Tensor, variance: Sequence[float]) -> Tensor:
        """See `Tilt`; another solve."""
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
        probe = self._probe
        answer = self._solve(spread, noise_var, probe, self._judging)
        alive = float(2 * _energy(probe, probe))
        blind = (self._measured - alive) * self._noise_var / noise_var
        return blind + alive - excess * float(2 * _energy(probe, answer))

    def reach(self, c: Tensor, direction: Tensor) -> Tensor:
        """See `Tilt`."""
        r, seen = self._y - self._operator.forward(c), self._operator.forward(direction)
        return _energy(r, seen) / _energy(seen, seen).clamp_min(1e-30)

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
        seen = self._operator.forward(image)
        parts = torch.view_as_real(seen) if seen.is_complex() else seen
        signs = torch.randn(parts.shape, generator=g, dtype=self._dtype).sign().to(parts.device)
        probe = torch.where(parts == 0, 0.0, signs)
        return torch.view_as_complex(probe) if seen.is_complex() else probe

    def white(self, draw: Draw, rows: slice) -> Tensor:
        """See `Tilt`."""
        return draw.normal(rows, self._shape, self._dtype)

    def predict(
        self, m: Tensor, step: Step, draw: Draw, rows: slice
    ) -> tuple[Tensor, Fresh, Tensor]:
        """See `Tilt`; one solve for mean and normaliser."""
        v, s2 = step.v, step.s**2
        r = self._y - self._operator.forward(m)
        energy = min(self._weighing, self._drawing * s2 / v)
        solved = self._solve(s2 + v, self._noise_at(s2), r, energy)
        one = torch.ones((), dtype=m.dtype, device=m.device)
        fresh = Fresh(one, self._noise(v, step.s, draw, rows), v)
        mean = m + v * self._operator.adjoint(solved)
        return mean + fresh.xi, fresh, -_energy(r, solved)

    def move(
        self, c: Tensor, score: Tensor, step: Step, fresh: Fresh | None, draw: Draw, rows: slice
    ) -> tuple[Tensor, None]:
        """See `Tilt`.

        With ``n ~ N(0, Q^-1)``, ``Q = I / kernel + A^H S_s^-1 A``, ``K`` is ``e/2 P Q`` and the
        rest has the covariance ``e P - e^2/4 P Q P``. It is not known apart from the drift, so
        that a second move has no noise to reuse.
        """
        v, s2 = step.v, step.s**2
        e = -math.expm1(-step.length)
        if fresh is not None:
            e = min(e, 2 * fresh.kernel / v)
        q, kept = e * score, torch.zeros_like(c)
        pull = e * (self._y - self._operator.forward(c))
        if fresh is None:
            prior, data = (2 * e - e**2) / v, 2 * e - e**2
        else:
            kept = e / 2 * fresh.xi
            q = q + e / 2 * (1 / fresh.kernel - 1 / v) * fresh.xi
            prior, data = e / v - e**2 / (4 * fresh.kernel), e - e**2 / 4
        q = q + math.sqrt(prior) * draw.normal(rows, self._shape, self._dtype)
        pull = pull + math.sqrt(data) * self._data(step.s, draw, rows)
        return c + kept + self._smooth(v, s2, q, pull), None

    def _noise(self, v: float, s: float, draw: Draw, rows: slice) -> Tensor:
        """Noise of covariance ``(I / v + A^H S_s^-1 A)^-1``."""
        data = self._data(s, draw, rows)
        q = draw.normal(rows, self._shape, self._dtype) / math.sqrt(v)
        return self._smooth(v, s**2, q, data)

    def _smooth(self, v: float, s2: float, q: Tensor, d: Tensor) -> Tensor:
        """``P q + P A^H S_s^-1 d``.

        It is ``v q + v A^H (noise_var I + (v + s^2) A A^H)^-1 (d - v A q)``.
        An error of the solve is smaller by ``v / (noise_var / |A|^2 + s^2)``, in units of ``P``.
        """
        d = d - v * self._operator.forward(q)
        solved = self._solve(s2 + v, self._noise_at(s2), d, self._drawing * s2 / v)
        return v * (q + self._operator.adjoint(solved))

    def _data(self, s: float, draw: Draw, rows: slice) -> Tensor:
        """Noise of covariance ``S_s`` in data space."""
        shape = tuple(self._y.shape[1:])
        if self._y.is_complex():
            xi = torch.view_as_complex(draw.normal(rows, (*shape, 2), self._dtype))
        else:
            xi = draw.normal(rows, shape, self._dtype)
        noise = math.sqrt(self._noise_at(s**2)) * xi
        if s == 0:
            return noise
        return noise + s * self._operator.forward(draw.normal(rows, self._shape, self._dtype))

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
        seen = isinstance(c, torch.Tensor) or c > 0
        if seen and isinstance(operator, PreconditionedOperator):
            variance = torch.full_like(self._y.real, noise_var)
            precondition = operator.data_preconditioner(variance, c)
        x, iterations = conjugate_gradient(
            lambda u: operator.forward(self.bands.scale(operator.adjoint(u), c)),
            r,
            noise_var,
            float(seen),
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
