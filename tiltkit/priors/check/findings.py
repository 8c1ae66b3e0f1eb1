"""Judgements of the figures of a prior, in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from tiltkit.priors.check.record import Level, Report

__all__ = ["Finding", "findings", "overall"]

Judgement = Literal["good", "care", "bad"]

# Largest factor between the squared error and its expected value that still counts as calibrated.
_CALIBRATED = 1.5
# Drift and asymmetry, 0 for a true prior: up to the first is good, up to the second needs care.
_SMALL, _LARGE = 0.15, 0.4
# Largest output peak over input peak. Measured: priors that pass the other tests reach 1.2.
_GROWTH = 2.0
# Smallest difference in PSNR that counts, in dB: smaller ones depend on the seed.
_DIFFERENCE = 0.1


@dataclass(frozen=True, slots=True)
class Finding:
    """One judgement.

    Attributes:
        about: Subject in one or two words.
        judgement: ``good``, ``care`` or ``bad``.
        text: One or two sentences.
    """

    about: str
    judgement: Judgement
    text: str


def findings(report: Report) -> list[Finding]:
    """Every finding, the most important ones first."""
    return list(_all(report))


def overall(found: list[Finding]) -> str:
    """The one line at the end."""
    bad = [f.about for f in found if f.judgement == "bad"]
    care = [f.about for f in found if f.judgement == "care"]
    if bad:
        return f"Do not read its spread as uncertainty: {', '.join(bad + care)}."
    return f"Usable with care: {', '.join(care)}." if care else "What was measured is sound."


def _all(report: Report) -> Iterator[Finding]:
    yield _denoising(report)
    if not report.takes_noise_level:
        yield Finding(
            "noise level", "bad", "It gives the same image at every noise level: its "
            "score is right at one level at most."
        )  # fmt: skip
    yield _calibration(report)
    yield _law(
        report, "consistency", lambda level: level.drift,
        "noise levels agree with one another",
        "on the way down the denoised image drifts by {worst:.2f} of the expected error (0"
        " for a true prior), at worst, at noise {sigma:g}.",
    )  # fmt: skip
    yield _law(
        report, "symmetry", lambda level: level.asymmetry,
        "score is the gradient of a density",
        "the Jacobian of its denoiser is {worst:.2f} asymmetric (0 for a true prior, 1 for no"
        " symmetry), at worst, at noise {sigma:g}.",
    )  # fmt: skip
    yield _range(report)
    yield _growth(report)
    yield _values(report)


def _denoising(report: Report) -> Finding:
    gains = {level.sigma: level.psnr - max(level.baselines.values()) for level in report.levels}
    baselines = "TV and wavelets with their best weights in hindsight"
    better = [sigma for sigma, gain in gains.items() if gain > _DIFFERENCE]
    note = "" if report.real else f" This is on {report.origin}, not on real images."
    if len(better) == len(gains):
        text = f"Better than {baselines} at every noise level, by {_span(gains.values())} dB."
        return Finding("denoising", "good", text + note)
    if better:
        worst = min(gains, key=lambda sigma: gains[sigma])
        text = (
            f"Better than {baselines} at {len(better)} of {len(gains)} noise levels; at noise"
            f" {worst:g} by {gains[worst]:.2f} dB."
        )
        return Finding("denoising", "care", text + note)
    text = f"Not better than {baselines} at any noise level ({_span(gains.values())} dB)."
    return Finding("denoising", "care", text + note)


def _calibration(report: Report) -> Finding:
    ratios = {level.sigma: level.error_ratio for level in report.levels}
    worst = max(ratios, key=lambda sigma: abs(math.log(max(ratios[sigma], 1e-9))))
    ratio = ratios[worst]
    if 1 / _CALIBRATED <= ratio <= _CALIBRATED:
        text = (
            "It estimates its own error: the squared error is"
            f" {_span(ratios.values())} times the expected one."
        )
        return Finding("calibration", "good", text)
    where = f"at noise {worst:g} the squared error is {ratio:.2f} times the expected one"
    if ratio > 1:
        text = f"It underestimates its error: {where}."
        text += " The other possible cause is that these images differ from its training images."
    else:
        text = f"It overestimates its error: {where}."
    return Finding("calibration", "bad" if ratio > 2 * _CALIBRATED else "care", text)


def _law(
    report: Report, about: str, figure: Callable[[Level], float], claim: str, detail: str
) -> Finding:
    figures = {x.sigma: figure(x) for x in report.levels if not math.isnan(figure(x))}
    if not figures:
        return Finding(about, "care", "It could not be measured at these noise levels.")
    sigma = max(figures, key=lambda s: figures[s])
    worst = figures[sigma]
    text = detail.format(worst=worst, sigma=sigma)
    if worst <= _SMALL:
        return Finding(about, "good", f"Its {claim}: {text}")
    if worst <= _LARGE:
        return Finding(about, "care", f"Its {claim}, but only roughly: {text}")
    return Finding(about, "bad", f"It fails the law that its {claim}: {text}")


def _range(report: Report) -> Finding:
    (low, gain_low), (high, gain_high) = report.ends.items()
    text = f"It removes {gain_low:.1f} dB of noise at its smallest level {low:g} and"
    text += f" {gain_high:.1f} dB at its largest {high:g}."
    if min(gain_low, gain_high) > -_DIFFERENCE:
        return Finding("noise range", "good", text)
    return Finding("noise range", "bad", text + " A negative figure means that it adds errors.")


def _growth(report: Report) -> Finding:
    worst = max(report.growth, key=lambda sigma: report.growth[sigma])
    figure = report.growth[worst]
    text = (
        f"The output peak is at most {figure:.2f} times the input peak for images up to 10 times"
        f" too bright, at noise {worst:g}"
    )
    if figure <= _GROWTH:
        return Finding("brightness", "good", f"{text}: it stays in proportion.")
    return Finding(
        "brightness", "bad", f"{text}: samples may diverge. Train it with"
        " some images that are too bright (data.bright of a recipe)."
    )  # fmt: skip


def _values(report: Report) -> Finding:
    if not len(report.samples):
        return Finding("samples", "good", "None were drawn.")
    ratio = report.sample_peak / report.image_peak
    text = (
        "The brightest pixels of its unconditional samples are at"
        f" {report.sample_peak:.3g}; those of the images at {report.image_peak:.3g}."
    )
    if 1 / 1.5 <= ratio <= 1.5:
        return Finding("samples", "good", text)
    return Finding(
        "samples", "care", text + " Its samples of whole images are poor, or these images have"
        " another scale than its training images."
    )  # fmt: skip


def _span(values: object) -> str:
    numbers = sorted(values)  # type: ignore[call-overload]
    return f"{numbers[0]:.2f} to {numbers[-1]:.2f}"
