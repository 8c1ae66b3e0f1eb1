"""Gaussian priors whose posterior is known exactly at any size.

``white``    independent pixels (1, side, side), every second column measured
``1 coil``   complex images with the spectrum of images, some columns of k-space
``4 coils``  the same with four coil sensitivities
``full``     one coil, all of k-space

One coil and white priors have a closed form for each coefficient. Four coils have none: there exact
samples come from perturbed right-hand sides (Papandreou and Yuille 2010), and variances of coarse
detail, of which samples give too few values, from one solve for each coefficient.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import pooch
import torch
from exact import SHELLS, Reference, shells
from tiltkit_mri.operators import CartesianSense, MaskedFourier
from torch import Tensor

from tiltkit.likelihoods import GaussianLikelihood, gaussian
from tiltkit.operators.cg import conjugate_gradient
from tiltkit.operators.compose import Pointwise
from tiltkit.operators.hartley import frequencies
from tiltkit.priors.closed_form import Mixture, SmoothGaussian
from tiltkit.problem import Problem
from tiltkit.protocols import LinearOperator, Prior

__all__ = ["CACHE", "KINDS", "PRIOR", "GaussianCase", "coils", "columns"]

PRIOR = SmoothGaussian(0.3, 2.0, 3.0, channels=2)
WHITE = 0.3
KINDS = ("white", "1 coil", "4 coils", "full")
CACHE = pooch.os_cache("tiltkit") / "benchmarks"
# Bands with fewer coefficients get one solve for each of them.
SOLVED = 32
RTOL = 1e-6


def columns(side: int) -> Tensor:
    """Measured columns of k-space (side,): every fourth, and three in sixteen in the middle."""
    measured = torch.zeros(side, dtype=torch.bool)
    measured[::4] = True
    middle = max(3 * side // 32, 1)
    measured[side // 2 - middle : side // 2 + middle] = True
    return measured


def coils(side: int) -> Tensor:
    """Four smooth sensitivities (4, side, side) whose squares add up to 1."""
    t = torch.linspace(-1, 1, side)
    y, x = torch.meshgrid(t, t, indexing="ij")
    maps = torch.stack([
        torch.polar(torch.exp(-((y - a) ** 2 + (x - b) ** 2) / 1.2), a * x + b * y)
        for a in (-1, 1) for b in (-1, 1)
    ])  # fmt: skip
    return maps / maps.abs().square().sum(0).sqrt()


@dataclass(frozen=True)
class GaussianCase:
    """A kind of problem: truths, data and exact posteriors by seed.

    Attributes:
        kind: One of `KINDS`.
        side: Pixels along each side.
        noise: Standard deviation of the noise per real component.
        draws: Number of exact samples.
        cache: Folder for exact samples that take long; None for none.
    """

    kind: str
    side: int
    noise: float
    draws: int = 256
    cache: Path | None = CACHE

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of an image."""
        return (1 if self.kind == "white" else 2, self.side, self.side)

    @property
    def edges(self) -> tuple[float, ...]:
        """Lower edges of the bands, cycles per image; none for white priors."""
        more = [12.0 * 2**k for k in range(1, 8) if 12.0 * 2 ** (k + 1) <= self.side]
        return (*SHELLS, *more)

    @cached_property
    def prior(self) -> Prior:
        """The prior of the samplers."""
        if self.kind != "white":
            return PRIOR
        return Mixture(torch.zeros(1, *self.shape), WHITE**2, torch.ones(1), (0.01, 5.0))

    @cached_property
    def operator(self) -> LinearOperator:
        """The measurement."""
        return _operator(self.kind, self.side)

    @cached_property
    def variance(self) -> Tensor:
        """Prior variance of each coordinate: pixels of white priors, else Fourier coefficients.

        At the smallest noise level of the prior, where samplers end.
        """
        tau = self.prior.sigma_range[0]
        if self.kind == "white":
            return torch.full(self.shape, WHITE**2 + tau**2, dtype=torch.float64)
        return PRIOR.spectrum(self.shape[1:], torch.device("cpu")) + tau**2

    def power(self, x: Tensor) -> Tensor:
        """Squares of deviations (n, *shape), summed over bands (n, band).

        The bands of white priors are the pixels that are measured and those that are not.
        """
        if self.kind != "white":
            return shells(self.shape, self.edges)(x)
        squares = x.double().square()
        return torch.stack(
            [squares[..., ::2].flatten(1).sum(1), squares[..., 1::2].flatten(1).sum(1)], 1
        )

    def problem(self, seed: int) -> tuple[Problem, Reference]:
        """A truth drawn from the prior, its measurement, and the exact posterior."""
        g = torch.Generator().manual_seed(seed)
        xi = torch.randn(1, *self.shape, generator=g)
        truth = self._root(xi.double()).float()
        clean = self.operator.forward(truth)
        white = torch.randn((*clean.shape, 2), generator=g)
        y = clean + self.noise * (
            torch.view_as_complex(white) if clean.is_complex() else white[..., 0]
        )
        likelihood = GaussianLikelihood(self.operator, y, self.noise**2)
        if self.kind == "white":
            y = y * self._gain.float()
            variance = torch.where(self._gain > 0, self.noise**2, math.inf)
            likelihood = gaussian(self.operator, y, variance)
        problem = Problem(self.prior, likelihood, self.shape, lambda x: x, torch.zeros(self.shape))
        deviations, bands = self.exact
        mean = self._posterior_mean(y)
        return problem, Reference(mean, float(bands.sum()), mean + deviations, self.power, bands)

    @cached_property
    def exact(self) -> tuple[Tensor, Tensor]:
        """Deviations of exact samples from their mean (draw, *shape), variance of bands (band,)."""
        if self.kind != "4 coils":
            return self._closed_form()
        key = [self.side, self.noise, self.draws, self.edges, repr(PRIOR)]
        digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]
        path = self.cache / f"{digest}.npz" if self.cache else None
        if path and path.exists():
            stored = np.load(path)
            return torch.from_numpy(stored["draws"]), torch.from_numpy(stored["bands"])
        deviations = self.perturbed()
        bands = self._solved_bands(self.power(deviations.double()).mean(0))
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(path, draws=deviations, bands=bands)
        return deviations, bands

    def _root(self, x: Tensor) -> Tensor:
        """``C^1/2 x`` with the prior's covariance."""
        if self.kind == "white":
            return self.variance.sqrt() * x
        return _in_fourier(x, self.variance.sqrt())

    @property
    def _gain(self) -> Tensor:
        """Eigenvalues of ``A^H A`` at the coordinates of `variance`; four coils have none."""
        if self.kind == "white":
            gain = torch.zeros(self.shape, dtype=torch.float64)
            gain[..., ::2] = 1
            return gain
        if self.kind == "full":
            return torch.ones(self.side, self.side, dtype=torch.float64)
        return torch.fft.ifftshift(columns(self.side).double()).expand(self.side, -1)

    def _closed_form(self) -> tuple[Tensor, Tensor]:
        variance = 1 / (1 / self.variance + self._gain / self.noise**2)
        g = torch.Generator().manual_seed(1)
        xi = torch.randn(self.draws, *self.shape, generator=g, dtype=torch.float64)
        if self.kind == "white":
            return (variance.sqrt() * xi).float(), self.power(variance.sqrt()[None])[0]
        # Squares of constant coefficients, one image for each of the two channels.
        label = torch.bucketize(
            self.side * frequencies(self.shape[1:]), torch.tensor(self.edges[1:]), right=True
        )
        bands = torch.zeros(len(self.edges), dtype=torch.float64)
        bands.index_add_(0, label.flatten(), 2 * variance.flatten())
        return _in_fourier(xi, variance.sqrt()).float(), bands

    def _posterior_mean(self, y: Tensor) -> Tensor:
        """Exact mean (*shape) given ``y``."""
        back = self.operator.adjoint(y).double() / self.noise**2
        if self.kind == "4 coils":
            return self._root(self._solve(self._root(back)))[0]
        variance = 1 / (1 / self.variance + self._gain / self.noise**2)
        return (variance * back if self.kind == "white" else _in_fourier(back, variance))[0]

    def perturbed(self, batch: int = 16) -> Tensor:
        """Exact samples minus their mean (draw, *shape), by solves with random right-hand sides.

        With ``x = C^1/2 z`` the precision of ``z`` is ``M = I + C^1/2 A^H A C^1/2 / noise^2``, and
        ``z = M^-1 (xi_1 + C^1/2 A^H xi_2 / noise)`` has covariance ``M^-1``.
        """
        g = torch.Generator().manual_seed(1)
        found = []
        for first in range(0, self.draws, batch):
            n = min(batch, self.draws - first)
            xi = torch.randn(n, *self.shape, generator=g, dtype=torch.float64)
            data = self.operator.forward(torch.zeros(1, *self.shape, dtype=torch.float64))
            white = torch.randn(n, *data.shape[1:], 2, generator=g, dtype=torch.float64)
            back = self.operator.adjoint(torch.view_as_complex(white)) / self.noise
            found.append(self._root(self._solve(xi + self._root(back))).float())
        return torch.cat(found)

    def _solve(self, right: Tensor) -> Tensor:
        """``M^-1 right``, see `perturbed`."""
        operator = self.operator

        def normal(z: Tensor) -> Tensor:
            return self._root(operator.adjoint(operator.forward(self._root(z))))

        # Coils mix frequencies, but every frequency is measured to about one half.
        scale = 1 / (1 + 0.5 * self.variance / self.noise**2)
        return conjugate_gradient(
            normal, right, 1.0, self.noise**-2, rtol=RTOL, max_iter=2000,
            precondition=lambda r: _in_fourier(r, scale),
        )[0]  # fmt: skip

    def _solved_bands(self, sampled: Tensor) -> Tensor:
        """Exact variance of bands with few coefficients, of others that of samples ``sampled``."""
        radius = self.side * frequencies(self.shape[1:])
        label = torch.bucketize(radius, torch.tensor(self.edges[1:]), right=True)
        bands = sampled.clone()
        for band in range(len(bands)):
            places = (label == band).nonzero()
            if 0 < len(places) <= SOLVED:
                waves = torch.zeros(len(places), *self.shape[1:], dtype=torch.complex128)
                waves[range(len(places)), places[:, 0], places[:, 1]] = 1
                z = torch.fft.ifft2(waves, norm="ortho")
                e = self._root(torch.stack([z.real, z.imag], 1))
                # Images are circular: both components of a coefficient have this variance.
                bands[band] = 2 * (e * self._solve(e)).sum()
        return bands


@lru_cache
def _operator(kind: str, side: int) -> LinearOperator:
    if kind == "white":
        return Pointwise(torch.ones(1, side, side))
    if kind in ("1 coil", "full"):
        measured = torch.ones(side, dtype=torch.bool) if kind == "full" else columns(side)
        return MaskedFourier(measured.expand(side, -1).contiguous())
    return CartesianSense(coils(side), columns(side))


def _in_fourier(x: Tensor, factors: Tensor) -> Tensor:
    """Complex images (n, 2, side, side) with Fourier coefficients multiplied by ``factors``."""
    z = torch.fft.ifft2(torch.fft.fft2(torch.complex(x[:, 0], x[:, 1])) * factors)
    return torch.stack([z.real, z.imag], 1)
