"""Figures of a whole scan from the certificates of its slices, and the last line of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

from tiltkit.posterior.warnings import group_warnings, verdict_text

__all__ = ["FIGURES", "last_line", "summarize"]

# How figures of slices are combined: worst slice, or mean over slices.
_OF_SLICES: Mapping[str, Callable[[Sequence[float]], float]] = {
    "ess_min": min,
    "rhat": max,
    "chi2": fmean,
    "chi2_expected": fmean,
    "residual_ratio_max": max,
    "prior_distance": max,
    "levels": lambda counts: int(min(counts)),
    "weighted_levels": lambda counts: int(min(counts)),
}
FIGURES = ("slices", "warned", "samples", "seconds", *_OF_SLICES)
"""Numbers that `summarize` may return: names for conditions of ``tiltkit run --fail-if``."""


def summarize(reports: Sequence[Mapping[str, Any]], samples: int, seconds: float) -> dict[str, Any]:
    """Combine the certificates of slices: available `FIGURES`, warnings and notes.

    ``warnings`` has each kind of warning once, with the figures of the worst slice and the
    positions of all ``slices`` in the result that have it; ``notes`` likewise. ``warned`` counts
    slices with a warning. ``verdict`` is the text of release 0.1.

    Args:
        reports: Diagnostics of every slice.
        samples: Posterior samples per slice.
        seconds: Duration of the run.
    """
    warnings = group_warnings(report.get("warnings", ()) for report in reports)
    summary: dict[str, Any] = {
        "slices": len(reports),
        "warned": sum(bool(report.get("warnings")) for report in reports),
        "samples": samples,
        "seconds": seconds,
        "warnings": [asdict(one) | {"slices": slices} for one, slices in warnings],
        "notes": _notes(reports),
        "verdict": verdict_text([one for one, _ in warnings]),
    }
    for name, of_all in _OF_SLICES.items():
        if values := [report[name] for report in reports if name in report]:
            summary[name] = of_all(values)
    return summary


def _notes(reports: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each note once, with the slices that have it."""
    slices: dict[Any, list[int]] = {}
    for index, report in enumerate(reports):
        for note in report.get("notes", ()):
            slices.setdefault(note, []).append(index)
    return [asdict(note) | {"slices": places} for note, places in slices.items()]


def last_line(summary: Mapping[str, Any]) -> str:
    """Summarise a run in one line: result, warnings or passed tests, assumptions.

    Args:
        summary: From `summarize`, with the path of the result as ``output`` and that of its page,
            if there is one, as ``report``.
    """
    slices, count = summary["slices"], summary["samples"]
    text = f"{summary['output']}: {slices} slice{'s' * (slices != 1)}"
    text += f", {count} sample{'s' * (count != 1)}, {summary['seconds']:.0f} s"
    text += f", report {summary['report']}. " if "report" in summary else ". "
    warned, tested = _warned(summary), ", ".join(_tested(summary))
    text += f"{warned} Tested without warning: {tested}." if warned and tested else warned
    text += "" if warned else f"No warnings. Tested: {tested or 'nothing'}."
    assumed = dict.fromkeys(note["text"] for note in summary["notes"] if note["assumed"])
    return text + (f" Assumed: {' '.join(assumed)}" if assumed else "")


def _warned(summary: Mapping[str, Any]) -> str:
    """The first warning in full, the others by their codes; empty without warnings."""
    if not summary["warnings"]:
        return ""
    first, *others = summary["warnings"]
    where = f" ({len(first['slices'])} of {summary['slices']} slices)"
    text = f"Warning {first['code']}{where if summary['slices'] > 1 else ''}:"
    text += f" {first['text']} {first['hint']}".rstrip()
    return text + (f" Also: {', '.join(one['code'] for one in others)}." if others else "")


def _tested(summary: Mapping[str, Any]) -> Iterator[str]:
    """Tests without a warning, with their figures."""
    codes = " ".join(one["code"] for one in summary["warnings"])

    def passed(figure: str, code: str) -> bool:
        return figure in summary and code not in codes

    if passed("chi2", "data_fit"):
        expected = summary.get("chi2_expected", 1.0)
        yield (
            f"fit to the data (chi-squared per measured value {summary['chi2']:.2f}, expected"
            f" {expected:.2f})"
        )
    if passed("residual_ratio_max", "residual_ratio_high"):
        ratio = summary["residual_ratio_max"]
        yield f"residuals of denoised images (at most {ratio:.2f} times the predicted value)"
    if passed("prior_distance", "far_from_training"):
        distance = summary["prior_distance"]
        yield f"distance from the training images ({distance:.2f} of the largest usual one)"
    if passed("rhat", "runs_disagree"):
        yield f"agreement of independent runs (R-hat {summary['rhat']:.2f})"
    if "ess_min" in summary and summary.get("weighted_levels") == summary.get("levels"):
        yield f"importance weights (effective sample size at least {summary['ess_min']:.1f})"
