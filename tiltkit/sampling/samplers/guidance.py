"""One level of twisted diffusion: where particles go, and what the data make of them there.

Names as in `tiltkit.sampling.samplers.twisted`. The best guidance ``g`` is the gradient of
``log h_a``, ``J^H u`` with ``u = A^H S_a^-1 (y - A D_a(x))`` and ``J`` the Jacobian of ``D_a``.
That of a posterior mean is symmetric (it is its covariance over a^2), so that one more forward
call stands in for back-propagation: ``J u ~ (D_a(x + delta u / |u|) - D_a(x)) |u| / delta``. For a
network whose Jacobian is not symmetric, or where the difference is coarse, guidance is not the
best, and the weights, which use the density of what was really drawn, are as exact as before.

Numbers that all particles of the level before agree on, fixed before any weight of their level is
computed: ``C_b``, diagonal with one value for each of the tilt's `Bands`, from the curvature
``u^H J u / u^H u`` of the prior along the residual within the band, of the median particle; and,
from averages over all of them, the breadth
``j`` in ``v = (b^2 + gap j) gap / a^2``, the part of the reverse kernel's variance that comes from
what ``D_a(x)`` leaves open, measured by the newest noise without another call.

Where ``J`` differs within a band, ``C`` is too small for some directions, and guidance would throw
particles beyond the data along them, ever further from level to level. The guidance of such a
particle is shortened to twice what fits the data best; what is drawn is what is weighed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from tiltkit.posterior.average import Averaging
from tiltkit.sampling.jacobian import JacobianDiagonal, inner
from tiltkit.sampling.particles.weights import normalised
from tiltkit.sampling.state import LikelihoodTerm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from tiltkit.posterior.average import Average
    from tiltkit.sampling.gaussian.conditioning import Conditioning
    from tiltkit.sampling.particles.rng import ParticleRng
    from tiltkit.sampling.state import State
    from tiltkit.sampling.target import Target

__all__ = ["Prediction", "from_prior", "predict", "likelihood_term_at", "require_likelihood_term"]

# Coordinates, and particles, that averages over bands are taken from, at least.
_COORDINATES, _PARTICLES = 2**16, 4
# Guidance along which residuals cannot grow: at most twice what fits the data best.
_OVERSHOOT = 2.0


@dataclass(frozen=True, slots=True)
class Prediction:
    """Particles at a new level, before the data are seen from there.

    Attributes:
        c: Particles.
        score: Of the prior at the new level.
        log_ratio: (particle,) float64, prior's kernel over proposal, over the old ``h``.
        variance: ``c_b`` of the new ``h``, for each of the tilt's bands.
        mean_jacobian: See `State`.
        jacobian: The mean diagonal of the denoiser's Jacobian in each band.
        denoised_mean: See `State`.
    """

    c: Tensor
    score: Tensor
    log_ratio: Tensor
    variance: Sequence[float]
    mean_jacobian: float
    jacobian: Sequence[float]
    denoised_mean: Average | None = None


def from_prior(target: Target, level: float, rng: ParticleRng) -> Prediction:
    """Draws from the prior at the first level, where it is all but Gaussian."""
    mean = target.prior_mean(level)
    bands = target.conditioning.bands
    parts, mean_jacobian, jacobian = [], JacobianDiagonal(target), JacobianDiagonal(target, bands)
    for rows in target.chunks():
        xi = rng.normal(rows, target.problem.shape, target.dtype)
        c = target.bounded(mean + level * xi)
        score = target.score(c, level)
        shown = c + level**2 * score - mean
        mean_jacobian.add(rows, xi, shown, level)
        _sample(jacobian, target, rows, xi, shown, level)
        parts.append((c, score))
    c, score = (torch.cat(both) for both in zip(*parts, strict=True))
    log_weight = torch.zeros(target.n, dtype=torch.float64, device=target.device)
    wide = [level**2] * bands.count
    return Prediction(c, score, log_weight, wide, mean_jacobian.value, jacobian.values)


def predict(
    target: Target, state: State, level: float, rng: ParticleRng, difference_step: float
) -> Prediction:
    """Predictions shifted towards the data, their densities, and the score there.

    Args:
        target: The problem.
        state: Particles at the level before.
        level: The new, lower one.
        rng: Randomness.
        difference_step: Length of the finite difference, in spreads of what a particle leaves open.
    """
    a, b, likelihood_term = state.level, level, require_likelihood_term(state)
    gap = a**2 - b**2
    v = state.kernel(b)
    log_ratio = likelihood_term.potential.clone()
    conditioning = target.conditioning
    curvature, mean_jacobian = (
        JacobianDiagonal(target, conditioning.bands),
        JacobianDiagonal(target),
    )
    jacobian = JacobianDiagonal(target, conditioning.bands)
    denoised_mean, weights = Averaging(), normalised(state.log_weight)
    parts = []
    for rows in target.chunks():
        x, score, likelihood_score = (
            state.c[rows],
            state.score[rows],
            likelihood_term.likelihood_score[rows],
        )
        denoised = torch.add(x, score, alpha=a**2)
        ju = _jacobian(
            target, x, denoised, conditioning.image(likelihood_score), state, difference_step
        )
        bent = conditioning.coordinates(ju)
        curvature.add(rows, likelihood_score, bent)
        share = _share(
            conditioning, conditioning.coordinates(denoised), bent, likelihood_score, gap
        )
        guidance = share.to(ju.dtype).view(-1, *[1] * (ju.ndim - 1)) * ju
        # Tweedie's formula for the posterior: the denoiser plus a^2 times the gradient of h.
        image = target.problem.to_image(torch.add(denoised, guidance, alpha=a**2))
        denoised_mean.add(image, weights[rows])
        shift = gap * guidance
        xi = rng.normal(rows, target.problem.shape, target.dtype)
        # log N(x'; m, v I) - log N(x'; m + shift, v I)
        log_ratio[rows] -= inner(shift, xi / math.sqrt(v) + shift / (2 * v))
        new = torch.add(x, score, alpha=gap).add_(shift).add_(xi, alpha=math.sqrt(v))
        c = target.bounded(new)
        score = target.score(c, b)
        shown = torch.add(c, score, alpha=b**2) - denoised
        mean_jacobian.add(rows, xi, shown, math.sqrt(v))
        _sample(jacobian, target, rows, xi, shown, math.sqrt(v))
        parts.append((c, score))
    c, score = (torch.cat(both) for both in zip(*parts, strict=True))
    variance = [_left_open(j, a, b) for j in curvature.typical]
    return Prediction(
        c, score, log_ratio, variance, mean_jacobian.value, jacobian.values, denoised_mean.result()
    )


def likelihood_term_at(
    target: Target, prediction: Prediction, level: float
) -> tuple[LikelihoodTerm, float]:
    """Likelihood at the denoised images, and the mean residual ratio of the level."""
    c, score, conditioning = prediction.c, prediction.score, target.conditioning
    potential, residual_ratio = (torch.empty_like(prediction.log_ratio) for _ in range(2))
    pulls = []
    for rows in target.chunks():
        denoised = conditioning.coordinates(torch.add(c[rows], score[rows], alpha=level**2))
        likelihood_score, potential[rows] = conditioning.likelihood_score(
            denoised, prediction.variance
        )
        pulls.append(likelihood_score)
        residual_ratio[rows] = conditioning.weighted_residual(
            denoised, [level**2 * j for j in prediction.jacobian]
        )
    return LikelihoodTerm(potential, torch.cat(pulls), prediction.variance), float(
        residual_ratio.mean()
    )


def require_likelihood_term(state: State) -> LikelihoodTerm:
    """The likelihood term of a state; states of all levels but the last have one."""
    assert state.likelihood_term is not None  # noqa: S101  (all levels but the last have one)
    return state.likelihood_term


def _jacobian(
    target: Target, x: Tensor, denoised: Tensor, u: Tensor, state: State, difference_step: float
) -> Tensor:
    """``J u``, by a finite difference of the denoiser along ``u``.

    Its length is measured by ``a sqrt(j dim)``, the spread of the prior given a particle: over
    that ``D`` bends. A fixed share of ``a`` alone, though fine in few dimensions, would be
    lost in the rounding of networks at low precision in many.
    """
    a = state.level
    # Where the data ask for nothing, u and with it the difference are zero.
    length = u.flatten(1).norm(dim=1).clamp_min(1e-20)
    length = length.view(-1, *[1] * (u.ndim - 1))
    delta = difference_step * a * math.sqrt(max(state.mean_jacobian * u[0].numel(), 1.0))
    moved = torch.addcmul(x, u, delta / length)
    difference: Tensor = torch.add(moved, target.score(moved, a), alpha=a**2) - denoised
    difference *= length / delta
    return difference


def _sample(
    ratio: JacobianDiagonal,
    target: Target,
    rows: slice,
    noise: Tensor,
    answer: Tensor,
    scale: float,
) -> None:
    """Take in the first particles only: so many that bands are known to a few per cent."""
    enough = max(_PARTICLES, _COORDINATES // noise[0].numel())
    few = slice(rows.start, min(rows.stop, enough))
    if few.start < few.stop:
        kept = few.stop - few.start
        coordinates = target.conditioning.coordinates
        ratio.add(few, coordinates(noise[:kept]), coordinates(answer[:kept]), scale)


def _share(
    conditioning: Conditioning, denoised: Tensor, bent: Tensor, likelihood_score: Tensor, gap: float
) -> Tensor:
    """How much of the guidance to use, 0 to 1 (particle,).

    It moves a denoised particle by about ``gap |J u|^2 / u^H J u`` times ``J u``. The same share
    for all bands: along ``J u`` the prior also fills in what the data do not see.
    """
    bend = inner(bent, likelihood_score) / inner(bent, bent).clamp_min(1e-30)
    share: Tensor = _OVERSHOOT * conditioning.line_search(denoised, bent) * bend / gap
    return share.clamp(0, 1)


def _left_open(j: float, a: float, b: float) -> float:
    """Variance that a particle at level b leaves open, from ``j``, its share of ``a^2`` at a.

    For a Gaussian prior: it has the precision ``1 / (a^2 j) - 1 / a^2``.
    """
    return 1 / (1 / b**2 - 1 / a**2 + 1 / (a**2 * j)) if j > 0 else 0.0
