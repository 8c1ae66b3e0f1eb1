"""The figures of a whole scan, for the last line: those of its slices' certificates together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

__all__ = ["FIGURES", "summarize"]

# Of the slices' figures the one that should worry most; chi2 is that of all data, as an average.
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
"""Numbers that `summarize` may give: what ``tiltkit run --fail-if`` can ask for."""


def summarize(reports: Sequence[Mapping[str, Any]], samples: int, seconds: float) -> dict[str, Any]:
    """Figures of a scan, those of `FIGURES` that it has, and the first ``verdict`` that warns.

    Args:
        reports: Diagnostics of every slice.
        samples: Posterior samples per slice.
        seconds: That the run took.
    """
    worries = [report["verdict"] for report in reports if report["verdict"] != "ok"]
    summary: dict[str, Any] = {
        "slices": len(reports),
        "warned": len(worries),
        "samples": samples,
        "seconds": seconds,
        "verdict": worries[0] if worries else "ok",
    }
    for name, of_all in _OF_SLICES.items():
        if values := [report[name] for report in reports if name in report]:
            summary[name] = of_all(values)
    return summary
