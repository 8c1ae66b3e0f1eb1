"""Random walks with independent steps, as priors whose score is exact at every noise level.

A walk is ``x_k = x_(k-1) + u_k`` with ``x_0 = 0`` and independent steps ``u_k`` of one law. Given
the walk with white noise, it is a Markov chain with independent observations. The mean of that
chain, which is the denoised signal, follows from messages forward and backward along the chain,
here on a lattice around each observation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import fft, stats
from torch import Tensor

__all__ = ["LAWS", "Law", "Walk"]

# Half of a window in noise levels: a Gaussian has 3e-12 of its mass outside.
HALF = 7.0
# Lattice points per noise level at high noise. Gaussian factors of 64 steps have at least
# 64**-0.5 = 1/8 of the width of one; the trapezoidal rule is exact to 1e-10 for 1.1 points each.
POINTS = 16


@dataclass(frozen=True)
class Law:
    """A symmetric law of steps: with probability ``atom`` zero, else of a density.

    Attributes:
        name: For people.
        density: Continuous part, standardised, as a frozen distribution of scipy.
        log_pdf: Logarithm of that density.
        width: Length over which the density varies.
        atom: Probability of a step of zero.
    """

    name: str
    density: stats.rv_continuous
    log_pdf: Callable[[Tensor], Tensor]
    width: float = 1.0
    atom: float = 0.0

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
        """Independent steps."""
        steps = self.density.rvs(size=shape, random_state=rng)
        return np.where(rng.uniform(size=shape) < self.atom, 0.0, steps)

    def kernel(self, h: float, reach: int = 64) -> Tensor:
        """Probabilities of steps of 0, h, 2h, ... ``reach`` h on a lattice of spacing ``h``.

        A fine lattice has samples of the density. On a coarse one each step is divided between its
        two neighbours, and the excess of variance that this gives is taken away from the steps of
        one ``h``. The rest up to 1, which includes the atom, is at 0.
        """
        live = 1 - self.atom
        grid = h * np.arange(reach + 1)
        if h <= 0.8 * self.width:
            w = live * h * self.density.pdf(grid)
        else:
            parts = math.ceil(8 * h / self.width)
            edges = np.linspace(0, reach * h, reach * parts + 1)
            mass = -live * np.diff(self.density.sf(edges))
            middle = (edges[1:] + edges[:-1]) / 2
            share, index = np.modf(middle / h)
            w = np.bincount(index.astype(int), mass * (1 - share), reach + 1)
            w += np.bincount(index.astype(int) + 1, mass * share, reach + 1)
            excess = 2 * (w @ grid**2 - mass @ middle**2)
            w[1] = max(w[1] - excess / (2 * h**2), 0.0)
            w[-1] = live * h * self.density.pdf(grid[-1])  # the cell beyond it is left out above
        tail = 2 * live * float(self.density.sf((reach + 0.5) * h))
        w[0] = max(1 - 2 * w[1:].sum() - tail, 1e-300)
        return torch.from_numpy(w)


@lru_cache
def _principal(length: int) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors of the covariance of walks with steps of variance 1."""
    k = torch.arange(1.0, length + 1, dtype=torch.float64)
    values, vectors = torch.linalg.eigh(torch.minimum(k[:, None], k))
    return values, vectors


def _log_laplace(x: Tensor) -> Tensor:
    return -x.abs() - math.log(2)


def _log_student(nu: float) -> Callable[[Tensor], Tensor]:
    constant = float(stats.t(nu).logpdf(0))
    return lambda x: constant - (nu + 1) / 2 * torch.log1p(x.square() / nu)


LAWS = {
    law.name: law
    for law in (
        Law("gaussian", stats.norm(), lambda x: -0.5 * x.square() - 0.5 * math.log(2 * math.pi)),
        Law("laplace", stats.laplace(), _log_laplace),
        Law("bernoulli-laplace", stats.laplace(), _log_laplace, atom=0.9),
        Law("student-3", stats.t(3), _log_student(3)),
        Law("student-1", stats.t(1), _log_student(1)),
    )
}


