"""What a run reports about itself: how far its samples can be trusted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from tiltkit.likelihoods import linear_gaussian
from tiltkit.posterior.level import reliable_residual_ratio
from tiltkit.posterior.outcome import GOOD_FIT, KNOWN, LIKE
from tiltkit.protocols import TrainingDistance

if TYPE_CHECKING:
    from torch import Tensor

    from tiltkit.likelihoods import Likelihood
    from tiltkit.posterior.level import Info
    from tiltkit.protocols import Prior

__all__ = ["data_fit", "ladder_report", "training_distance_report", "verdict"]

# Samples that are compared with training images: they differ little in this.
_COMPARED = 2


def ladder_report(infos: Sequence[Info], n: int, *, weighted: bool) -> dict[str, Any]:
    """Per-level arrays and their extremes, from the levels of the ladder.

    Samplers without weights have no effective sample size and no bound: these are left out rather
    than reported as perfect.
    """
    path = [info for info in infos if not info.final]
    report: dict[str, Any] = {"noise_level": [info.noise_level for info in path]}
    if weighted:
        report |= {
            "ess": [info.ess for info in path],
            "ess_min": min(info.ess for info in path),
            "ess_share_min": min(info.ess for info in path) / n,
            "kl_bound_per_level": [info.kl for info in path],
            "kl_bound": sum(info.kl for info in path),
            "log_evidence": sum(info.log_evidence for info in path),
            "weight_power": [info.weight_power for info in path],
            "weight_power_min": min(info.weight_power for info in path),
            "levels": len(path),
            "weighted_levels": sum(info.weight_power == 1 for info in path),
            "resamplings": sum(info.resampled for info in path),
        }
    return report | _surprise(path) | _swap_rates(infos)


def _surprise(path: Sequence[Info]) -> dict[str, Any]:
    """What the data say of the prior on the way, for samplers that measure it."""
    if all(math.isnan(info.residual_ratio) for info in path):
        return {}
    report: dict[str, Any] = {"residual_ratio": [info.residual_ratio for info in path]}
    certain = reliable_residual_ratio(path)
    return report | ({} if certain is None else {"residual_ratio_max": certain})


def _swap_rates(infos: Sequence[Info]) -> dict[str, Any]:
    """Share of accepted swaps per pair of levels, for samplers that swap."""
    rounds = [torch.tensor(list(info.swaps), dtype=torch.float64) for info in infos if info.swaps]
    if not rounds:
        return {}
    rates = torch.stack(rounds).nanmean(0).tolist()
    return {"swap_rate": rates, "swap_rate_min": min(rates)}


def training_distance_report(prior: Prior, samples: Tensor) -> dict[str, float]:
    """How unlike the training images of the prior samples are; nothing where it cannot tell.

    Samples, not their mean: that is smoother than any image. Where the data say little, the prior
    fills samples with what it knows, so this is a lower bound for the object.

    Args:
        prior: The prior.
        samples: Samples (n, channel, *space).
    """
    found = (
        prior.training_distance(samples[:_COMPARED])
        if isinstance(prior, TrainingDistance)
        else None
    )
    return {} if found is None else {"prior_distance": float(found.mean())}


def data_fit(likelihood: Likelihood, mean: Tensor, samples: Tensor, chunk: int) -> dict[str, float]:
    """Residual chi-squared of the mean image and of samples, each with its expected value.

    Given the data, a sample of a calibrated posterior is exchangeable with the truth: its chi2 is
    1 on average. The mean fits closer, by the spread of the samples in data space; where the
    likelihood is not Gaussian, that is taken from its approximation.

    Args:
        likelihood: The measurement and its noise.
        mean: Posterior mean (channel, *space).
        samples: Samples (n, channel, *space).
        chunk: How many samples are handled at once.
    """
    parts = torch.split(samples, chunk)
    chi2 = torch.cat([likelihood.chi2(part) for part in parts])
    report = {
        "chi2": float(chi2.mean()),
        "chi2_expected": 1.0,
        "chi2_spread": float(chi2.std(correction=0)),
        "chi2_mean": float(likelihood.chi2(mean[None])),
    }
    linear = linear_gaussian(likelihood)
    if linear is None:
        return report
    report["measured"] = linear.measured
    operator = linear.operator
    per_measurement = linear.noise_var * linear.measured
    spread = sum(_energy(operator.forward(part - mean)) * len(part) for part in parts)
    report["chi2_mean_expected"] = 1.0 - spread / len(samples) / per_measurement
    return report


def _energy(y: Tensor) -> float:
    """Mean squared norm of a batch of measurements."""
    return float(y.abs().double().square().sum() / len(y))


def verdict(report: Mapping[str, Any]) -> str:
    """``ok``, or what a user must know before using the result, in one line.

    Levels without weights are no fault of a run, but what a large image costs: they are told
    apart, by ``weighted_levels``.
    """
    worries = []
    expected = report.get("chi2_expected", 1.0)
    chi2 = report.get("chi2", expected)
    # Four standard deviations of chi-squared: few measurements scatter by themselves.
    chance = 4 * math.sqrt(2 / report["measured"]) if report.get("measured") else 0.0
    low, high = GOOD_FIT
    if not low * expected - chance <= chi2 <= high * expected + chance:
        too = "narrow" if chi2 > expected else "wide"
        worries.append(
            f"the samples fit the data with chi2 {chi2:.2f} where {expected:.2f} is expected:"
            f" intervals may be too {too}; check the noise level, the operator and whether the"
            " prior fits these images"
        )
    if report.get("residual_ratio_max", 1.0) > KNOWN:
        worries.append(
            f"the data are up to {report['residual_ratio_max']:.2f} times as far from denoised"
            " images as the prior expects: it may not know images like this one, and be too"
            " sure of them; check the scaling, try another prior, or --quality high for more"
            " noise levels"
        )
    if report.get("prior_distance", 0.0) > LIKE:
        worries.append(
            "the image looks unlike those that the prior was trained on, at"
            f" {report['prior_distance']:.2f} times the largest usual distance: where the data say"
            " little, the prior may be wrong and too sure; try another prior"
        )
    if "rhat" not in report and report.get("independent_samples", 2.0) < 1.5:
        worries.append(
            "there is one independent sample, or hardly more, which tells no spread: take more"
            " samples"
        )
    if "rhat" in report and report["rhat"] > report["rhat_limit"]:
        worries.append(
            f"independent runs disagree: R-hat is {report['rhat']:.2f} where 1 is agreement:"
            " shares of different images may be off; take more samples or --quality high"
        )
    return "; ".join(worries) or "ok"
