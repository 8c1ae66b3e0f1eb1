"""The linear-Gaussian algebra of one noise level: tilted prediction, its weight, Langevin moves.

Names follow the mathematics: ``N = A^H A``, potentials ``R_s`` with covariance
``S_s = noise_var I + s^2 A A^H``. Particles are held in the tilt's own coordinates: spectral
where ``N`` is diagonalised (then everything is elementwise), plain images elsewhere.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Protocol

import torch

from tiltkit.operators.cg import conjugate_gradient
from tiltkit.protocols import SpectralOperator

if TYPE_CHECKING:
    from torch import Tensor

    from tiltkit.likelihoods import GaussianLikelihood
    from tiltkit.sampling.draw import Draw

__all__ = ["SolveTilt", "SpectralTilt", "Tilt", "tilt_of"]


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

    def predict(self, m: Tensor, v: float, b: float, draw: Draw, rows: slice) -> Tensor:
        """A draw from ``N(m, v I) exp(-R_b)``, normalised."""
        ...

    def log_z(self, m: Tensor, v: float, b: float) -> Tensor:
        """``log`` of the normaliser of `predict`, up to a shared constant, float64 (particle,)."""
        ...

    def move(self, c: Tensor, score: Tensor, b: float, h: float, draw: Draw, rows: slice) -> Tensor:
        """One preconditioned Langevin step of length ``h`` towards ``p_b exp(-R_b)``."""
        ...

    def log_accept(
        self, old: tuple[Tensor, Tensor], new: tuple[Tensor, Tensor], b: float, h: float
    ) -> Tensor:
        """Log Metropolis ratio of a `move` between ``(c, score)`` pairs, float64 (particle,).

        The prior's log-density difference is the trapezoidal line integral of its score, exact
        for Gaussians; no density is needed.
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
        self._eig = eig[..., None].expand(*eig.shape, 2).contiguous() if self._complex else eig
        self._noise_var = likelihood.noise_var

    def coordinates(self, x: Tensor) -> Tensor:
        """``U^H x``."""
        c = self._operator.to_spectral(x)
        return torch.view_as_real(c) if self._complex else c

    def image(self, c: Tensor) -> Tensor:
        """``U c``."""
        return self._operator.from_spectral(torch.view_as_complex(c) if self._complex else c)

    def potential(self, c: Tensor, s: float) -> Tensor:
        """See `Tilt`."""
        eig = self._eig
        # Directions that A hardly sees carry only rounding errors of z.
        seen = eig > eig.max() * torch.finfo(eig.dtype).eps * 10
        spread = self._noise_var + s**2 * eig
        precision = torch.where(seen, 1 / (eig * spread), 0.0)
        residual = torch.addcmul(self._z, eig, c, value=-1)
        energy = residual.square_().mul_(precision).flatten(1).sum(1, dtype=torch.float64)
        return 0.5 * (energy + spread[seen].log().sum(dtype=torch.float64))

    def log_z(self, m: Tensor, v: float, b: float) -> Tensor:
        """See `Tilt`: the potential of ``m`` with the kernel's spread added to the noise."""
        return -self.potential(m, math.sqrt(b**2 + v))

    def predict(self, m: Tensor, v: float, b: float, draw: Draw, rows: slice) -> Tensor:
        """See `Tilt`."""
        noise_var, eig = self._noise_var, self._eig
        c = noise_var + (b**2 + v) * eig
        spread = torch.sqrt(v * (noise_var + b**2 * eig) / c)
        x = torch.addcmul(v * self._z / c, 1 - v * eig / c, m)
        return x.addcmul_(spread, self._white(draw, rows))

    def move(self, c: Tensor, score: Tensor, b: float, h: float, draw: Draw, rows: slice) -> Tensor:
        """See `Tilt`."""
        noise_var, eig = self._noise_var, self._eig
        s_b = noise_var + b**2 * eig
        p = b**2 * s_b / (s_b + b**2 * eig)  # (I/b^2 + A^H S_b^-1 A)^-1
        drift = -math.expm1(-h) * p
        x = torch.addcmul(drift * self._z / s_b, 1 - drift * eig / s_b, c)
        x.addcmul_(drift, score)
        return x.addcmul_(math.sqrt(-math.expm1(-2 * h)) * p.sqrt(), self._white(draw, rows))

    def log_accept(
        self, old: tuple[Tensor, Tensor], new: tuple[Tensor, Tensor], b: float, h: float
    ) -> Tensor:
        """See `Tilt`."""
        noise_var, eig = self._noise_var, self._eig
        s_b = noise_var + b**2 * eig
        p = b**2 * s_b / (s_b + b**2 * eig)
        (x, g), (x_new, g_new) = ((c, score + (self._z - eig * c) / s_b) for c, score in (old, new))
        return _log_metropolis(x_new - x, g, g_new, p * g, p * g_new, h)

    def _white(self, draw: Draw, rows: slice) -> Tensor:
        xi = self._operator.spectral_white(draw.normal(rows, self._shape, self._dtype))
        return torch.view_as_real(xi) if self._complex else xi


