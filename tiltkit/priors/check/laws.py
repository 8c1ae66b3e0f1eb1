"""Laws that hold for every true prior, as figures that are zero or one where they hold.

The scores of a prior at all noise levels belong to one density. So its denoiser ``D`` has a
symmetric Jacobian ``J``, ``sigma^2 J`` is the posterior covariance of the clean image, and denoised
images are a martingale along the reverse process of the prior.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from tiltkit.priors.check.ancestral import denoised, step_down
from tiltkit.protocols import Prior

__all__ = ["asymmetry", "drift", "growth", "predicted_error", "takes_noise_level"]

# Width of finite differences, in units of the noise level: where the denoiser is smooth.
_WIDTH = 0.05
# Factors by which images are brightened.
_BRIGHTER = (2, 5, 10)


def predicted_error(prior: Prior, x: Tensor, sigma: float, generator: Generator) -> float:
    """Expected squared error of the denoiser: ``sigma^2`` times the mean diagonal of ``J``.

    The trace is estimated by one random vector of signs, which for images of thousands of pixels
    is good to a few percent.

    Returns:
        Mean squared error per value.
    """
    signs = torch.randint(0, 2, x.shape, generator=generator).to(x) * 2 - 1
    return float(sigma**2 * (signs * _jacobian_times(prior, x, sigma, signs)).mean())


def asymmetry(prior: Prior, x: Tensor, sigma: float, generator: Generator, count: int = 8) -> float:
    """Asymmetry of ``J``: 0 is symmetric, 1 is a matrix of independent entries.

    It is ``|J - J^T| / |J + J^T|`` (Frobenius norms), estimated from ``u . J v`` and ``v . J u`` of
    all pairs of ``count`` random vectors.
    """
    vectors = [torch.randn(x.shape, generator=generator).to(x) for _ in range(count)]
    products = [_jacobian_times(prior, x, sigma, v) for v in vectors]
    rows = torch.stack(vectors).flatten(1) @ torch.stack(products).flatten(1).T
    above = torch.triu_indices(count, count, offset=1).unbind()
    one, other = rows[above], rows.T[above]
    even = float((one + other).square().sum())
    return math.sqrt(float((one - other).square().sum()) / even) if even else 0.0


def drift(
    prior: Prior,
    x: Tensor,
    high: float,
    low: float,
    expected: float,
    generator: Generator,
    *,
    steps: int = 6,
    pairs: int = 4,
) -> float:
    """Drift of denoised images along the reverse process from noise ``high`` to ``low``.

    ``E[D_low(x_low) | x_high] = D_high(x_high)`` for every density (the tower rule; Daras et al.,
    arXiv:2302.09057, train for it). Here ``x_low`` is drawn from ``x_high`` with the prior's own
    scores in a few steps. Random numbers come in pairs of opposite sign, so linear denoisers of
    Gaussian priors have a drift of exactly zero; for others what remains of the finite steps
    shrinks with their number.

    Args:
        prior: The prior.
        x: Noisy images (batch, channel, h, w) at level ``high``.
        high: Noise level at the start.
        low: Noise level at the end.
        expected: `predicted_error` at ``high``.
        generator: Draws the random numbers.
        steps: Steps of one walk.
        pairs: Pairs of walks with opposite random numbers.

    Returns:
        Root mean square of the predictable change over that of the expected error (or of the
        change itself where that is larger): 0 for a true prior. The noise of few walks does not
        count, since only products of different pairs are used; below zero is given as 0.
    """
    start = denoised(prior, x, high)
    changes = []
    for _ in range(pairs):
        xis = [torch.randn(x.shape, generator=generator).to(x) for _ in range(steps)]
        ends = [_walk(prior, x, high, low, [sign * xi for xi in xis]) for sign in (1.0, -1.0)]
        changes.append(torch.stack(ends) - start)
    means = torch.stack(changes).mean(1)  # (pairs, ...): each an unbiased estimate of the drift
    total = means.sum(0)
    # Products of different pairs only: squares would count their noise as drift.
    products = (total.square() - means.square().sum(0)).mean() / (pairs * (pairs - 1))
    # A few walks change much and most little: the expected error covers both.
    size = max(float(torch.stack(changes).square().mean()), expected)
    return math.sqrt(max(float(products) / size, 0.0)) if size else 0.0


def growth(prior: Prior, image: Tensor, sigma: float, generator: Generator) -> float:
    """Largest gain of a denoiser on images that are far too bright.

    No prior has such images, but samples may pass through them. Some networks denoise all usual
    images well and return unbounded values for these.

    Returns:
        The largest value of the denoised image over that of the noisy one, for images 2, 5 and 10
        times as bright: about 1 or less for a denoiser that goes on in proportion, infinite where
        it gives no finite value.
    """
    found = []
    for factor in _BRIGHTER:
        x = factor * image + sigma * torch.randn(image.shape, generator=generator).to(image)
        found.append(float(denoised(prior, x, sigma).abs().max() / x.abs().max()))
    return max(f if math.isfinite(f) else math.inf for f in found)


def takes_noise_level(prior: Prior, x: Tensor, sigma: float) -> bool:
    """True where the denoised image depends on the noise level."""
    one, other = denoised(prior, x, sigma), denoised(prior, x, 2 * sigma)
    return bool((one - other).abs().max() > 1e-5 * one.abs().max())


def _walk(prior: Prior, x: Tensor, high: float, low: float, xis: list[Tensor]) -> Tensor:
    """Denoised images at the end of a walk down, with these random numbers."""
    sigmas = [high * (low / high) ** (k / len(xis)) for k in range(len(xis) + 1)]
    for a, b, xi in zip(sigmas[:-1], sigmas[1:], xis, strict=True):
        x = step_down(x, denoised(prior, x, a), a, b, xi)
    return denoised(prior, x, low)


def _jacobian_times(prior: Prior, x: Tensor, sigma: float, v: Tensor) -> Tensor:
    """``J v`` by central differences: works for every prior, also where autograd does not."""
    width = _WIDTH * sigma / float(v.square().mean().sqrt())
    ahead, behind = (denoised(prior, x + sign * width * v, sigma) for sign in (1, -1))
    return (ahead - behind) / (2 * width)
