"""Figures in words: what was found, and whether to take care."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from tiltkit.priors.check.record import Level, Report

__all__ = ["Finding", "findings", "overall"]

Judgement = Literal["good", "care", "bad"]

# Error over expected error that still counts as honest: half as much again, either way.
_HONEST = 1.5
# Drift and asymmetry: up to the first is good, up to the second takes care.
_SMALL, _LARGE = 0.15, 0.4
# Times the largest value of what it is given: sound priors were seen to reach 1.2.
_GROWS = 2.0
# dB over a baseline, or over the noise, that counts: below, seeds decide.
_BETTER = 0.1


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found.

    Attributes:
        about: Subject in one or two words.
        judgement: ``good``, ``care`` or ``bad``.
        text: One or two sentences.
    """

    about: str
    judgement: Judgement
    text: str


def findings(report: Report) -> list[Finding]:
    """Every finding, in the order in which people ask."""
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
            "noise level", "bad", "It gives the same image whatever noise level it is told: its "
            "score is right at one level at most."
        )  # fmt: skip
    yield _honesty(report)
    yield _law(
        report, "consistency", lambda level: level.drift,
        "noise levels agree with one another",
        "on the way down the denoised image drifts by {worst:.2f} of the error that it expects (0"
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
    what = "TV and wavelets with their best weights in hindsight"
    better = [sigma for sigma, gain in gains.items() if gain > _BETTER]
    note = "" if report.real else f" This is on {report.origin}, not on real images."
    if len(better) == len(gains):
        text = f"Better than {what} at every noise level, by {_span(gains.values())} dB."
        return Finding("denoising", "good", text + note)
    if better:
        worst = min(gains, key=lambda sigma: gains[sigma])
        text = (
            f"Better than {what} at {len(better)} of {len(gains)} noise levels; at noise {worst:g}"
            f" by {gains[worst]:.2f} dB."
        )
        return Finding("denoising", "care", text + note)
    text = f"Not better than {what} at any noise level ({_span(gains.values())} dB)."
    return Finding("denoising", "care", text + note)


def _honesty(report: Report) -> Finding:
    ratios = {level.sigma: level.error_ratio for level in report.levels}
    worst = max(ratios, key=lambda sigma: abs(math.log(max(ratios[sigma], 1e-9))))
    ratio = ratios[worst]
    if 1 / _HONEST <= ratio <= _HONEST:
        text = (
            "It knows its own error: the squared error is"
            f" {_span(ratios.values())} times what it expects."
        )
        return Finding("honesty", "good", text)
    where = f"at noise {worst:g} the squared error is {ratio:.2f} times what it expects"
    if ratio > 1:
        text = f"It is too sure of itself: {where}."
        text += " Either it is, or these images are unlike those it was made for."
    else:
        text = f"It is less sure than it could be: {where}."
    return Finding("honesty", "bad" if ratio > 2 * _HONEST else "care", text)


def _law(
    report: Report, about: str, figure: Callable[[Level], float], claim: str, detail: str
) -> Finding:
    known = {x.sigma: figure(x) for x in report.levels if not math.isnan(figure(x))}
    if not known:
        return Finding(about, "care", "It could not be measured at these noise levels.")
    sigma = max(known, key=lambda s: known[s])
    worst = known[sigma]
    figures = detail.format(worst=worst, sigma=sigma)
    if worst <= _SMALL:
        return Finding(about, "good", f"Its {claim}: {figures}")
    if worst <= _LARGE:
        return Finding(about, "care", f"Its {claim}, but only roughly: {figures}")
    return Finding(about, "bad", f"It is not so that its {claim}: {figures}")


def _range(report: Report) -> Finding:
    (low, gain_low), (high, gain_high) = report.ends.items()
    text = f"It takes away {gain_low:.1f} dB of noise at its smallest level {low:g} and"
    text += f" {gain_high:.1f} dB at its largest {high:g}."
    if min(gain_low, gain_high) > -_BETTER:
        return Finding("noise range", "good", text)
    return Finding("noise range", "bad", text + " Below zero it adds errors of its own.")


def _growth(report: Report) -> Finding:
    worst = max(report.growth, key=lambda sigma: report.growth[sigma])
    figure = report.growth[worst]
    text = (
        f"Of images up to ten times too bright it makes {figure:.2f} times their largest value at"
        f" worst, at noise {worst:g}"
    )
    if figure <= _GROWS:
        return Finding("brightness", "good", f"{text}: it goes on in proportion.")
    return Finding(
        "brightness", "bad", f"{text}: samples may run away on their way to the data. Train it with"
        " some images that are too bright (data.bright of a recipe)."
    )  # fmt: skip


def _values(report: Report) -> Finding:
    if not len(report.samples):
        return Finding("samples", "good", "None were drawn.")
    ratio = report.sample_peak / report.image_peak
    text = (
        "The brightest pixels of its own samples, which no data guide, are at"
        f" {report.sample_peak:.3g}; those of the images at {report.image_peak:.3g}."
    )
    if 1 / 1.5 <= ratio <= 1.5:
        return Finding("samples", "good", text)
    return Finding(
        "samples", "care", text + " It knows parts of such images better than whole ones, or the"
        " images are scaled otherwise than those it was made for."
    )  # fmt: skip


def _span(values: object) -> str:
    numbers = sorted(values)  # type: ignore[call-overload]
    return f"{numbers[0]:.2f} to {numbers[-1]:.2f}"
