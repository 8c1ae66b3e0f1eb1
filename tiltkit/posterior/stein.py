"""Stein check: variance and mean of samples against those of their target, without a reference.

For a target with score ``s`` and mean ``m``, integration by parts gives in any coordinates

    E[s_i] = 0,   E[s_i (x_i - m_i)] = -1.

Here ``s`` is the score of the prior at the last noise level plus that of the likelihood. Samples
whose variance is ``v`` times that of a Gaussian target have ``-E[s_i (x_i - m_i)] = v``. Averages
are over bands of spatial frequency, since the error of a sampler differs between coarse and fine
detail. Both identities hold inside each separate mode, whatever its share: wrong shares do not
show.

The square of ``E_q[s f + div f]`` over ``E_q |f|^2`` is, for any field ``f``, a lower bound of the
Fisher divergence between samples of law ``q`` and the target (Cauchy-Schwarz). With ``f = x - m``
and ``f = E[s]`` the figures of the check are such bounds.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch

from tiltkit.operators.hartley import frequencies, hartley
from tiltkit.posterior.average import frequency_bands
from tiltkit.posterior.verdict import BandCheck

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from tiltkit.problem import Problem

__all__ = ["fisher_at_least", "stein_check", "stein_report"]

# Number of coefficients times independent samples in a band: its variance ratio then has a standard
# error of 4 %, or of 5 to 6 % where few coefficients have most of the variance. A ratio of 0.8 can
# be told from 1.
PRODUCTS = 1200.0
# Multiplications that the check may cost, and most samples it uses: pairs of samples are compared.
_COST, _MOST_SAMPLES = 4e9, 2048
# A nonnegative image is away from 0 where its mean is this many standard deviations above 0, and
# the check needs that of all but a small share of the pixels: each of the others adds an error of
# the order of 1 to a sum over the pixels.
AWAY, MOST_AT_BOUNDARY = 4.0, 0.01
# Fewest samples: the scatter of products of pairs is not defined for two.
FEWEST_SAMPLES = 3


def stein_report(
    problem: Problem,
    x: Tensor,
    prior_score: Tensor | None,
    independent: float,
    chunk: int,
    round_ratios: tuple[Tensor, tuple[int, ...]] | None = None,
) -> dict[str, Any]:
    """Figures of the certificate by name: ``bands`` and their extremes, or ``not_checked``.

    Args:
        problem: The problem; its likelihood gives the other part of the score.
        x: Samples (n, channel, *space) of the last target.
        prior_score: Score of the prior at the samples and the last noise level, shaped as ``x``;
            None where the sampler has no last target.
        independent: Number of independent samples among them, at most ``n``: samples with a common
            ancestor scatter as one.
        chunk: Number of samples whose likelihood is computed at once.
        round_ratios: ``ratios`` and ``image`` of `over_rounds`; None for a single round.
    """
    constraint = problem.constraint
    if prior_score is None:
        return {"not_checked": "the sampler has no last target"}
    if min(len(x), independent) < FEWEST_SAMPLES:
        return {"not_checked": "too few independent samples"}
    if constraint is not None and constraint.nonnegative and _at_boundary(x):
        return {"not_checked": "many values are at the boundary of the constraint"}
    rows = _spread_evenly(x)
    parts = zip(*(torch.split(some[rows], chunk) for some in (x, prior_score)), strict=True)
    score = torch.cat([s - problem.likelihood.gradient(part) for part, s in parts])
    if not bool(score.isfinite().all()):
        return {"not_checked": "the score of the likelihood is not finite"}
    support = None if constraint is None else constraint.support
    last = stein_check(x[rows], score, independent, support)
    bands = last if round_ratios is None else over_rounds(last, *round_ratios)
    return {
        "bands": bands,
        "spread_ratio_min": min(ratio for band in bands for ratio, _ in band.ratios),
        "spread_ratio_max": max(ratio for band in bands for ratio, _ in band.ratios),
        "mean_offset_max": max(band.offset_sd for band in bands),
        "fisher_at_least": fisher_at_least(bands),
    }


def over_rounds(
    bands: Sequence[BandCheck], ratios: Tensor, image: tuple[int, ...]
) -> tuple[BandCheck, ...]:
    """Checks of the last round as those of the standard deviation over all collected rounds.

    Within a band, the variance of a round is proportional to its `BandCheck.spread`.

    Args:
        bands: Checks of the last round.
        ratios: Variance of the samples averaged over rounds, over that of the last round, in each
            of the `frequency_bands`.
        image: Shape of an image.
    """
    shells = frequency_bands(image, ratios.device)
    frequency = frequencies(image).to(ratios.device)
    by_frequency = torch.zeros_like(frequency, dtype=torch.float64)
    by_frequency += ratios[shells.labels] if shells.labels is not None else ratios[0]
    found = []
    for band in bands:
        inside = (frequency >= band.low) & ((frequency < band.high) | band.finest)
        ratio = float(by_frequency[inside].mean()) if bool(inside.any()) else 1.0
        (spread, error), (total, total_error) = (
            (one * ratio, error * ratio) for one, error in (band.ratios[0], band.ratios[-1])
        )
        found.append(
            replace(band, spread=spread, spread_error=error, total=total, total_error=total_error)
        )
    return tuple(found)


def stein_check(
    x: Tensor, score: Tensor, independent: float, support: Tensor | None = None
) -> tuple[BandCheck, ...]:
    """Check samples of a target band by band, from coarse to fine detail; see this module's head.

    Args:
        x: Samples (n, channel, *space), three or more.
        score: Score of the target at the samples, shaped as ``x``.
        independent: Number of independent samples among them; ``n``, or less.
        support: Mask (channel, *space) of values that are not fixed to 0; None for all.
    """
    independent = min(independent, len(x))
    share = 1.0
    if support is not None:
        # Bands contain both of each pair of opposite frequencies, so that each has the same share
        # of directions that are not fixed.
        support = support.to(x.device).expand_as(x[0])
        x, score = x.where(support, 0.0), score.where(support, 0.0)
        share = float(support.double().mean())
    return tuple(_bands(x, score, independent, share))


def fisher_at_least(bands: Sequence[BandCheck]) -> float:
    """Lower bound of the Fisher divergence between samples and target, per value.

    Each coefficient is in units of the samples' standard deviation. The confidence is 97.5 % in
    each band.
    """
    total = sum(band.coordinates for band in bands)
    return sum(band.fisher * band.coordinates / total for band in bands)


def _at_boundary(x: Tensor) -> bool:
    close = x.mean(0) <= AWAY * x.std(0)  # 0 in all samples is at the boundary, too
    return float(close.double().mean()) > MOST_AT_BOUNDARY


def _spread_evenly(x: Tensor) -> Tensor:
    """Indices of the samples to use, evenly spaced: resampled particles are sorted."""
    n, size = len(x), x[0].numel()
    most = min(n, _MOST_SAMPLES, max(128, int(math.sqrt(_COST / size))))
    return torch.linspace(0, n - 1, most, device=x.device).round().long()


def _bands(x: Tensor, score: Tensor, independent: float, share: float) -> Iterator[BandCheck]:
    n, channels, space = len(x), x.shape[1], tuple(x.shape[2:])
    fewest = PRODUCTS / (independent - 1) / channels / share
    if space:
        axes = tuple(range(-len(space), 0))
        x, score = hartley(x, axes), hartley(score, axes)
        frequency = frequencies(space).to(x.device).flatten()
        edges = _edges(frequency, fewest)
    else:
        frequency, edges = torch.zeros(1, device=x.device), []
    x, score = x.reshape(n, channels, -1), score.reshape(n, channels, -1)
    limits = [0.0, *edges, math.inf]
    for low, high in pairwise(limits):
        inside = (frequency >= low) & (frequency < high)
        a, b = (some[:, :, inside].flatten(1).double() for some in (x, score))
        finest = math.isinf(high)
        top = float(frequency.max()) if finest else high
        yield _check(a, b, (low, top), independent, share, finest=finest)


def _edges(frequency: Tensor, fewest: float) -> list[float]:
    """Limits between bands: the coarsest has ``fewest`` frequencies, each further one an octave.

    Frequencies of equal length stay together. What is left above the last octave joins it where it
    has fewer frequencies than the coarsest band.
    """
    ordered = frequency.sort().values
    if fewest > len(ordered) / 2:
        return []
    edge = float(ordered[max(math.ceil(fewest), 1)]) * (1 - 1e-6)
    edges = []
    while int((frequency >= edge).sum()) >= fewest and edge < float(ordered[-1]):
        edges.append(edge)
        edge *= 2
    return edges


def _check(
    x: Tensor,
    score: Tensor,
    limits: tuple[float, float],
    independent: float,
    share: float,
    *,
    finest: bool,
) -> BandCheck:
    """Check one band with coefficients (n, coefficient) in float64.

    The offset is ``sum c_i s-bar_i^2 / sum c_i P_i - 1 / n`` with the variances ``c_i`` of the
    samples and ``P_i`` of their scores. Where the mean is right, the fraction is ``1 / n`` on
    average. A mean that is off by ``d`` posterior standard deviations, in random directions, adds
    ``d^2 / spread``. Dividing by the sum of ``c_i P_i``, whose terms are above ``spread^2`` where
    coefficients are correlated, makes that so for any operator.

    Products of particles with a common ancestor are no measure of scatter. There its upper bound is
    used: an operator that couples coefficients raises the variance of their products by at most the
    mean of ``c_i P_i / spread^2``.
    """
    n, size = len(x), x.shape[1] * share
    mean_score = score.mean(0)
    x, score = x - x.mean(0), score - mean_score
    products = score @ x.T
    spread = -float(products.trace()) / (n - 1) / size
    c, p = x.square().sum(0) / (n - 1), score.square().sum(0) / (n - 1)
    # The mean of the product of two sample variances is above that of the variances by
    # 2 Cov(x, s)^2 / (n - 1), where the covariance is -spread.
    squared = spread**2 * size * share
    metric = max(float((c * p).sum()) - 2 * squared / (n - 1), squared, 1e-30)
    if independent < n:
        coupling = metric / max(squared, 1e-30)
        variance, pairs = size * (1 + coupling), coupling * metric**2 / size
    else:
        variance = max(_product_variance(products), 2 * size)
        pairs = _pair_variance((score * c) @ score.T)
    error = math.sqrt(variance / (independent - 1)) / size
    offset = float((c * mean_score.square()).sum()) / metric
    offset_error = math.sqrt(2 * pairs / (independent * (independent - 1))) / metric
    # Particles with a common ancestor are correlated, but need not be copies: the variance of the
    # mean is between 1 / n and 1 / independent.
    least, most = 1 / n, 1 / independent
    offset, offset_error = offset - (least + most) / 2, offset_error + (most - least) / 2
    fisher = max(abs(spread - 1) - 2 * error, 0.0) ** 2
    fisher += max(offset - 2 * offset_error, 0.0) * metric / size
    scale, total = max(spread, 0.0), float(c.sum())
    # Cov(x, s) and c are estimated from the same samples: the mean of the product of the estimates
    # is above that of the true ones by 2 / (n - 1) of it (Gaussian samples).
    products = (score * x) @ c
    weighted = -float(products.sum()) / (n + 1) / (total * share)
    concentration = math.sqrt(x.shape[1] * float(c.square().sum())) / total
    # The weights are estimates too: their scatter raises that of the products by this factor.
    rise = (1 + 4 / (n - 1)) * (1 + 6 / (n - 1))
    jackknife = math.sqrt(float(products.var()) / rise / (independent - 1)) / (total * share)
    return BandCheck(
        *limits, x.shape[1], spread, error, scale * offset, scale * offset_error, fisher,
        total / size, finest, weighted, max(error * concentration, jackknife),
    )  # fmt: skip


def _product_variance(products: Tensor) -> float:
    """Variance of the product of coefficients and scores of a particle.

    It is twice that of pairs of particles if these are Gaussian. The variance of the products
    themselves (jackknife) also holds for heavier tails. The larger one is returned.
    """
    pairs = 2 * _pair_variance((products + products.T) / 2)
    return max(pairs, float(products.diagonal().var()))


def _pair_variance(products: Tensor) -> float:
    """Variance of the products of two different particles, from a centred matrix of products.

    For Gaussian particles the symmetric matrix (n, n) is a multiple of the centring matrix plus a
    matrix of the Gaussian orthogonal ensemble of ``n - 1`` dimensions. Subtracting the multiple
    leaves ``(n - 2) (n + 1)`` times the variance as its squared norm.
    """
    n = len(products)
    square = float(products.square().sum()) - float(products.trace()) ** 2 / (n - 1)
    return max(square, 0.0) / ((n - 2) * (n + 1))
