"""Start of a run: the posterior of a Gaussian with the prior's mean and spectrum, noised.

At its largest noise level a network prior knows images only up to noise of that level. Coarse
detail of an image is often larger: the mean of a head of 256x256 pixels is a Fourier coefficient
13 times that of noise at level 5. Samples of pure noise are therefore no samples of the noised
prior. A Gaussian with the prior's mean and spectrum continues it to larger noise:

    x0 ~ N(mean, S) given y,   x = x0 + a xi

The spectrum ``S``, one value per shell of spatial frequency, follows from the diagonal ``j`` of the
denoiser's Jacobian at level ``a``. For a Gaussian prior ``j = S / (S + a^2)``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from tiltkit.sampling.gaussian.diagonal import shaped
from tiltkit.sampling.jacobian import JacobianDiagonal, joined
from tiltkit.sampling.particles.rng import ParticleRng

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from tiltkit.sampling.target import Target

__all__ = ["gaussian_start", "prior_spectrum"]

# Largest diagonal of the Jacobian that a spectrum is computed from: networks know it to about
# 1 %. A spectrum of 100 a^2 or more is flat as far as the data are concerned.
LARGEST = 0.99
# Particles that the spectrum is measured with: these, and more where images are small.
PARTICLES, COORDINATES = 4, 2**14


def gaussian_start(
    target: Target, spectrum: Sequence[float], level: float, tau: float, rng: ParticleRng
) -> tuple[Tensor, Tensor, JacobianDiagonal]:
    """Particles at the first noise level, their scores, and the denoiser's Jacobian by shell.

    Args:
        target: The problem.
        spectrum: Variance of the prior in each shell, at noise level ``tau``.
        level: The first noise level ``a``.
        tau: The last one, whose noise counts as part of the image.
        rng: Randomness.
    """
    shells = target.conditioning.shells
    mean, s = target.prior_mean(level), math.sqrt(level**2 - tau**2)
    expected = shells.broadcast([v / (v + s**2) for v in spectrum])
    jacobian, parts = JacobianDiagonal(target, shells), []
    for rows in target.chunks():
        image = _conditioned(target, mean, spectrum, rng, rows)
        xi = rng.normal(rows, target.problem.shape, target.dtype)
        x = target.constrain_images(image + s * xi)
        score = target.score(x, level)
        denoised = torch.add(x, score, alpha=s**2)
        # Without the part of the image the response to the noise is exact for Gaussian priors.
        change = denoised - mean - shells.scale(image - mean, expected)
        jacobian.add(rows, xi, change, s)
        parts.append((x, score))
    x, score = (joined(both) for both in zip(*parts, strict=True))
    return x, score, jacobian


def prior_spectrum(target: Target, level: float) -> list[float]:
    """Variance of the prior in each shell of spatial frequency, from its Jacobian at a level.

    The Jacobian is measured twice: around the prior's mean, and around images that fit the data
    as the first estimate allows. It costs two network calls for a few particles.
    """
    shells, mean = target.conditioning.shells, target.prior_mean(level)
    # A stream of its own: that of the run must not depend on the chunk size.
    n = min(target.n, max(PARTICLES, COORDINATES // mean.numel()))
    rng = ParticleRng((0,), n, target.device)
    known, spectrum = [0.0] * shells.count, None
    for _ in range(2):
        jacobian = JacobianDiagonal(target, shells)
        expected = shells.broadcast(known)
        for first in range(0, n, target.chunk):
            rows = slice(first, min(first + target.chunk, n))
            image = mean if spectrum is None else _conditioned(target, mean, spectrum, rng, rows)
            xi = rng.normal(rows, target.problem.shape, target.dtype)
            x = image + level * xi
            denoised = torch.add(x, target.score(x, level), alpha=level**2)
            change = denoised - mean - shells.scale(image - mean, expected)
            jacobian.add(rows, xi, change, level)
        known = [min(j, LARGEST) for j in jacobian.means]
        spectrum = [level**2 * j / (1 - j) for j in known]
    assert spectrum is not None  # noqa: S101  (for the type checker)
    return spectrum


def _conditioned(
    target: Target, mean: Tensor, variance: Sequence[float], rng: ParticleRng, rows: slice
) -> Tensor:
    """Samples of ``N(mean, C)`` given the data, for a chunk of particles."""
    conditioning, shape = target.conditioning, target.problem.shape
    white = rng.normal(rows, shape, target.dtype)
    u = shaped(white, conditioning.shells, variance)
    image = mean + u
    r = conditioning.residual(image) - conditioning.data_noise(rng, rows)
    back = conditioning.adjoint(conditioning.solve(r, variance, rough=False))
    return image + conditioning.shells.scale(back, conditioning.shells.broadcast(variance))
