"""Whether independent groups of particles agree: split R-hat and the samples they are worth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from tiltkit.sampling.state import Info

if TYPE_CHECKING:
    from tiltkit.sampling.summary import Moments

__all__ = ["agreement", "together"]


def agreement(halves: Sequence[tuple[Moments, Moments]], particles: int) -> dict[str, float]:
    """R-hat and effective samples of two or more groups; empty for one.

    Each group's collected rounds are split into an early and a late half, and the variance between
    the means of all halves is compared with that within them (Gelman and Rubin 1992; split as in
    Vehtari et al., Bayesian Analysis 2021, without ranks). Variances are summed over all pixels
    before they are divided, because a pixel by itself has few samples.

    Args:
        halves: Moments of early and late samples of each group.
        particles: Of the smallest group: few of them differ by chance, which ``rhat_limit`` allows.
    """
    if len(halves) < 2:
        return {}
    groups = [early.merged(late) for early, late in halves]
    split = [half for pair in halves for half in pair if half.count]
    within, between = _variances(split)
    _, of_groups = _variances(groups)
    count = min(half.count for half in split)
    pooled = (count - 1) / count * within + between
    total = float(pooled.sum())
    limit = max(1.1, math.sqrt(1 + 1 / particles))
    report = {"runs": len(groups), "rhat_limit": limit}
    if float(within.sum()) <= 0:
        return report
    rhat = (pooled / within.clamp_min(1e-12 * float(within.max()))).sqrt().flatten().float()
    # `kthvalue` has no limit on the number of pixels, where `quantile` has one.
    report["rhat"] = math.sqrt(total / float(within.sum()))
    report["rhat_pixels_95"] = float(rhat.kthvalue(math.ceil(0.95 * rhat.numel())).values)
    report["independent_samples"] = total * len(groups) / max(float(of_groups.sum()), 1e-30)
    return report


def _variances(parts: Sequence[Moments]) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean of the variances, and variance of the means, per pixel."""
    within = torch.stack([part.std.square().cpu() for part in parts]).mean(0)
    return within, torch.stack([part.mean.cpu() for part in parts]).var(0)


def together(groups: Sequence[Sequence[Info]]) -> list[Info]:
    """Levels of independent groups as those of all particles."""
    if len(groups) == 1:
        return list(groups[0])
    return [_level(infos) for infos in zip(*groups, strict=False)]


def _level(infos: Sequence[Info]) -> Info:
    def mean(name: str) -> float:
        return sum(float(getattr(info, name)) for info in infos) / len(infos)

    return Info(
        noise_level=mean("noise_level"),
        ess=sum(info.ess for info in infos),
        log_evidence=mean("log_evidence"),
        kl=mean("kl"),
        temper=min(info.temper for info in infos),
        resampled=any(info.resampled for info in infos),
        final=all(info.final for info in infos),
        misfit=mean("misfit"),
        freedom=mean("freedom"),
        opened=mean("opened"),
        swaps=[sum(rates) / len(rates) for rates in zip(*(i.swaps for i in infos), strict=True)],
    )
