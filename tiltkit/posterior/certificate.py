"""Figures of the certificate: weights, residual ratio, chi-squared, training distance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from tiltkit.likelihoods import linear_gaussian
from tiltkit.posterior.level import reliable_residual_ratio
from tiltkit.protocols import TrainingDistance

if TYPE_CHECKING:
    from torch import Tensor

    from tiltkit.likelihoods import Likelihood
    from tiltkit.posterior.level import Info
    from tiltkit.protocols import Prior

__all__ = ["data_fit", "ladder_report", "training_distance_report"]

# Samples that are compared with the training images. Two are enough: the distance differs little
# between samples of one posterior.
_COMPARED = 2


def ladder_report(infos: Sequence[Info], n: int, *, weighted: bool) -> dict[str, Any]:
    """Per-level arrays and their extremes, from the levels of the ladder.

    Samplers without weights have no effective sample size, which is left out rather than reported
    as perfect.
    """
    path = [info for info in infos if not info.final]
    report: dict[str, Any] = {"noise_level": [info.noise_level for info in path]}
    if weighted:
        report |= {
            "ess": [info.ess for info in path],
            "ess_min": min(info.ess for info in path),
            "ess_share_min": min(info.ess for info in path) / n,
            "weight_power": [info.weight_power for info in path],
            "weight_power_min": min(info.weight_power for info in path),
            "levels": len(path),
            "weighted_levels": sum(info.weight_power == 1 for info in path),
            "resamplings": sum(info.resampled for info in path),
        }
    return report | _residual_ratios(path) | _swap_rates(infos)


def _residual_ratios(path: Sequence[Info]) -> dict[str, Any]:
    """Residual ratio by level and its largest reliable value, for samplers that measure it."""
    if all(math.isnan(info.residual_ratio) for info in path):
        return {}
    report: dict[str, Any] = {"residual_ratio": [info.residual_ratio for info in path]}
    largest = reliable_residual_ratio(path)
    return report | ({} if largest is None else {"residual_ratio_max": largest})


def _swap_rates(infos: Sequence[Info]) -> dict[str, Any]:
    """Share of accepted swaps per pair of levels, for samplers that swap."""
    rounds = [torch.tensor(list(info.swaps), dtype=torch.float64) for info in infos if info.swaps]
    if not rounds:
        return {}
    rates = torch.stack(rounds).nanmean(0).tolist()
    return {"swap_rate": rates, "swap_rate_min": min(rates)}


def training_distance_report(prior: Prior, samples: Tensor) -> dict[str, float]:
    """Mean distance of samples from the prior's training images; empty without such a measure.

    Samples are compared, since their mean is smoother than any training image. Where the data
    constrain the image little, samples resemble the training images, so that the figure is a lower
    bound of the distance of the object.

    Args:
        prior: The prior.
        samples: Samples (n, channel, *space).
    """
    if not isinstance(prior, TrainingDistance):
        return {}
    distance = prior.training_distance(samples[:_COMPARED])
    return {} if distance is None else {"prior_distance": float(distance.mean())}


def data_fit(
    likelihood: Likelihood, mean: Tensor, samples: Tensor, chunk: int, independent: float
) -> dict[str, float]:
    """Residual chi-squared of the mean image and of samples, each with its expected value.

    Given the data, a sample of a calibrated posterior is exchangeable with the truth: its chi2 is
    1 on average. The mean fits closer, by the spread of the samples in data space; where the
    likelihood is not Gaussian, that is taken from its approximation.

    The chance scatter of the average over samples has two parts. With the hat matrix ``H``, whose
    trace over the number ``M`` of measured values is that spread, the chi2 of the mean scatters
    with the data by a variance of ``2 tr (I - H)^2 / M^2``, at most ``2 (1 - tr H / M) / M``.
    Samples scatter about it by their standard deviation over the root of their number.

    Args:
        likelihood: The measurement and its noise.
        mean: Posterior mean (channel, *space).
        samples: Samples (n, channel, *space).
        chunk: Number of samples that are handled at once.
        independent: Number of independent samples among them.
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
    expected = 1.0 - spread / len(samples) / per_measurement
    sampling = report["chi2_spread"] ** 2 / independent
    data = 2 * min(max(expected, 0.0), 1.0) / linear.measured
    return report | {
        "chi2_mean_expected": expected,
        "chi2_scatter": math.sqrt(data + sampling),
    }


def _energy(y: Tensor) -> float:
    """Mean squared norm of a batch of measurements."""
    return float(y.abs().double().square().sum() / len(y))
