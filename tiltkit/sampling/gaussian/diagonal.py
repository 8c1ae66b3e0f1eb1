"""Gaussian conditioning where ``A^H A`` is diagonal: elementwise. Names as in `Conditioning`."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import torch

from tiltkit.operators.bands import Bands
from tiltkit.protocols import FourierOperator, SpectralOperator
from tiltkit.sampling.gaussian.conditioning import LastNoise, Step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from tiltkit.likelihoods import GaussianLikelihood
    from tiltkit.sampling.particles.rng import ParticleRng

__all__ = ["DiagonalConditioning"]


class DiagonalConditioning:
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
        self._weigh_prediction = eig > eig.max() * torch.finfo(eig.dtype).eps * 10
        self._eig = torch.where(self._weigh_prediction, eig, 0.0)
        self._z = torch.where(self._weigh_prediction, self._z, 0.0)
        self._noise_var = likelihood.noise_var
        # Complex coordinates of real images come in pairs that say the same.
        self._freedom = math.prod(shape) / self._z[0].numel()
        self.bands = self._bands()

    def _bands(self) -> Bands:
        """By frequency where coordinates have one: it tells more of a prior than eigenvalues."""
        if not isinstance(self._operator, FourierOperator):
            return Bands.of(self._eig)
        bands = Bands.octaves(self._operator.frequency)
        if bands.labels is None or not self._complex:
            return bands
        return replace(bands, labels=bands.labels[..., None])

    def coordinates(self, x: Tensor) -> Tensor:
        """``U^H x``."""
        c = self._operator.to_spectral(x)
        return torch.view_as_real(c) if self._complex else c

    def image(self, c: Tensor) -> Tensor:
        """``U c``."""
        return self._operator.from_spectral(torch.view_as_complex(c) if self._complex else c)

    def potential(self, c: Tensor, s: float) -> Tensor:
        """See `Conditioning`."""
        residual = torch.addcmul(self._z, self._eig, c, value=-1)
        return self._energy(residual, self._noise_var + s**2 * self._eig)

    def likelihood_score(self, c: Tensor, variance: Sequence[float]) -> tuple[Tensor, Tensor]:
        """See `Conditioning`."""
        residual = torch.addcmul(self._z, self._eig, c, value=-1)
        spread = self._spread(variance)
        return residual / spread, self._energy(residual, spread)

    def predict(
        self, m: Tensor, step: Step, rng: ParticleRng, rows: slice
    ) -> tuple[Tensor, LastNoise, Tensor]:
        """See `Conditioning`; the normaliser is the potential of ``m`` at noise plus ``v``."""
        noise_var, eig, v, s = self._noise_var, self._eig, step.v, step.s
        c = noise_var + (s**2 + v) * eig
        log_z = -self.potential(m, math.sqrt(s**2 + v))
        spread = torch.sqrt(v * (noise_var + s**2 * eig) / c)
        last_noise = LastNoise(spread, self.white(rng, rows), v)
        x = torch.addcmul(v * self._z / c, 1 - v * eig / c, m)
        return x.addcmul_(last_noise.spread, last_noise.xi), last_noise, log_z

    def move(
        self,
        c: Tensor,
        score: Tensor,
        step: Step,
        last_noise: LastNoise | None,
        rng: ParticleRng,
        rows: slice,
    ) -> tuple[Tensor, LastNoise]:
        """See `Conditioning`."""
        eig = self._eig
        s_s = self._noise_var + step.s**2 * eig
        p = step.v * s_s / (s_s + step.v * eig)
        e = torch.full_like(p, -math.expm1(-step.length))
        if last_noise is None:
            keep, rest = torch.zeros_like(p), 2 * e - e**2
        else:
            v = last_noise.spread**2 / p
            e = torch.minimum(e, 2 * v)
            keep, rest = e / (2 * v) * last_noise.spread, e - e**2 / (4 * v)
        drift = e * p
        x = torch.addcmul(drift * self._z / s_s, 1 - drift * eig / s_s, c)
        x.addcmul_(drift, score)
        if last_noise is not None:
            x.addcmul_(keep, last_noise.xi)
        newest = LastNoise((rest * p).clamp_min_(0).sqrt_(), self.white(rng, rows), step.v)
        return x.addcmul_(newest.spread, newest.xi), newest

    def weighted_residual(self, c: Tensor, variance: Sequence[float]) -> Tensor:
        """See `Conditioning`."""
        residual = torch.addcmul(self._z, self._eig, c, value=-1)
        likelihood_term_at = (
            self._weigh_prediction.expand_as(self._z[0]).count_nonzero().clamp_min(1)
        )
        return self._squares(residual, self._spread(variance)) / (
            self._freedom * likelihood_term_at
        )

    def line_search(self, c: Tensor, direction: Tensor) -> Tensor:
        """See `Conditioning`."""
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
        determinant = spread[self._weigh_prediction].log().sum(dtype=torch.float64)
        return 0.5 * (self._squares(residual, spread) + self._freedom * determinant)

    def _squares(self, residual: Tensor, spread: Tensor) -> Tensor:
        """``|z - eig c|^2 / (eig spread)``, summed over all that is seen."""
        precision = torch.where(self._weigh_prediction, 1 / (self._eig * spread), 0.0)
        return residual.square().mul_(precision).flatten(1).sum(1, dtype=torch.float64)

    def white(self, rng: ParticleRng, rows: slice) -> Tensor:
        """See `Conditioning`."""
        xi = self._operator.spectral_white(rng.normal(rows, self._shape, self._dtype))
        return torch.view_as_real(xi) if self._complex else xi
