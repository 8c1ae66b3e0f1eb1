"""The certificate of a result in words that a scientist understands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tiltkit.posterior.outcome import GOOD_FIT, KNOWN, LIKE

__all__ = ["Statement", "guaranteed", "measured", "number", "unknown"]

Diagnostics = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Statement:
    """One finding: a short heading, its explanation, and whether it is a reason for care."""

    heading: str
    text: str
    care: bool = False


def number(value: float) -> str:
    """A number for people: three digits, whole numbers in full, no exponent where avoidable."""
    if float(value).is_integer() and abs(value) < 1e7:
        return f"{int(value):,}".replace(",", " ")
    return f"{value:.3g}"


def guaranteed(one: Diagnostics, samples: int) -> list[Statement]:
    """What follows from the method, given that the measurement model is right."""
    if "ess" not in one and "ess_min" not in one:
        return [
            Statement(
                "Nothing is guaranteed",
                "This sampler carries no weights: nothing here tells how near its samples are to"
                " the posterior, nor whether clearly different images that fit the data have the"
                " right shares. The samplers twisted and walmc weigh them.",
                care=True,
            )
        ]
    return [_exactness(one, samples), *_approximation(one), *_stopping(one)]


def _exactness(one: Diagnostics, samples: int) -> Statement:
    if one.get("weight_power_min", 1.0) >= 1.0:
        return Statement(
            "Every sample carried an exact weight",
            "On the way from noise to image, each sample was weighed by how well it explains the"
            " measurement, without approximating the measurement model. For the prior as its"
            " network knows it and fine enough noise steps, the samples, their mean and their"
            f" spread approach the posterior as their number ({samples} here) grows.",
        )
    return Statement(
        "Right around each plausible image; shares between different ones are not guaranteed",
        f"{_unweighted(one)} the exact weights were so uneven that a few samples would have"
        " replaced all others: an image has more pixels than so few samples can weigh. There the"
        " samples went on unweighted, each following the measurement by itself. If clearly"
        " different images fit the data, how many samples show which one may be off.",
        care=True,
    )


def _approximation(one: Diagnostics) -> list[Statement]:
    if not one.get("approximated") or one.get("weight_power_min", 1.0) >= 1.0:
        return []
    return [
        Statement(
            "The noise was taken for Gaussian on the way",
            "Steps follow a Gaussian in place of the real noise, and the weights that make up for"
            " that were left out where they were too uneven. The mean can be off by a part of the"
            " spread, by up to all of it where next to nothing was counted.",
            care=True,
        )
    ]


def _unweighted(one: Diagnostics) -> str:
    if "weight_power" not in one:
        return "At some noise levels"
    flat = sum(value < 1 for value in one["weight_power"])
    return f"At {flat} of {len(one['weight_power'])} noise levels"


def _stopping(one: Diagnostics) -> list[Statement]:
    levels = one.get("noise_level", ())
    if not len(levels):
        return []
    return [
        Statement(
            "The target is the posterior at the last noise level",
            f"The run ends at noise level {number(float(levels[-1]))} on the prior's own scale, not"
            " at zero: detail fainter than that is not resolved.",
        )
    ]


def measured(one: Diagnostics, samples: int) -> list[Statement]:
    """What the run found out about itself."""
    found = [_ess(one, samples), _agreement(one), _fit(one), _fit_of_mean(one)]
    found += [_surprise(one), _likeness(one), _fisher(one), _kl(one)]
    return [statement for statement in found if statement]


def _ess(one: Diagnostics, samples: int) -> Statement | None:
    if "ess_min" not in one:
        return None
    smallest = one["ess_min"]
    times = int(one.get("resamplings", 0))
    again = "once" if times == 1 else f"{times} times"
    return Statement(
        f"At its narrowest, exact weights left {number(smallest)} effective samples of {samples}",
        "An effective sample size near the number of samples means that they share the work; near"
        " 1, a single one would dominate, and weights are left out. Samples were redrawn by weight"
        f" {again} on the way.",
        care=smallest < 0.1 * samples or smallest < 2,
    )


def _agreement(one: Diagnostics) -> Statement | None:
    if "rhat" not in one:
        return None
    return Statement(
        f"{number(one['runs'])} independent runs have an R-hat of {one['rhat']:.2f}; 1 is"
        " agreement",
        "The spread of all samples over that within single runs, split in halves. Their mean is as"
        f" certain as that of {number(round(one['independent_samples'], 1))} independent samples."
        " Runs that agree can still share an error: of the prior, or of the measurement model.",
        care=one["rhat"] > one["rhat_limit"],
    )


def _fit(one: Diagnostics) -> Statement | None:
    if "chi2" not in one:
        return None
    chi2, expected = one["chi2"], one.get("chi2_expected", 1.0)
    ratio = chi2 / expected
    if ratio > GOOD_FIT[1]:
        meaning = (
            "They miss the data by more than the noise explains: the noise level may be too low,"
            " the measurement model wrong, or this object unlike what the prior was trained on."
        )
    elif ratio < GOOD_FIT[0]:
        meaning = "They follow the data more closely than its noise allows: the noise level is"
        meaning += " probably estimated too high."
    else:
        meaning = "They reproduce the measurement as well as its noise allows."
    return Statement(
        f"The samples fit the data with chi² {chi2:.2f}, expected is {expected:.2f}",
        f"Squared misfit per measured value, in units of the noise. {meaning}",
        care=not GOOD_FIT[0] <= ratio <= GOOD_FIT[1],
    )


def _fit_of_mean(one: Diagnostics) -> Statement | None:
    if "chi2_mean" not in one:
        return None
    expected = one.get("chi2_mean_expected")
    beside = f", expected is {expected:.2f}" if expected is not None else ""
    return Statement(
        f"The mean of the samples fits with chi² {one['chi2_mean']:.2f}{beside}",
        "It lies closer to the data than single samples do, by their spread.",
    )


def _surprise(one: Diagnostics) -> Statement | None:
    if "residual_ratio_max" not in one:
        return None
    worst = one["residual_ratio_max"]
    known = worst <= KNOWN
    meaning = (
        "The measurement gives no sign that this object is unlike what the prior was trained on."
        if known
        else "This object may be unlike what the prior was trained on: do not rely on what the"
        " measurement itself does not show."
    )
    return Statement(
        f"Denoised images miss the data by up to {worst:.2f} times what the prior expects",
        f"Squared misfit along the noise ladder; 1 for images that the prior knows. {meaning}",
        care=not known,
    )


def _likeness(one: Diagnostics) -> Statement | None:
    if "prior_distance" not in one:
        return None
    distance = one["prior_distance"]
    like = distance <= LIKE
    return Statement(
        f"The samples look {'like' if like else 'unlike'} the images that the prior was trained on:"
        f" distance {distance:.2f}, usual is up to {LIKE:g}",
        "What the network makes of them at a few noise levels, beside what it made of its training"
        " images; 98 % of unseen images of that kind keep within 1. "
        + (
            "Small things that no training image had can still be missed."
            if like
            else "Where the measurement says little, the prior filled in what is usual in other"
            " images: do not rely on it there, nor on a small spread."
        ),
        care=not like,
    )


def _fisher(one: Diagnostics) -> Statement | None:
    if "fisher" not in one:
        return None
    if one["fisher"] == 0:
        return Statement(
            "The last noise level is the sharpest that the prior knows",
            "Fisher divergence to the posterior at that level: 0.",
        )
    return Statement(
        f"Fisher divergence to the sharpest level: {number(one['fisher'])}",
        "How much the prior's slope at the samples would still change if the run went on to the"
        " smallest noise level that the prior knows, squared, per pixel.",
    )


def _kl(one: Diagnostics) -> Statement | None:
    if "kl_bound" not in one:
        return None
    return Statement(
        f"Without weights, samples are at most {number(one['kl_bound'])} nats off",
        "A bound on the Kullback-Leibler divergence that weights have to repair, summed over the"
        " ladder. It is exact on average but noisy for few samples.",
    )


def _worth(one: Diagnostics) -> str:
    if not one.get("shared_ancestry"):
        return ""
    worth = number(round(one["independent_samples"], 1))
    return f"As some samples share ancestors, all are worth {worth} independent ones. "


def unknown(one: Diagnostics, samples: int) -> list[Statement]:
    """What no figure on this page can tell."""
    statements = [
        Statement(
            "Whether the prior fits this object",
            "Where the measurement says little, the prior fills in what is usual. Something it has"
            " never seen can be missing or smoothed away there, with a spread that is too small.",
        ),
        Statement(
            "Errors of the measurement model",
            "Motion, wrong calibration or a wrong noise level are not part of the spread.",
        ),
    ]
    if "rhat" not in one:
        statements.append(
            Statement(
                "Whether another run would agree",
                f"{_worth(one)}No independent runs were compared. With --runs 2 or more, of two or"
                " more samples each, R-hat says how well they agree.",
            )
        )
    if 1 < samples < 19:
        share = (samples - 1) / (samples + 1)
        statements.append(
            Statement(
                "The far ends of the intervals",
                f"With {samples} samples the 5-95 % interval runs from the smallest to the largest"
                f" one, which covers a further sample in {share:.0%} of cases. 19 or more samples"
                " give the full 90 %.",
            )
        )
    return statements