@dataclass(frozen=True)
class Walk:
    """Random walks as a prior of tiltkit: signals (n, 1, length).

    Attributes:
        law: Law of the steps.
        sigma_range: Noise levels to be used; any positive level is exact.
        scale: Steps of ``law`` are divided by it.
        finer: Factor on the number of lattice points, to test their accuracy.
    """

    law: Law
    sigma_range: tuple[float, float]
    scale: float = 1.0
    channels: int = 1
    value_range: str = "that of the walks"
    finer: float = 1.0
    _kernels: dict[float, Tensor] = field(default_factory=dict, repr=False)

    def to(self, device: torch.device) -> Walk:
        """The same prior: it follows the device of its signals."""
        return self

    def score(self, x: Tensor, sigma: float) -> Tensor:
        """Score of walks with noise ``sigma``: Tweedie's formula."""
        wide = x.double() * self.scale
        residual = self.denoised(wide, sigma * self.scale) - wide
        return (residual / (self.scale * sigma**2)).to(x.dtype)

    def denoised(self, x: Tensor, sigma: float) -> Tensor:
        """``E[x0 | x]`` for ``x = x0 + sigma xi`` (n, 1, length), float64, at scale 1."""
        if self.law.name == "gaussian":
            shrink, vectors = _principal(x.shape[-1])
            return ((x @ vectors) * (shrink / (shrink + sigma**2))) @ vectors.T
        return self._mean(x[:, 0], sigma)[:, None]

    def _spacing(self, sigma: float) -> float:
        """Spacing of the lattice: it resolves noise and steps, or averages over all steps."""
        fine = 0.0 if self.law.atom else min(sigma, self.law.width) / 2
        return max(fine, sigma / POINTS) / self.finer

    def _mean(self, x: Tensor, sigma: float) -> Tensor:
        h = self._spacing(sigma)
        half = math.ceil(HALF * sigma / h)
        offsets = torch.arange(-half, half + 1, dtype=torch.float64)
        centres = (x / h).round()
        window = (centres[..., None] + offsets) * h
        seen = torch.exp(-0.5 * ((window - x[..., None]) / sigma).square())
        points = len(offsets)
        size = fft.next_fast_len(2 * points - 1, real=True)
        steps = self._transforms(centres, h, points, size)
        first = self._log_weights((centres[:, :1] + offsets).abs(), h)
        first = (first - first.max(-1, keepdim=True).values).exp()
        forward, backward = first * seen[:, 0], seen[:, -1]
        arriving, returning = [forward], [torch.ones_like(backward)]
        both = torch.stack([forward, backward])
        pairs = torch.stack([steps, steps.flip(1).conj()])
        seen = torch.stack([seen, seen.flip(1)])
        for k in range(x.shape[1] - 1):
            message = torch.fft.irfft(torch.fft.rfft(both, size) * pairs[:, :, k], size)
            message = message[..., :points].clamp_min_(0)
            message = message / message.amax(-1, keepdim=True)
            both = message * seen[:, :, k + 1]
            arriving.append(both[0])
            returning.append(message[1])
        density = torch.stack(arriving, 1) * torch.stack(returning[::-1], 1)
        return (density * window).sum(-1) / density.sum(-1)

    def _transforms(self, centres: Tensor, h: float, points: int, size: int) -> Tensor:
        """Fourier transforms of the steps' probabilities between neighbouring windows."""
        lags = torch.arange(size, dtype=torch.float64)
        lags = torch.where(lags < points, lags, lags - size)
        distance = (centres.diff(dim=1)[..., None] + lags).abs()
        log_weight = self._log_weights(distance, h)
        # Lags that no pair of points has may hold anything; their largest must not set the scale.
        return torch.fft.rfft((log_weight - log_weight.amax(-1, keepdim=True)).exp())

    def _log_weights(self, steps: Tensor, h: float) -> Tensor:
        """Log probabilities of steps on the lattice, given by whole numbers >= 0."""
        if h not in self._kernels:
            self._kernels[h] = self.law.kernel(h).log()
        near = self._kernels[h]
        tail = self.law.log_pdf(steps * h) + math.log(h * (1 - self.law.atom))
        inside = steps < len(near)
        return torch.where(inside, near[torch.where(inside, steps, 0).long()], tail)
