"""Figures of a whole scan from the certificates of its slices, and the last line of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

from tiltkit.posterior.verdict import (
    Half,
    Verdict,
    stored_verdict,
    verdict_text,
    worst_verdict,
)
from tiltkit.posterior.warnings import Caution, group_warnings

__all__ = ["FIGURES", "last_line", "summarize", "warnings_of_slices"]

# How figures of slices are combined: worst slice, or mean over slices.
_OF_SLICES: Mapping[str, Callable[[Sequence[float]], float]] = {
    "ess_min": min,
    "rhat": max,
    "chi2": fmean,
    "chi2_expected": fmean,
    "spread_ratio_min": min,
    "spread_ratio_max": max,
    "mean_offset_max": max,
    "fisher_at_least": max,
    "separation": max,
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
    slices with a warning. ``local`` and ``shares`` are the halves of the verdict, each that of the
    worst slice; ``verdict`` is all warnings, or both halves, in one text.

    Args:
        reports: Diagnostics of every slice.
        samples: Posterior samples per slice; the figure is 0 of reconstructions without a prior.
        seconds: Duration of the run.
    """
    warnings = _grouped(reports)
    verdict = worst_verdict([stored_verdict(report) for report in reports])
    summary: dict[str, Any] = {
        "slices": len(reports),
        "warned": sum(bool(report.get("warnings")) for report in reports),
        "samples": 0 if any("baseline_only" in report for report in reports) else samples,
        "seconds": seconds,
        "warnings": _records(warnings),
        "notes": _notes(reports),
        "local": asdict(verdict.local),
        "shares": asdict(verdict.shares),
        "verdict": verdict_text(verdict, [one for one, _ in warnings]),
    }
    for name, of_all in _OF_SLICES.items():
        if values := [report[name] for report in reports if name in report]:
            summary[name] = of_all(values)
    return summary


def warnings_of_slices(reports: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each kind of warning once, with the figures of the worst slice and all ``slices`` with it."""
    return _records(_grouped(reports))


def _grouped(reports: Sequence[Mapping[str, Any]]) -> list[tuple[Caution, list[int]]]:
    return group_warnings(report.get("warnings", ()) for report in reports)


def _records(grouped: Sequence[tuple[Caution, list[int]]]) -> list[dict[str, Any]]:
    return [asdict(one) | {"slices": slices} for one, slices in grouped]


def _notes(reports: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each note once, with the slices that have it."""
    slices: dict[Any, list[int]] = {}
    for index, report in enumerate(reports):
        for note in report.get("notes", ()):
            slices.setdefault(note, []).append(index)
    return [asdict(note) | {"slices": places} for note, places in slices.items()]


def last_line(summary: Mapping[str, Any]) -> str:
    """Summarise a run in one line: result, warnings, tests with their findings, assumptions.

    Args:
        summary: From `summarize`, with the path of the result as ``output`` and that of its page,
            if there is one, as ``report``.
    """
    slices, count = summary["slices"], summary["samples"]
    text = f"{summary['output']}: {slices} slice{'s' * (slices != 1)}"
    made = f"{count} sample{'s' * (count != 1)}" if count else "reconstructed without a prior"
    text += f", {made}, {summary['seconds']:.0f} s"
    text += f", report {summary['report']}. " if "report" in summary else ". "
    text += f"{_warned(summary)} {_halves(summary) if count else ''}".strip()
    text = text.rstrip()
    others = ", ".join(_tested(summary))
    text += f" Also tested without warning: {others}." if others else ""
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


def _halves(summary: Mapping[str, Any]) -> str:
    """Fit to the data, where it raised no warning, and both halves of the verdict, in words."""
    codes = " ".join(one["code"] for one in summary["warnings"])
    fit = ""
    if "chi2" in summary and "data_fit" not in codes:
        expected = summary.get("chi2_expected", 1.0)
        fit = f"samples follow the data (chi2 {summary['chi2']:.2f}, expected {expected:.2f})"
    return Verdict(Half(**summary["local"]), Half(**summary["shares"])).sentence(fit)


def _tested(summary: Mapping[str, Any]) -> Iterator[str]:
    """Other tests without a warning, with their figures."""
    codes = {one["code"] for one in summary["warnings"]}

    def passed(figure: str, code: str) -> bool:
        return figure in summary and code not in codes

    if passed("residual_ratio_max", "residual_ratio_high"):
        ratio = summary["residual_ratio_max"]
        yield f"residuals of denoised images (at most {ratio:.2f} times the predicted value)"
    if passed("prior_distance", "far_from_training"):
        distance = summary["prior_distance"]
        yield f"distance from the training images ({distance:.2f} of the largest usual one)"
    if passed("rhat", "runs_disagree"):
        yield f"agreement of independent runs (R-hat {summary['rhat']:.2f})"
