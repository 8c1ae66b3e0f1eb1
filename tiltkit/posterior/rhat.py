"""Split R-hat of independent groups of particles, and their number of independent samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from tiltkit.posterior.level import Info

if TYPE_CHECKING:
    from torch import Tensor

    from tiltkit.posterior.moments import Moments

__all__ = ["independent_samples", "split_rhat", "merge_levels"]


def split_rhat(
    halves: Sequence[tuple[Moments, Moments]],
    particles: Sequence[int],
    shared_ancestry: float = 0.0,
) -> dict[str, float]:
    """Number of independent samples, and split R-hat where there are two or more groups.

    Each group's collected rounds are split into an early and a late half, and the variance between
    the means of all halves is compared with that within them (Gelman and Rubin 1992; split as in
    Vehtari et al., Bayesian Analysis 2021, without ranks). Variances are summed over all pixels
    before they are divided, because a pixel by itself has few samples. Samples of one particle in
    several rounds are correlated, so that only particles count as samples. R-hat is left out where
    a group has a single particle.

    Args:
        halves: Moments of early and late samples of each group.
        particles: Number of particles of each group; ``rhat_limit`` is higher for few of them.
        shared_ancestry: Share of pairs of a group's particles with a common ancestor.

    Returns:
        Figures of the certificate by name: ``shared_ancestry``; ``independent_samples``, at most
        the number of samples; for two or more groups ``runs``, ``rhat``, ``rhat_limit`` and
        ``rhat_pixels_95``, the 95 % quantile of R-hat over pixels.
    """
    independent = [independent_samples(n, shared_ancestry) for n in particles]
    report = {"shared_ancestry": shared_ancestry, "independent_samples": sum(independent)}
    n, runs = min(particles), len(halves)
    if runs < 2:
        return report
    report["runs"] = runs
    means, within = _variance_within(halves, particles)
    if n < 2 or float(within.sum()) <= 0:
        return report
    pooled = (1 - 1 / n) * within + means.var(0)
    # The expected value of R-hat^2 plus three standard errors of the variance between `runs` means.
    limit = 1 - 1 / n + (1 + 3 * math.sqrt(2 / (runs - 1))) / min(independent)
    rhat = (pooled / within.clamp_min(1e-12 * float(within.max()))).sqrt().flatten().float()
    total = float(pooled.sum())
    groups = torch.stack([early.merged(late).mean.cpu() for early, late in halves])
    return report | {
        "rhat": math.sqrt(total / float(within.sum())),
        "rhat_limit": max(1.1, math.sqrt(limit)),
        # `kthvalue` has no limit on the number of pixels, where `quantile` has one.
        "rhat_pixels_95": float(rhat.kthvalue(math.ceil(0.95 * rhat.numel())).values),
        # The scatter of few means is known poorly: it may look smaller than that of the samples.
        "independent_samples": min(
            total * runs / max(float(groups.var(0).sum()), 1e-30), sum(independent)
        ),
    }


def _variance_within(
    halves: Sequence[tuple[Moments, Moments]], particles: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Means (half, *image) of all halves with samples, and their average variance (*image)."""
    split = [
        (half.mean.cpu(), half.std(n).square().cpu())
        for pair, n in zip(halves, particles, strict=True)
        for half in pair if half.count
    ]  # fmt: skip
    means, variances = (torch.stack(images) for images in zip(*split, strict=True))
    return means, variances.mean(0)


def independent_samples(n: int, shared_ancestry: float) -> float:
    """Number of independent samples whose mean has the variance of that of ``n`` particles.

    Pairs with a common ancestor count as fully correlated.
    """
    return 1 / (1 / n + (1 - 1 / n) * shared_ancestry)


def merge_levels(groups: Sequence[Sequence[Info]]) -> list[Info]:
    """Figures of each level over all independent groups: means, sums or extremes.

    Args:
        groups: Levels of each group. One with fewer levels than others counts with its last one.
    """
    paths = [[info for info in infos if not info.final] for infos in groups]
    rounds = [[info for info in infos if info.final] for infos in groups]
    longest = max(map(len, paths))
    ladder = [_level([path[min(i, len(path) - 1)] for path in paths]) for i in range(longest)]
    return ladder + [_level(infos) for infos in zip(*rounds, strict=False)]


def _level(infos: Sequence[Info]) -> Info:
    def mean(name: str) -> float:
        return sum(float(getattr(info, name)) for info in infos) / len(infos)

    return Info(
        noise_level=min(info.noise_level for info in infos),
        ess=sum(info.ess for info in infos),
        weight_power=min(info.weight_power for info in infos),
        resampled=any(info.resampled for info in infos),
        final=all(info.final for info in infos),
        residual_ratio=mean("residual_ratio"),
        dof=mean("dof"),
        dof_fraction=mean("dof_fraction"),
        swaps=[sum(rates) / len(rates) for rates in zip(*(i.swaps for i in infos), strict=True)],
    )
