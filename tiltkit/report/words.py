"""The certificate of a result as sentences.

Figures are not judged here: a statement is marked if the result has a warning about its figure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tiltkit.posterior.verdict import NOT_TESTED, OFFSET, SPREAD, stored_verdict
from tiltkit.posterior.warnings import LEGACY, RESIDUAL_RATIO, TRAINING_DISTANCE, Caution

__all__ = ["Statement", "guaranteed", "measured", "number", "unknown"]

Diagnostics = Mapping[str, Any]

# Last noise level over the prior's smallest that is said to be above it.
ABOVE = 1.05
# Expected chi-squared of the mean below which chi-squared hardly depends on the noise level. At 0.1
# a noise variance that is 30 % wrong changes it by 2 %.
POWERLESS = 0.1


@dataclass(frozen=True, slots=True)
class Statement:
    """One finding.

    Attributes:
        heading: Short sentence with the figure.
        text: Explanation of the figure.
        warning: Warning about the figure; None for none.
    """

    heading: str
    text: str
    warning: Caution | None = None


def number(value: float) -> str:
    """Format a number: whole numbers in full, others with three digits."""
    if float(value).is_integer() and abs(value) < 1e7:
        return f"{int(value):,}".replace(",", " ")
    return f"{value:.3g}"


def guaranteed(one: Diagnostics, samples: int) -> list[Statement]:
    """State what the method guarantees if prior, measurement model and noise level are right.

    Args:
        one: Diagnostics of a slice.
        samples: Its number of samples.
    """
    if "ess" not in one and "ess_min" not in one:
        return [
            Statement(
                "No convergence is guaranteed",
                "This sampler carries no importance weights. Its samples are approximate. The"
                " samplers twisted and walmc carry weights.",
            ),
            *_last_level(one),
        ]
    return [_exactness(one, samples), *_last_level(one)]


def _exactness(one: Diagnostics, samples: int) -> Statement:
    if one.get("weight_power_min", 1.0) >= 1.0:
        return Statement(
            "Importance weights were used at every noise level",
            "With enough noise levels, the mean, the spread and the proportions of different images"
            f" converge to those of the posterior as the number of samples ({samples} here) grows.",
        )
    return Statement(
        "The samples are approximate where weights were left out",
        f"{_unweighted(one)} the importance weights were so uneven that resampling would have left"
        " few distinct samples, so that they were left out or flattened. This is usual for large"
        " images. The samples are consistent with the data, but if clearly different images fit"
        " them, the proportions of these images among the samples may be wrong.",
    )


def _unweighted(one: Diagnostics) -> str:
    if "weight_power" not in one:
        return "At some noise levels"
    flat = sum(value < 1 for value in one["weight_power"])
    return f"At {flat} of {len(one['weight_power'])} noise levels"


def _last_level(one: Diagnostics) -> list[Statement]:
    levels = one.get("noise_level", ())
    if not len(levels):
        return []
    last, smallest = float(levels[-1]), float(one.get("prior_noise_min", levels[-1]))
    above = f" This is {last / smallest:.2g} times the smallest level of the prior."
    return [
        Statement(
            f"The run ends at noise level {number(last)}",
            "In units in which the prior has values up to about 1. Detail fainter than that is not"
            f" resolved.{above if last > ABOVE * smallest else ''}",
        )
    ]


def measured(one: Diagnostics, samples: int) -> list[Statement]:
    """State the tests of this run and their results.

    Every warning of ``one`` is the `Statement.warning` of exactly one statement.

    Args:
        one: Diagnostics of a slice.
        samples: Its number of samples.
    """
    warnings: dict[str, Caution] = {warning.code: warning for warning in one.get("warnings", ())}
    found = [
        _fit(one, warnings), _spread(one, warnings), _mean(one, warnings),
        _residual_ratio(one, warnings), _training_distance(one, warnings),
        _agreement(one, warnings), _independent(one, samples, warnings), _ess(one, samples),
    ]  # fmt: skip
    statements = [statement for statement in found if statement]
    shown = [statement.warning for statement in statements]
    others = [one for one in one.get("warnings", ()) if one not in shown]
    return [Statement(warning.text, warning.hint, warning) for warning in others] + statements


def _pick(warnings: Mapping[str, Caution], *codes: str) -> Caution | None:
    return next((warnings[code] for code in codes if code in warnings), None)


def _meaning(warnings: Mapping[str, Caution], warning: Caution | None, fine: str) -> str:
    """Reference to a warning, or the meaning of a figure without a warning.

    Empty for old results with warnings, whose text does not name the figure.
    """
    if warning is None:
        return "" if LEGACY in warnings else fine
    return f"Warning {warning.code}, at the top of this page."


def _fit(one: Diagnostics, warnings: Mapping[str, Caution]) -> Statement | None:
    if "chi2" not in one:
        return None
    warning = _pick(warnings, "data_fit_narrow", "data_fit_wide", "data_fit_undefined")
    fine = "The samples reproduce the measured values as well as the noise allows."
    if one.get("chi2_mean_expected", 1.0) < POWERLESS:
        fine += " The prior leaves so much open here that a wrong noise level would hardly show."
    return Statement(
        f"Chi-squared per measured value of the samples: {one['chi2']:.2f}, expected"
        f" {one.get('chi2_expected', 1.0):.2f}",
        f"Mean squared residual over the noise variance.{_of_mean(one)}"
        f" {_meaning(warnings, warning, fine)}",
        warning,
    )


def _spread(one: Diagnostics, warnings: Mapping[str, Caution]) -> Statement | None:
    if "spread_ratio_min" not in one:
        return None
    warning = _pick(warnings, "spread_narrow", "spread_wide")
    status = stored_verdict(one).local.status
    fine = "No band is beyond its limit by more than chance explains."
    if status == NOT_TESTED:
        fine = "Chance is too large for a finding in some band: take more samples."
    return Statement(
        f"Variance of the samples: {one['spread_ratio_min']:.2f} to {one['spread_ratio_max']:.2f}"
        f" times that of the posterior, limits {SPREAD[0]:g} and {SPREAD[1]:g}",
        f"Stein check, by band of spatial frequency.{_settling(one)}{_fisher(one)}"
        f" {_meaning(warnings, warning, fine)}",
        warning,
    )


def _settling(one: Diagnostics) -> str:
    rounds = int(one.get("settling_rounds", 0))
    if not rounds:
        return ""
    return (
        f" Further moves were made until it had settled or their number ran out: {rounds} rounds."
    )


def _fisher(one: Diagnostics) -> str:
    if "fisher_at_least" not in one:
        return ""
    return (
        " The Fisher divergence to the posterior, per coefficient in units of its standard"
        f" deviation, is at least {number(one['fisher_at_least'])}."
    )


def _mean(one: Diagnostics, warnings: Mapping[str, Caution]) -> Statement | None:
    if "mean_offset_max" not in one:
        return None
    warning = _pick(warnings, "mean_off")
    return Statement(
        f"Mean of the samples: off by {one['mean_offset_max']:.2f} standard deviations at most,"
        f" limit {OFFSET:g}",
        "Stein check, by band of spatial frequency; the chance error of a mean of few samples is"
        " taken off. "
        + _meaning(warnings, warning, "No band is off by more than chance explains."),
        warning,
    )


def _of_mean(one: Diagnostics) -> str:
    if "chi2_mean" not in one:
        return ""
    expected = one.get("chi2_mean_expected")
    beside = f", expected {expected:.2f}" if expected is not None else ""
    return f" Of the mean image it is {one['chi2_mean']:.2f}{beside}."


def _residual_ratio(one: Diagnostics, warnings: Mapping[str, Caution]) -> Statement | None:
    if "residual_ratio_max" not in one:
        return None
    warning = _pick(warnings, "residual_ratio_high")
    return Statement(
        f"Residuals of denoised images: at most {one['residual_ratio_max']:.2f} times the predicted"
        f" value, limit {RESIDUAL_RATIO:g}",
        "Squared, largest over the noise levels. "
        + _meaning(
            warnings, warning, "The data show no sign that the prior is wrong for this image."
        ),
        warning,
    )


def _training_distance(one: Diagnostics, warnings: Mapping[str, Caution]) -> Statement | None:
    if "prior_distance" not in one:
        return None
    warning = _pick(warnings, "far_from_training")
    fine = "Small structures that no training image had can still be missed."
    return Statement(
        f"Distance from the training images: {one['prior_distance']:.2f}, limit"
        f" {TRAINING_DISTANCE:g}",
        "98 % of unseen images of the same kind are within 1. " + _meaning(warnings, warning, fine),
        warning,
    )


def _agreement(one: Diagnostics, warnings: Mapping[str, Caution]) -> Statement | None:
    if "rhat" not in one:
        return None
    warning = _pick(warnings, "runs_disagree")
    return Statement(
        f"R-hat of {number(one['runs'])} independent runs: {one['rhat']:.2f}, limit"
        f" {one['rhat_limit']:.2f}",
        "Spread of all samples over the spread within single runs (split R-hat). "
        + _meaning(
            warnings,
            warning,
            "The runs agree. They can still share an error of the prior or of the measurement"
            " model.",
        ),
        warning,
    )


def _independent(
    one: Diagnostics, samples: int, warnings: Mapping[str, Caution]
) -> Statement | None:
    warning = _pick(warnings, "few_independent_samples")
    worth = one.get("independent_samples")
    if worth is None or (warning is None and "rhat" not in one and not one.get("shared_ancestry")):
        return None
    fine = "Resampling copies samples, and copies are correlated."
    if "rhat" in one:
        fine = "The mean image is as certain as that of so many independent samples."
    return Statement(
        f"The {samples} samples are worth {number(round(worth, 1))} independent ones",
        _meaning(warnings, warning, fine),
        warning,
    )


def _ess(one: Diagnostics, samples: int) -> Statement | None:
    if "ess_min" not in one:
        return None
    times = int(one.get("resamplings", 0))
    return Statement(
        f"Smallest effective sample size of the weights: {number(round(one['ess_min'], 1))} of"
        f" {samples}",
        "Near 1, one sample has nearly all the weight, and the weights are left out. Samples were"
        f" resampled {times}"
        f" time{'s' * (times != 1)}.",
    )


def unknown(one: Diagnostics, samples: int) -> list[Statement]:
    """State the errors that no figure of the page shows.

    Args:
        one: Diagnostics of a slice.
        samples: Its number of samples.
    """
    statements = [
        Statement(
            "Features that the prior does not know",
            "Where the data constrain the image little, the prior fills in what is usual in its"
            " training images. An unusual feature can be missing or smoothed there, with a spread"
            " that is too small.",
        ),
        Statement(
            "Errors of the measurement model",
            "Motion, wrong calibration or a wrong noise level are not part of the spread.",
        ),
    ]
    verdict = stored_verdict(one)
    if verdict.local.status == NOT_TESTED:
        statements.append(
            Statement("Spread and mean were not tested", f"Stein check: {verdict.local.text}.")
        )
    if verdict.shares.status == NOT_TESTED:
        statements.append(
            Statement(
                "Shares between separate explanations were not tested",
                "If clearly different images fit the data, their proportions among the samples may"
                " be wrong. The Stein check does not show this, and runs of one sampler can share"
                " the error.",
            )
        )
    if "rhat" not in one:
        statements.append(
            Statement(
                "Agreement of independent runs",
                "One run was made. With --runs 2 or more, of two or more samples each, R-hat"
                " compares independent runs.",
            )
        )
    if 1 < samples < 19:
        share = (samples - 1) / (samples + 1)
        statements.append(
            Statement(
                "The ends of the 90 % interval",
                f"With {samples} samples, the 5-95 % interval runs from the smallest to the largest"
                f" sample, which covers {share:.0%}. 19 or more samples are needed for 90 %.",
            )
        )
    return statements
