"""Warnings about a result: their codes, their limits, and the rules that raise them.

The last line of a run, the page, the result file, the ``--json`` line and ``--fail-if`` read the
records that `find_warnings` makes. No other place judges a figure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tiltkit.posterior.verdict import FAILED, OFFSET, SPREAD

if TYPE_CHECKING:
    from tiltkit.posterior.verdict import BandCheck

__all__ = ["CODES", "LEGACY", "Caution", "find_warnings", "group_warnings"]

# Range of chi-squared per measured value over its expected value in which a deviation is too small
# to matter, however many values show it. Computed for a Gaussian prior with the spectrum of images,
# 256x256 pixels, noise 0.1 to 0.3 of the image scale: where a wrong noise variance makes
# chi-squared 1.1, 90 % intervals cover 89 %; where it makes it 0.8, they cover 92 to 94 %.
# Measured on a real scan with a network: at 1.13 they covered 77 %. On one-coil scans of a smooth
# head with the right noise level it was 0.80 to 0.86, with errors of 0.9 to 1.2 spreads.
DATA_FIT = (0.8, 1.1)
# Standard deviations of the chance scatter of chi-squared that are allowed on top.
CHANCE = 3.0
# Largest residual ratio of a good run. Measured with 24 to 96 noise levels: 0.95 to 1.3 where the
# prior is right, since particles lag a little behind; 1.5 and more for textures of no head.
RESIDUAL_RATIO = 1.4
# Largest distance from the training images; 98 % of unseen images of their kind keep within 1.
TRAINING_DISTANCE = 1.0
# Fewest independent samples that give a spread.
INDEPENDENT_SAMPLES = 1.5

# Share of pairs of samples with a common ancestor that takes 5 % of their variance.
SHARED_ANCESTRY = 0.05

LEGACY = "legacy"
CODES: Mapping[str, str] = {
    "data_fit_narrow": "samples miss the data: intervals may be too narrow",
    "data_fit_wide": "samples follow the noise of the data: intervals may be too wide",
    "data_fit_undefined": "chi-squared is not a finite number",
    "spread_narrow": "samples vary too little in a band of spatial frequency (Stein check)",
    "spread_wide": "samples vary too much in a band of spatial frequency (Stein check)",
    "mean_off": "the mean of the samples is off in a band of spatial frequency (Stein check)",
    "residual_ratio_high": "denoised images miss the data by more than the prior predicts",
    "far_from_training": "samples differ from the training images of the prior",
    "few_independent_samples": "too few independent samples for a spread",
    "runs_disagree": "R-hat of independent runs is above its limit",
    "shares_wrong": "shares of separate explanations among the samples are wrong (posterior SBC)",
    LEGACY: "warning of a result of release 0.1, as text",
}
"""All codes that a warning may have, each in a few words; ``--fail-if CODE`` accepts them."""


@dataclass(frozen=True, slots=True)
class Caution:
    """One warning about a posterior.

    Attributes:
        code: One of `CODES`.
        text: A sentence that says what was found and what follows from it.
        value: The figure that raised the warning; None where there is none.
        limit: The largest or smallest value that would not have raised it.
        hint: A sentence that says what to try; may be empty.
    """

    code: str
    text: str
    value: float | None = None
    limit: float | None = None
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.text} {self.hint}".strip()

    @property
    def excess(self) -> float:
        """Distance of the value from its limit."""
        return abs((self.value or 0.0) - (self.limit or 0.0))


def find_warnings(report: Mapping[str, Any], fallback: str = "") -> tuple[Caution, ...]:
    """All warnings that the figures of one slice raise.

    Levels without weights raise none: they are the rule for large images, and a figure of their
    own, ``weighted_levels``, counts them.

    Args:
        report: Diagnostics by name; a rule whose figure is missing is left out.
        fallback: Name of the prior to try where that of the run does not fit; empty for none.
    """
    report = {**report, "fallback": fallback}
    return tuple(found for rule in _RULES for found in rule(report))


def group_warnings(slices: Iterable[Sequence[Caution]]) -> list[tuple[Caution, list[int]]]:
    """Each kind of warning once: that of the worst slice, and the slices that have it.

    Args:
        slices: Warnings of every slice, in the order of the result.
    """
    groups: dict[str, list[tuple[int, Caution]]] = {}
    for index, found in enumerate(slices):
        for one in found:
            key = one.text if one.code == LEGACY else one.code
            groups.setdefault(key, []).append((index, one))
    return [
        (max((one for _, one in group), key=lambda one: one.excess), [index for index, _ in group])
        for group in groups.values()
    ]


def _data_fit(report: Mapping[str, Any]) -> Iterator[Caution]:
    if "chi2" not in report:
        return
    chi2, expected = float(report["chi2"]), float(report.get("chi2_expected", 1.0))
    if not math.isfinite(chi2) or not math.isfinite(expected):
        yield Caution(
            "data_fit_undefined",
            "Chi-squared of the samples is not a finite number.",
            hint="Check the values and the noise level of the data.",
        )
        return
    chance = CHANCE * float(report.get("chi2_scatter", 0.0))
    low, high = DATA_FIT[0] * expected - chance, DATA_FIT[1] * expected + chance
    figures = f"chi-squared per measured value is {chi2:.2f}, expected is {expected:.2f}"
    if chi2 > high:
        yield Caution(
            "data_fit_narrow",
            f"The samples miss the data by more than the noise explains: {figures}."
            " Intervals may be too narrow.",
            chi2,
            high,
            "Check the noise level, the measurement model, and whether the prior suits these"
            " images.",
        )
    elif chi2 < low:
        yield Caution(
            "data_fit_wide",
            f"The samples follow the data more closely than the noise allows: {figures}."
            " Intervals may be too wide.",
            chi2,
            low,
            "Check the noise level: it is probably too high.",
        )


def _spread(report: Mapping[str, Any]) -> Iterator[Caution]:
    failed = [band for band in report.get("bands", ()) if band.spread_status == FAILED]
    failed.sort(key=lambda band: band.worst_ratio)
    narrow = [band for band in failed if band.worst_ratio[0] < 1]
    wide = [band for band in failed[::-1] if band.worst_ratio[0] > 1]
    if narrow:
        yield Caution(
            "spread_narrow",
            f"The samples vary too little: their variance is {_ratios(narrow)} times that of the"
            " posterior (Stein check). Intervals are too narrow there.",
            narrow[0].worst_ratio[0],
            SPREAD[0],
            _remedy(report),
        )
    if wide:
        yield Caution(
            "spread_wide",
            f"The samples vary too much: their variance is {_ratios(wide)} times that of the"
            " posterior (Stein check). Intervals are too wide there.",
            wide[0].worst_ratio[0],
            SPREAD[1],
            "Take more noise levels (--quality high), or another sampler.",
        )


def _remedy(report: Mapping[str, Any]) -> str:
    """What to try against samples that vary too little."""
    if float(report.get("shared_ancestry", 0.0)) > SHARED_ANCESTRY:
        return (
            "Samples with a common ancestor are alike: skip weights that leave few ancestors"
            " (-s sampler.most_shared_ancestry=0), or take more noise levels."
        )
    return "Take more noise levels (--quality high), or another sampler."


def _ratios(bands: Sequence[BandCheck]) -> str:
    found = ((*one.worst_ratio, one.name) for one in bands)
    return ", ".join(f"{ratio:.2f} ± {error:.2f} in {name}" for ratio, error, name in found)


def _mean(report: Mapping[str, Any]) -> Iterator[Caution]:
    failed = [band for band in report.get("bands", ()) if band.offset_status == FAILED]
    failed.sort(key=lambda band: -band.offset)
    if failed:
        found = ", ".join(f"{band.offset_sd:.2f} in {band.name}" for band in failed)
        yield Caution(
            "mean_off",
            f"The mean of the samples is off by more than chance explains: in posterior standard"
            f" deviations {found} (Stein check).",
            failed[0].offset_sd,
            OFFSET,
            "Take more noise levels (--quality high), or another sampler.",
        )


def _residual_ratio(report: Mapping[str, Any]) -> Iterator[Caution]:
    ratio = float(report.get("residual_ratio_max", 1.0))
    fallback = report.get("fallback")
    other = f"try --prior {fallback}" if fallback else "try another prior"
    if ratio > RESIDUAL_RATIO:
        yield Caution(
            "residual_ratio_high",
            f"The squared residual of denoised images reaches {ratio:.2f} times the value that the"
            f" prior predicts; up to {RESIDUAL_RATIO:g} is usual. The prior may not describe this"
            " image, and intervals may be too narrow.",
            ratio,
            RESIDUAL_RATIO,
            f"Check the scale, {other}, or --quality high for more noise levels.",
        )


def _training_distance(report: Mapping[str, Any]) -> Iterator[Caution]:
    distance = float(report.get("prior_distance", 0.0))
    fallback = report.get("fallback")
    kind = "a prior that was trained on images of this kind"
    other = f"--prior {fallback}, or {kind}" if fallback else kind
    if distance > TRAINING_DISTANCE:
        yield Caution(
            "far_from_training",
            f"The samples differ from the training images of the prior: their distance is"
            f" {distance:.2f} times the largest usual one. Where the data constrain the image"
            " little, it may be wrong and its intervals too narrow.",
            distance,
            TRAINING_DISTANCE,
            f"Try {other}.",
        )


def _independent_samples(report: Mapping[str, Any]) -> Iterator[Caution]:
    worth = float(report.get("independent_samples", INDEPENDENT_SAMPLES))
    if "rhat" not in report and worth < INDEPENDENT_SAMPLES:
        yield Caution(
            "few_independent_samples",
            f"The samples are worth {worth:.1f} independent samples, too few for a spread.",
            worth,
            INDEPENDENT_SAMPLES,
            "Take more samples.",
        )


def _shares(report: Mapping[str, Any]) -> Iterator[Caution]:
    if report.get("shares_failed"):
        yield Caution(
            "shares_wrong",
            "If clearly different images fit the data, their shares among the samples are wrong:"
            f" {report.get('shares_test', 'a test failed')}.",
            hint="Take more samples, --quality high, or a sampler with weights (walmc).",
        )


def _agreement(report: Mapping[str, Any]) -> Iterator[Caution]:
    if "rhat" in report and report["rhat"] > report["rhat_limit"]:
        yield Caution(
            "runs_disagree",
            f"Independent runs disagree: R-hat is {report['rhat']:.2f}, at most"
            f" {report['rhat_limit']:.2f} is agreement. If clearly different images fit the data,"
            " their proportions may be wrong.",
            float(report["rhat"]),
            float(report["rhat_limit"]),
            "Take more samples, or --quality high.",
        )


_RULES: Sequence[Callable[[Mapping[str, Any]], Iterator[Caution]]] = (
    _data_fit,
    _spread,
    _mean,
    _residual_ratio,
    _training_distance,
    _independent_samples,
    _agreement,
    _shares,
)
