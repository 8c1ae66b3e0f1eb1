"""Tables of the report as short texts: warnings, key figures, slices, settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tiltkit.posterior.warnings import RESIDUAL_RATIO, TRAINING_DISTANCE, group_warnings
from tiltkit.report.words import number

if TYPE_CHECKING:
    from tiltkit.posterior.verdict import BandCheck
    from tiltkit.problem import Note

__all__ = ["bands", "facts", "flat", "notes", "row", "tiles", "warnings"]


def warnings(finished: Sequence[int], slices: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """List each kind of warning once: its code, its slices and the figures of the worst slice.

    Args:
        finished: Positions of the slices in the result.
        slices: Their diagnostics.
    """
    grouped = group_warnings(one.get("warnings", ()) for one in slices)
    if len(slices) == 1:
        return [(warning.code, str(warning)) for warning, _ in grouped]
    return [
        (warning.code, f"{_numbers([finished[place] for place in places])}: {warning}")
        for warning, places in grouped
    ]


def bands(one: Mapping[str, Any]) -> list[dict[str, str]]:
    """List the Stein check of each band of spatial frequency, from coarse to fine, by column."""
    return [
        {
            "band": band.name,
            "coefficients": number(band.coordinates),
            "variance over that of the posterior": _ratio(*band.ratios[0]),
            "total variance over that": _ratio(*band.ratios[-1]),
            "mean off by": f"{band.offset_sd:.2f} standard deviations",
            "finding": _finding(band),
        }
        for band in one.get("bands", ())
    ]


def _ratio(ratio: float, error: float) -> str:
    return f"{ratio:.2f} ± {error:.2f}"


def _finding(band: BandCheck) -> str:
    """Statuses of a band in words."""
    spread, mean = band.spread_status, band.offset_status
    return spread if spread == mean else f"spread {spread}, mean {mean}"


def notes(slices: Sequence[Mapping[str, Any]]) -> list[Note]:
    """List the notes of reading the scan, each once, assumptions first."""
    found = dict.fromkeys(note for one in slices for note in one.get("notes", ()))
    return sorted(found, key=lambda note: not note.assumed)


def _numbers(numbers: Sequence[int]) -> str:
    few = ", ".join(str(i) for i in numbers[:8])
    more = f" and {len(numbers) - 8} more" if len(numbers) > 8 else ""
    return f"Slice {few}" if len(numbers) == 1 else f"Slices {few}{more}"


def tiles(slices: Sequence[Mapping[str, Any]], samples: int) -> list[tuple[str, str, str]]:
    """List key figures as (label, value, remark); that of samples only if there are some."""

    def values(name: str) -> list[float]:
        return [float(one[name]) for one in slices if name in one]

    found = []
    if samples:
        remark = "per slice" if len(slices) > 1 else "equally weighted"
        found.append(("samples", str(samples), remark))
    if values("rhat"):
        runs = number(values("runs")[0])
        found.append(("R-hat", f"{max(values('rhat')):.2f}", f"of {runs} independent runs"))
    if values("chi2"):
        expected = np.mean(values("chi2_expected") or [1.0])
        found.append(
            (
                "chi-squared per value",
                f"{np.mean(values('chi2')):.2f}",
                f"fit to the data, expected {expected:.2f}",
            )
        )
    if values("spread_ratio_min"):
        low, high = min(values("spread_ratio_min")), max(values("spread_ratio_max"))
        found.append(("variance ratio", f"{low:.2f} to {high:.2f}", "Stein check, expected 1"))
    if values("residual_ratio_max"):
        found.append(
            (
                "residual ratio",
                f"{max(values('residual_ratio_max')):.2f}",
                f"of denoised images, limit {RESIDUAL_RATIO:g}",
            )
        )
    if values("prior_distance"):
        found.append(
            (
                "training distance",
                f"{max(values('prior_distance')):.2f}",
                f"from the prior's images, limit {TRAINING_DISTANCE:g}",
            )
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
    """Return one row of the table of slices, by column."""

    def text(name: str, digits: str) -> str:
        return format(one[name], digits) if name in one else "–"

    return {
        "slice": str(index),
        "chi-squared": text("chi2", ".2f"),
        "expected": text("chi2_expected", ".2f"),
        "variance ratio": " to ".join(text(f"spread_ratio_{end}", ".2f") for end in ("min", "max")),
        "residual ratio": text("residual_ratio_max", ".2f"),
        "network calls": text("network_calls", ".0f"),
        "seconds": text("seconds", ".1f"),
        "warnings": ", ".join(warning.code for warning in one.get("warnings", ())) or "none",
    }


def facts(one: Mapping[str, Any]) -> dict[str, str]:
    """Return all scalar diagnostics of a slice as text, by their names in the file."""
    return {
        name: value if isinstance(value, str) else number(value)
        for name, value in one.items()
        if name not in ("notes", "verdict", "warnings", "bands") and np.ndim(value) == 0
    }


def flat(mapping: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return nested settings with dotted names, as for the option ``-s``."""
    pairs: dict[str, str] = {}
    for key, value in mapping.items():
        if isinstance(value, Mapping):
            pairs |= flat(value, f"{prefix}{key}.")
        elif value is not None and value != "":
            pairs[prefix + key] = str(value)
    return pairs
