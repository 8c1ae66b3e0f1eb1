"""The linear-Gaussian algebra of one noise level: tilted prediction, its weight, Langevin moves.

Names follow the mathematics: ``N = A^H A``, potentials ``R_s`` with covariance
``S_s = noise_var I + s^2 A A^H``; ``b`` is the noise level of the prior. Particles are held in
the tilt's own coordinates: spectral where ``N`` is diagonalised (then everything is elementwise),
plain images elsewhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Protocol

import torch

from tiltkit.operators.cg import conjugate_gradient, norm_squared
from tiltkit.protocols import PreconditionedOperator, SpectralOperator
from tiltkit.sampling.bands import Bands

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from tiltkit.likelihoods import GaussianLikelihood
    from tiltkit.sampling.draw import Draw

__all__ = ["Fresh", "SolveTilt", "SpectralTilt", "Step", "Tilt", "tilt_of"]

# Error of a misfit that solves may leave.
_JUDGING = 0.01
# Largest over smallest eigenvalue of a covariance of the data that solves still have to do with.
_CONDITION = 1e4


@dataclass(frozen=True, slots=True)
class Fresh:
    """The newest noise in particles, independent of all that was there before: ``spread * xi``.

    Attributes:
        spread: Standard deviation, of a shape that broadcasts against the particles.
        xi: White noise (particle, ...); coloured by `SolveTilt`, with a spread of 1.
        kernel: Variance ``v`` of the prediction that it comes from.
    """

    spread: Tensor
    xi: Tensor
    kernel: float

    def at(self, rows: slice | Tensor) -> Fresh:
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


class Tilt(Protocol):
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

    def pull(self, c: Tensor, variance: Sequence[float]) -> tuple[Tensor, Tensor]:
        """``A^H S^-1 (y - A x)`` and the potential, with ``S = noise_var I + A C A^H``.

        Args:
            c: Particles.
            variance: The diagonal of ``C``, one value for each of the `bands`.
        """
        ...

    def misfit(self, c: Tensor, variance: Sequence[float]) -> Tensor:
        """Squared residual over its variance ``S``, as in `pull`, float64 (particle,)."""
        ...

    def reach(self, c: Tensor, direction: Tensor) -> Tensor:
        """The multiple (particle,) of a direction that brings ``c`` nearest to the data.

        ``(A d)^H (y - A c) / |A d|^2``, float64.
        """
        ...

    def white(self, draw: Draw, rows: slice) -> Tensor:
        """White noise."""
        ...

    def predict(
        self, m: Tensor, step: Step, draw: Draw, rows: slice
    ) -> tuple[Tensor, Fresh, Tensor]:
        """A draw from ``N(m, v I) exp(-R_s)``, the noise in it, and the log of its normaliser.

        The logarithm is float64 (particle,), up to the constant of `potential`.
        """
        ...

    def move(
        self, c: Tensor, score: Tensor, step: Step, fresh: Fresh | None, draw: Draw, rows: slice
    ) -> tuple[Tensor, Fresh | None]:
        """One preconditioned Langevin step towards ``p_b exp(-R_s)``, and its newest noise.

        ``x + e P grad + K n + rest``, where ``n`` is the newest noise in ``x`` and ``K n`` has
        the covariance ``e P / 2`` with it: then the variance of the target is kept in every
        direction of a Gaussian, however much wider than ``P`` it is, and not only where ``P``
        fits, as without ``n``. This is Leimkuhler and Matthews' scheme (Appl. Math. Res. Express
        2013) for any ``n``.
        """
        ...


def tilt_of(likelihood: GaussianLikelihood, shape: tuple[int, ...], dtype: torch.dtype) -> Tilt:
    """The fastest exact algebra that the likelihood's operator allows."""
    if isinstance(likelihood.operator, SpectralOperator):
        return SpectralTilt(likelihood, shape, dtype)
    return SolveTilt(likelihood, shape, dtype)