class SolveTilt:
    """Algebra for any linear operator, through batched solves with ``noise_var I + c N``.

    Draws with covariance ``(..)^-1`` come from noise in data space pulled back through ``A^H``.
    """

    normalised: ClassVar[bool] = False  # determinants are out of reach of iterative solves

    def __init__(
        self,
        likelihood: GaussianLikelihood,
        shape: tuple[int, ...],
        dtype: torch.dtype,
        rtol: float = 1e-5,
    ) -> None:
        self._operator = likelihood.operator
        self._y, self._noise_var = likelihood.y, likelihood.noise_var
        self._back = likelihood.operator.adjoint(likelihood.y)
        self._shape, self._dtype, self._rtol = shape, dtype, rtol
        self.iterations = 0

    def coordinates(self, x: Tensor) -> Tensor:
        """Images are their own coordinates."""
        return x

    def image(self, c: Tensor) -> Tensor:
        """Images are their own coordinates."""
        return c

    def potential(self, c: Tensor, s: float) -> Tensor:
        """See `Tilt`; algorithm.md, section 4, "step 2"."""
        r = self._y - self._operator.forward(c)
        u = r - s**2 * self._operator.forward(self._solve(s**2, self._operator.adjoint(r)))
        energy = (u.conj() * r).real if r.is_complex() else u * r
        return energy.flatten(1).sum(1, dtype=torch.float64) / (2 * self._noise_var)

    def log_z(self, m: Tensor, v: float, b: float) -> Tensor:
        """See `Tilt`: the potential of ``m`` with the kernel's spread added to the noise."""
        return -self.potential(m, math.sqrt(b**2 + v))

    def predict(self, m: Tensor, v: float, b: float, draw: Draw, rows: slice) -> Tensor:
        """See `Tilt`; algorithm.md, section 4, "step 1"."""
        c = b**2 + v
        pull = v * (self._back - self._operator.normal(m))
        pull += (v / math.sqrt(c)) * self._data_noise(c, draw, rows)
        xi = draw.normal(rows, self._shape, self._dtype)
        return m + self._solve(c, pull) + math.sqrt(v * b**2 / c) * xi

    def move(self, c: Tensor, score: Tensor, b: float, h: float, draw: Draw, rows: slice) -> Tensor:
        """See `Tilt`; algorithm.md, section 4, "step 4"."""
        doubled = 2 * b**2
        drift, spread = -math.expm1(-h), math.sqrt(-math.expm1(-2 * h))
        noise = self._data_noise(doubled, draw, rows)
        pull = (drift * b**2) * (self._noise_var / 2 * score + self._back)
        pull -= (drift * b**2) * self._operator.normal(c)
        pull += (spread * b / math.sqrt(2)) * noise
        xi = draw.normal(rows, self._shape, self._dtype)
        half = drift * b**2 / 2 * score + spread * b / math.sqrt(2) * xi
        return c + half + self._solve(doubled, pull)

    def log_accept(
        self, old: tuple[Tensor, Tensor], new: tuple[Tensor, Tensor], b: float, h: float
    ) -> Tensor:
        """See `Tilt`."""
        (x, g, pg), (x_new, g_new, pg_new) = (
            (c, *self._gradient(c, score, b)) for c, score in (old, new)
        )
        return _log_metropolis(x_new - x, g, g_new, pg, pg_new, h)

    def _gradient(self, c: Tensor, score: Tensor, b: float) -> tuple[Tensor, Tensor]:
        """Gradient of the log target, plain and preconditioned."""
        residual = self._back - self._operator.normal(c)
        pull = self._solve(2 * b**2, self._noise_var / 2 * score + residual)
        return score + self._solve(b**2, residual), b**2 * (score / 2 + pull)

    def _solve(self, c: float, b: Tensor) -> Tensor:
        x, iterations = conjugate_gradient(
            self._operator.normal, b, self._noise_var, c, rtol=self._rtol
        )
        self.iterations += iterations
        return x

    def _data_noise(self, c: float, draw: Draw, rows: slice) -> Tensor:
        """Noise with covariance ``noise_var (noise_var I + c N)``, in image space."""
        xi_image = draw.normal(rows, self._shape, self._dtype)
        shape = tuple(self._y.shape[1:])
        if self._y.is_complex():
            xi_data = torch.view_as_complex(draw.normal(rows, (*shape, 2), self._dtype))
        else:
            xi_data = draw.normal(rows, shape, self._dtype)
        pulled = self._operator.adjoint(xi_data)
        return self._noise_var * xi_image + math.sqrt(self._noise_var * c) * pulled


def _log_metropolis(
    step: Tensor, g: Tensor, g_new: Tensor, pg: Tensor, pg_new: Tensor, h: float
) -> Tensor:
    """Metropolis ratio of ``x -> x + e P g + sqrt(e (2 - e)) P^(1/2) xi``, ``e = 1 - exp(-h)``.

    ``1/2 <step, g + g_new>`` for the target and the two Gaussian proposals together leave
    ``-e / (2 (2 - e)) (<step, g + g_new> + <g_new, P g_new> - <g, P g>)``: zero where the target
    is the Gaussian with covariance ``P``.
    """
    e = -math.expm1(-h)
    terms = step * (g + g_new) + g_new * pg_new - g * pg
    return -e / (2 * (2 - e)) * terms.flatten(1).sum(1, dtype=torch.float64)
