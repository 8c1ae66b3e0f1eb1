"""The figures of a result as short texts: key figures, one line per slice, settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tiltkit.report.words import number

__all__ = ["facts", "flat", "row", "tiles", "worries"]


def worries(finished: Sequence[int], slices: Sequence[Mapping[str, Any]]) -> list[str]:
    """Verdicts that are not ``ok``, one by one, each with the slices that it concerns."""
    found: dict[str, list[int]] = {}
    for index, one in zip(finished, slices, strict=True):
        if one.get("verdict", "ok") != "ok":
            for worry in str(one["verdict"]).split("; "):
                found.setdefault(worry, []).append(index)
    if len(slices) == 1:
        return [f"{worry[:1].upper()}{worry[1:]}." for worry in found]
    return [f"{_numbers(indices)}: {worry}." for worry, indices in found.items()]


def _numbers(numbers: Sequence[int]) -> str:
    few = ", ".join(str(i) for i in numbers[:8])
    more = f" and {len(numbers) - 8} more" if len(numbers) > 8 else ""
    return f"Slice {few}" if len(numbers) == 1 else f"Slices {few}{more}"


def tiles(slices: Sequence[Mapping[str, Any]], samples: int) -> list[tuple[str, str, str]]:
    """Key figures: label, value, remark."""

    def values(name: str) -> list[float]:
        return [float(one[name]) for one in slices if name in one]

    found = [("samples", str(samples), "per slice" if len(slices) > 1 else "equally weighted")]
    if values("ess_min"):
        found.append(("smallest ESS", number(round(min(values("ess_min")), 1)), f"of {samples}"))
    if values("rhat"):
        runs = number(values("runs")[0])
        found.append(("R-hat", f"{max(values('rhat')):.2f}", f"of {runs} independent runs"))
    if values("chi2"):
        expected = np.mean(values("chi2_expected") or [1.0])
        found.append(
            ("data fit, chi²", f"{np.mean(values('chi2')):.2f}", f"expected {expected:.2f}")
        )
    if values("network_calls"):
        found.append(
            ("network calls", number(float(np.mean(values("network_calls")))), "per slice")
        )
    if values("seconds"):
        device = next((str(one["device"]) for one in slices if "device" in one), "")
        found.append(("time", _duration(sum(values("seconds"))), f"on {device}" if device else ""))
    return found


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 6000 else f"{seconds / 3600:.3g} h"


def row(index: int, one: Mapping[str, Any]) -> dict[str, str]:
    """One line of the table of slices."""

    def text(name: str, digits: str) -> str:
        return format(one[name], digits) if name in one else "–"

    return {
        "slice": str(index),
        "smallest ESS": text("ess_min", ".1f"),
        "chi²": text("chi2", ".2f"),
        "expected": text("chi2_expected", ".2f"),
        "network calls": text("network_calls", ".0f"),
        "seconds": text("seconds", ".1f"),
        "verdict": "ok" if one.get("verdict", "ok") == "ok" else "see the note at the top",
    }


def facts(one: Mapping[str, Any]) -> dict[str, str]:
    """All scalar diagnostics of the shown slice, by their names in the file."""
    return {
        name: value if isinstance(value, str) else number(value)
        for name, value in one.items()
        if np.ndim(value) == 0
    }


def flat(mapping: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as dotted names, as ``-s`` takes them."""
    pairs: dict[str, str] = {}
    for key, value in mapping.items():
        if isinstance(value, Mapping):
            pairs |= flat(value, f"{prefix}{key}.")
        elif value is not None and value != "":
            pairs[prefix + key] = str(value)
    return pairs
