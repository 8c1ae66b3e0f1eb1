"""Gaussian conditioning where ``A^H A`` is diagonalised, elementwise.

Symbols: `tiltkit.sampling.gaussian.conditioning`.
"""

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
    """Elementwise algebra for ``N = U diag(eig) U^H``: exact, without iterations.

    With ``z = U^H A^H y`` and ``c = U^H x``, ``r^H S_s^-1 r`` is the sum of
    ``|z - eig c|^2 / (eig (noise_var + s^2 eig))`` over coordinates with ``eig > 0``. The part of
    the residual outside the range of ``A`` does not depend on ``x`` and is left out.
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
        # Coordinates with a tiny eigenvalue hold only rounding errors of eig and z. The factor 10
        # is chosen by hand.
        self._measured = eig > eig.max() * torch.finfo(eig.dtype).eps * 10
        self._eig = torch.where(self._measured, eig, 0.0)
        self._z = torch.where(self._measured, self._z, 0.0)
        self._noise_var = likelihood.noise_var
        # Real degrees of freedom per stored component: 1/2 for the conjugate pairs of real images.
        self._dof = math.prod(shape) / self._z[0].numel()
        self.bands = self._bands()

    def _bands(self) -> Bands:
        """Bands of spatial frequency where coordinates have one, of eigenvalues elsewhere.

        The error variance of a denoised image depends on the frequency more than on the eigenvalue.
        """
        if not isinstance(self._operator, FourierOperator):
            return Bands.by_eigenvalue(self._eig)
        bands = Bands.octaves(self._operator.frequency)
        if bands.labels is None or not self._complex:
            return bands
        return replace(bands, labels=bands.labels[..., None])

    def coordinates(self, x: Tensor) -> Tensor:
        """``U^H x``, complex values as a last axis of two real ones."""
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
        variances = self._residual_variance(variance)
        return residual / variances, self._energy(residual, variances)

    def predict(
        self, m: Tensor, step: Step, rng: ParticleRng, rows: slice
    ) -> tuple[Tensor, LastNoise, Tensor]:
        """See `Conditioning`; ``log Z(m)`` is minus the potential at ``sqrt(s^2 + v)``."""
        noise_var, eig, v, s = self._noise_var, self._eig, step.v, step.s
        c = noise_var + (s**2 + v) * eig
        log_z = -self.potential(m, math.sqrt(s**2 + v))
        spread = torch.sqrt(v * (noise_var + s**2 * eig) / c)
        last_noise = LastNoise(spread, self.white_noise(rng, rows), v)
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
        p = step.v * s_s / (s_s + step.v * eig)  # eigenvalues of P
        e = torch.full_like(p, -math.expm1(-step.length))
        if last_noise is None:
            keep, rest = torch.zeros_like(p), 2 * e - e**2
        else:
            ratio = last_noise.spread**2 / p  # variance of the last noise in units of P
            e = torch.minimum(e, 2 * ratio)  # so that K is at most the identity
            keep, rest = e / (2 * ratio) * last_noise.spread, e - e**2 / (4 * ratio)
        drift = e * p
        x = torch.addcmul(drift * self._z / s_s, 1 - drift * eig / s_s, c)
        x.addcmul_(drift, score)
        if last_noise is not None:
            x.addcmul_(keep, last_noise.xi)
        noise = LastNoise((rest * p).clamp_min_(0).sqrt_(), self.white_noise(rng, rows), step.v)
        return x.addcmul_(noise.spread, noise.xi), noise

    def residual_ratio(self, c: Tensor, variance: Sequence[float]) -> Tensor:
        """See `Conditioning`."""
        residual = torch.addcmul(self._z, self._eig, c, value=-1)
        measured = self._measured.expand_as(self._z[0]).count_nonzero().clamp_min(1)
        return self._squares(residual, self._residual_variance(variance)) / (self._dof * measured)

    def step_length(self, c: Tensor, direction: Tensor) -> Tensor:
        """See `Conditioning`."""
        residual = torch.addcmul(self._z, self._eig, c, value=-1)
        fit, energy = (
            (direction * part).flatten(1).sum(1, dtype=torch.float64)
            for part in (residual, self._eig * direction)
        )
        return fit / energy.clamp_min(1e-30)

    def _residual_variance(self, variance: Sequence[float]) -> Tensor:
        """``noise_var + variance eig``: variance of the residual ``z - eig c``, over ``eig``."""
        return self._noise_var + self.bands.broadcast(variance) * self._eig

    def _energy(self, residual: Tensor, variances: Tensor) -> Tensor:
        """Potential with ``1/2 log det S`` for the residual ``z - eig c``, (particle,) float64."""
        log_det = variances[self._measured].log().sum(dtype=torch.float64)
        return 0.5 * (self._squares(residual, variances) + self._dof * log_det)

    def _squares(self, residual: Tensor, variances: Tensor) -> Tensor:
        """``|z - eig c|^2 / (eig variances)``, summed over measured coordinates, (particle,)."""
        precision = torch.where(self._measured, 1 / (self._eig * variances), 0.0)
        return residual.square().mul_(precision).flatten(1).sum(1, dtype=torch.float64)

    def white_noise(self, rng: ParticleRng, rows: slice) -> Tensor:
        """See `Conditioning`."""
        xi = self._operator.spectral_white(rng.normal(rows, self._shape, self._dtype))
        return torch.view_as_real(xi) if self._complex else xi