class SpectralTilt:
    """Algebra for a diagonalised ``N = U diag(eig) U^H``: elementwise, exact, no iterations.

    Along the range of ``A`` the residual energy is ``|z - eig c|^2 / (eig (noise_var + s^2 eig))``
    with ``z = U^H A^H y``; across it the energy does not depend on ``x`` and is left out.
    """

    iterations = 0
    normalised: ClassVar[bool] = True

    def __init__(
        self, likelihood: GaussianLikelihood, shape: tuple[int, ...], dtype: torch.dtype
    ) -> None:
        operator = likelihood.operator
        assert isinstance(operator, SpectralOperator)  # noqa: S101  (narrowing for the type checker)
        self._operator = operator
        self._shape, self._dtype = shape, dtype
        z = operator.to_spectral(operator.adjoint(likelihood.y))
        self._complex = z.is_complex()
        self._z = torch.view_as_real(z) if self._complex else z
        eig = operator.eigenvalues.to(dtype)
        # One value per real component, so that all arithmetic is plain real arithmetic.
        eig = eig[..., None].expand(*eig.shape, 2).contiguous() if self._complex else eig
        # Directions that A hardly sees carry only rounding errors, of eigenvalues and of z.
        self._seen = eig > eig.max() * torch.finfo(eig.dtype).eps * 10
        self._eig = torch.where(self._seen, eig, 0.0)
        self._z = torch.where(self._seen, self._z, 0.0)
        self._noise_var = likelihood.noise_var
        self.bands = Bands.of(self._eig)

    def coordinates(self, x: Tensor) -> Tensor:
        """``U^H x``."""
        c = self._operator.to_spectral(x)
        return torch.view_as_real(c) if self._complex else c

    def image(self, c: Tensor) -> Tensor:
        """``U c``."""
        return self._operator.from_spectral(torch.view_as_complex(c) if self._complex else c)

    def potential(self, c: Tensor, s: float) -> Tensor:
        """See `Tilt`."""
        residual = torch.addcmul(self._z, self._eig, c, value=-1)
        return self._energy(residual, self._noise_var + s**2 * self._eig)

    def pull(self, c: Tensor, variance: Sequence[float]) -> tuple[Tensor, Tensor]:
        """See `Tilt`."""
        residual = torch.addcmul(self._z, self._eig, c, value=-1)
        spread = self._spread(variance)
        return residual / spread, self._energy(residual, spread)

    def predict(
        self, m: Tensor, step: Step, draw: Draw, rows: slice
    ) -> tuple[Tensor, Fresh, Tensor]:
        """See `Tilt`; the normaliser is the potential of ``m`` with ``v`` added to the noise."""
        noise_var, eig, v, s = self._noise_var, self._eig, step.v, step.s
        c = noise_var + (s**2 + v) * eig
        log_z = -self.potential(m, math.sqrt(s**2 + v))
        spread = torch.sqrt(v * (noise_var + s**2 * eig) / c)
        fresh = Fresh(spread, self.white(draw, rows), v)
        x = torch.addcmul(v * self._z / c, 1 - v * eig / c, m)
        return x.addcmul_(fresh.spread, fresh.xi), fresh, log_z

    def move(
        self, c: Tensor, score: Tensor, step: Step, fresh: Fresh | None, draw: Draw, rows: slice
    ) -> tuple[Tensor, Fresh]:
        """See `Tilt`."""
        eig = self._eig
        s_s = self._noise_var + step.s**2 * eig
        p = step.v * s_s / (s_s + step.v * eig)
        e = torch.full_like(p, -math.expm1(-step.length))
        if fresh is None:
            keep, rest = torch.zeros_like(p), 2 * e - e**2
        else:
            v = fresh.spread**2 / p
            e = torch.minimum(e, 2 * v)
            keep, rest = e / (2 * v) * fresh.spread, e - e**2 / (4 * v)
        drift = e * p
        x = torch.addcmul(drift * self._z / s_s, 1 - drift * eig / s_s, c)
        x.addcmul_(drift, score)
        if fresh is not None:
            x.addcmul_(keep, fresh.xi)
        newest = Fresh((rest * p).clamp_min_(0).sqrt_(), self.white(draw, rows), step.v)
        return x.addcmul_(newest.spread, newest.xi), newest

    def misfit(self, c: Tensor, variance: Sequence[float]) -> Tensor:
        """See `Tilt`."""
        residual = torch.addcmul(self._z, self._eig, c, value=-1)
        seen = self._seen.expand_as(self._z[0]).count_nonzero().clamp_min(1)
        return self._squares(residual, self._spread(variance)) / seen

    def reach(self, c: Tensor, direction: Tensor) -> Tensor:
        """See `Tilt`."""
        residual = torch.addcmul(self._z, self._eig, c, value=-1)
        fit, energy = (
            (direction * part).flatten(1).sum(1, dtype=torch.float64)
            for part in (residual, self._eig * direction)
        )
        return fit / energy.clamp_min(1e-30)

    def _spread(self, variance: Sequence[float]) -> Tensor:
        """``noise_var + variance eig``, the variance of a residual ``z - eig c`` over ``eig``."""
        return self._noise_var + self.bands.spread_out(variance) * self._eig

    def _energy(self, residual: Tensor, spread: Tensor) -> Tensor:
        """The potential of particles with the residual ``z - eig c``."""
        determinant = spread[self._seen].log().sum(dtype=torch.float64)
        return 0.5 * (self._squares(residual, spread) + determinant)

    def _squares(self, residual: Tensor, spread: Tensor) -> Tensor:
        """``|z - eig c|^2 / (eig spread)``, summed over all that is seen."""
        precision = torch.where(self._seen, 1 / (self._eig * spread), 0.0)
        return residual.square().mul_(precision).flatten(1).sum(1, dtype=torch.float64)

    def white(self, draw: Draw, rows: slice) -> Tensor:
        """See `Tilt`."""
        xi = self._operator.spectral_white(draw.normal(rows, self._shape, self._dtype))
        return torch.view_as_real(xi) if self._complex else xi


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
        """See `Tilt`; algorithm.md, section 4, "step 2": one solve for both."""
        r = self._y - self._operator.forward(c)
        solved = self._solve(*self._spread(variance), r, self._weighing)
        return self._operator.adjoint(solved), _energy(r, solved)

    def misfit(self, c: Tensor, variance: Sequence[float]) -> Tensor:
        """See `Tilt`; another solve, and a third where `_noise_at` has more noise than the data."""
        r = self._y - self._operator.forward(c)
        spread, noise_var = self._spread(variance)
        solved = self._solve(spread, noise_var, r, self._judging)
        expected, excess = float(self._measured), noise_var - self._noise_var
        if excess > 0:
            # Of r^H S^-1 r, for residuals whose covariance is S less the excess.
            probe = self._probe
            answer = self._solve(spread, noise_var, probe, self._judging)
            alive = float(2 * _energy(probe, probe))
            blind = self._measured - alive
            expected = alive - excess * float(2 * _energy(probe, answer))
            expected += blind * self._noise_var / noise_var
        return 2 * _energy(r, solved) / expected

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
        """See `Tilt`; algorithm.md, section 4, "step 1": one solve for mean and normaliser."""
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
