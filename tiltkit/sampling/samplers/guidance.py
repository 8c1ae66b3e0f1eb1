"""Predictions of the twisted diffusion sampler: guidance, likelihood term, error covariance.

Symbols as in `tiltkit.sampling.samplers.twisted`. The optimal guidance ``g`` is the gradient of
``log h_a(x)``, ``J^H u``, with the likelihood score ``u = A^H S_a^-1 (y - A D_a(x))`` and the
Jacobian ``J`` of ``D_a``. The Jacobian of an exact denoiser is symmetric, ``Cov[x0 | x_a] / a^2``.
One more forward call therefore replaces back-propagation:

    J^H u = J u ~ (D_a(x + d u / |u|) - D_a(x)) |u| / d

Weights use the density of the guidance that was applied. They stay exact for networks whose
Jacobian is not symmetric and for coarse differences; only their variance grows.

Scalars that all particles share are estimated before the weights of their level:

* ``C_b``, the error covariance of ``D_b``: one value per band, from the curvature
  ``u^H J u / u^H u`` of the median particle.
* The mean diagonal of ``J`` in each band, and ``j = tr J / dim`` in the kernel variance ``v``: from
  the change of the denoised image with the injected noise, without another network call.

Within a band ``J`` may vary. ``C`` is then too small for some directions, and full guidance would
move particles beyond the data along them, further at each level. The guidance of such a particle is
shortened to `OVERSHOOT` times the least-squares step length.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from tiltkit.operators.inner import inner, per_image
from tiltkit.posterior.average import StreamingMean
from tiltkit.sampling.jacobian import JacobianDiagonal, joined
from tiltkit.sampling.particles.weights import normalised
from tiltkit.sampling.state import LikelihoodTerm

if TYPE_CHECKING:
    from torch import Tensor

    from tiltkit.posterior.average import MeanEstimate
    from tiltkit.sampling.gaussian.conditioning import Conditioning
    from tiltkit.sampling.particles.rng import ParticleRng
    from tiltkit.sampling.state import State
    from tiltkit.sampling.target import Target

__all__ = ["Prediction", "denoised_likelihood", "predict", "predict_first"]

# Coordinates, and particles, that suffice for an average over a band. Chosen by hand: the estimate
# is then known to a few per cent.
MIN_COORDINATES, MIN_PARTICLES = 2**16, 4
# Longest guidance over the least-squares step length. Beyond 2 the residual would grow.
OVERSHOOT = 2.0


@dataclass(frozen=True, slots=True)
class Prediction:
    """Particles at a new level b, before the likelihood term of that level.

    Attributes:
        c: Particles (particle, channel, *space), as images.
        score: Score of the prior at level b, shaped as ``c``.
        log_ratio: ``log N(x'; m, v I) - log N(x'; m + gap g, v I) - log h_a(x)``, (particle,)
            float64.
        variance: Diagonal of ``C_b``, one value per band, float64.
        jacobian: Estimate of the mean diagonal of the denoiser's Jacobian in each band.
        covariance: ``b^2`` times that mean diagonal, (band,) float64.
        denoised_mean: ``E[x0 | x_a, y]`` averaged over the particles of level a; None at the first
            level, and where `Target.averages_denoised` is False.
    """

    c: Tensor
    score: Tensor
    log_ratio: Tensor
    variance: Tensor
    jacobian: JacobianDiagonal
    covariance: Tensor
    denoised_mean: MeanEstimate | None = None


def predict_first(target: Target, level: float, rng: ParticleRng) -> Prediction:
    """Samples of the prior at the first level, where it is nearly Gaussian."""
    mean = target.prior_mean(level)
    parts, jacobian = [], JacobianDiagonal(target, target.conditioning.bands)
    for rows in target.chunks():
        xi = rng.normal(rows, target.problem.shape, target.dtype)
        c = target.constrain_images(mean + level * xi)
        score = target.score(c, level)
        change = torch.add(c, score, alpha=level**2) - mean  # of the denoised image with the noise
        _add_first(jacobian, target, rows, xi, change, level)
        parts.append((c, score))
    c, score = (joined(both) for both in zip(*parts, strict=True))
    log_ratio = torch.zeros(target.n, dtype=torch.float64, device=target.device)
    covariance = jacobian.scaled_means(level**2)
    variance = torch.full_like(covariance, level**2)  # the upper bound
    return Prediction(c, score, log_ratio, variance, jacobian, covariance)


def predict(
    target: Target, state: State, level: float, rng: ParticleRng, difference_step: float
) -> Prediction:
    """One guided reverse step of all particles: ``x' = m + gap g + sqrt(v) xi``.

    Args:
        target: The problem.
        state: Particles at level a, with their likelihood term.
        level: The new level b < a.
        rng: Randomness.
        difference_step: Length of the finite difference in standard deviations of the denoised
            image.
    """
    a, b, term = state.level, level, state.likelihood_term
    assert term is not None  # noqa: S101  (states above tau have one)
    gap, v = a**2 - b**2, state.kernel_variance(b)
    conditioning, root_v = target.conditioning, math.sqrt(v)
    curvature = JacobianDiagonal(target, conditioning.bands)
    jacobian = JacobianDiagonal(target, conditioning.bands)
    denoised_mean, weights = StreamingMean(), normalised(state.log_weight)
    parts = []
    for rows in target.chunks():
        x, score, u = state.c[rows], state.score[rows], term.score[rows]
        denoised = torch.add(x, score, alpha=a**2)  # D_a(x)
        ju = _jacobian_product(target, x, denoised, conditioning.image(u), state, difference_step)
        ju_coordinates = conditioning.coordinates(ju)
        u_ju = curvature.add(rows, u, ju_coordinates)[0].sum(1)
        length = _guidance_length(conditioning, denoised, u_ju, ju_coordinates, gap)
        g = per_image(length, ju) * ju
        if target.averages_denoised:
            # Tweedie's formula for p_a h_a: E[x0 | x_a, y] = D_a(x) + a^2 g
            image = target.problem.to_image(torch.add(denoised, g, alpha=a**2))
            denoised_mean.add(image, weights[rows])
        xi = rng.normal(rows, target.problem.shape, target.dtype)
        # With shift = gap g: log N(x'; m, v I) - log N(x'; m + shift, v I) - log h_a(x)
        #   = -<shift, root_v xi + shift / 2> / v + potential
        log_ratio = torch.sub(
            term.potential[rows], inner(g, torch.add(xi, g, alpha=gap / (2 * root_v))),
            alpha=gap / root_v,
        )  # fmt: skip
        new = torch.add(x, score + g, alpha=gap).add_(xi, alpha=root_v)
        c = target.constrain_images(new)
        score = target.score(c, b)
        change = torch.add(c, score, alpha=b**2).sub_(denoised)  # D_b(x') - D_a(x)
        _add_first(jacobian, target, rows, xi, change, root_v)
        parts.append((c, score, log_ratio))
    c, score, log_ratio = (joined(three) for three in zip(*parts, strict=True))
    return Prediction(
        c, score, log_ratio, _error_variance(curvature.medians, a, b),
        jacobian, jacobian.scaled_means(b**2),
        denoised_mean.result() if target.averages_denoised else None,
    )  # fmt: skip


def denoised_likelihood(
    target: Target, prediction: Prediction, level: float
) -> tuple[LikelihoodTerm, Tensor]:
    """The likelihood term ``h_b`` at the denoised images, and their residual ratios (particle,).

    The residual ratio is ``r^H (noise_var I + b^2 A J A^H)^-1 r`` over its expected value, with
    ``r = y - A D_b(x)``. It is 1 on average where the prior is right.
    """
    parts = []
    for rows in target.chunks():
        x, score = prediction.c[rows], prediction.score[rows]
        denoised = target.conditioning.coordinates(torch.add(x, score, alpha=level**2))
        u, potential = target.conditioning.likelihood_score(denoised, prediction.variance)
        ratio = target.conditioning.residual_ratio(denoised, prediction.covariance)
        parts.append((u, potential, ratio))
    u, potential, ratio = (joined(three) for three in zip(*parts, strict=True))
    return LikelihoodTerm(potential, u), ratio


def _jacobian_product(
    target: Target, x: Tensor, denoised: Tensor, u: Tensor, state: State, difference_step: float
) -> Tensor:
    """``J u`` by a finite difference of the denoiser along ``u``, as images; one network call.

    The length of the difference is a multiple of ``a sqrt(tr J)``, the standard deviation of ``x0``
    given ``x_a``. A fixed multiple of ``a`` would be lost in the rounding errors of networks at low
    precision in high dimension.
    """
    a = state.level
    d = difference_step * a * math.sqrt(max(state.mean_jacobian * u[0].numel(), 1.0))
    # |u| / d; a zero residual gives u = 0 and with it a product of 0.
    scale = per_image(u.flatten(1).norm(dim=1).clamp_min(1e-20).div_(d), u)
    moved = torch.addcdiv(x, u, scale)
    difference = torch.add(moved, target.score(moved, a), alpha=a**2)
    return difference.sub_(denoised).mul_(scale)


def _add_first(
    jacobian: JacobianDiagonal,
    target: Target,
    rows: slice,
    xi: Tensor,
    change: Tensor,
    scale: float,
) -> None:
    """Add the first particles only, as many as `MIN_COORDINATES` needs, to save transforms."""
    enough = max(MIN_PARTICLES, MIN_COORDINATES // xi[0].numel())
    first = slice(rows.start, min(rows.stop, enough))
    if first.start < first.stop:
        kept = first.stop - first.start
        pair = target.conditioning.coordinates(torch.cat([change[:kept], xi[:kept]]))
        jacobian.add_pair(first, pair.view(2, kept, *pair.shape[1:]), scale)


def _guidance_length(
    conditioning: Conditioning, denoised: Tensor, u_ju: Tensor, ju: Tensor, gap: float
) -> Tensor:
    """Factor of the guidance ``J u`` in [0, 1], (particle,) float64.

    A shift by ``gap J u`` moves the denoised image by about ``gap |J u|^2 / u^H J u`` times
    ``J u``. The factor is the same for all bands, since ``J u`` also holds the prior's correlations
    between measured and unmeasured directions.

    Args:
        conditioning: The linear-Gaussian algebra.
        denoised: Denoised images ``D_a(x)``, as images.
        u_ju: ``u^H J u`` of the likelihood score ``u``, (particle,) float64.
        ju: ``J u``, in coordinates.
        gap: ``a^2 - b^2``.
    """
    best = conditioning.step_length(conditioning.coordinates(denoised), ju)
    factor = (best * u_ju).mul_(OVERSHOOT / gap)
    return factor.div_(inner(ju, ju).clamp_min(1e-30)).clamp_(0, 1)


def _error_variance(jacobian: Tensor, a: float, b: float) -> Tensor:
    """Error variance of ``D_b`` along directions where that of ``D_a`` is ``a^2 jacobian``.

    For a Gaussian prior: its precision there is ``1 / (a^2 jacobian) - 1 / a^2``.
    """
    variance = a**2 * jacobian
    return variance / (1 + (1 / b**2 - 1 / a**2) * variance)
