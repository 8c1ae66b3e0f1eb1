"""Slices that exceed the memory: size of tiles, and one certificate of all tiles."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import torch

from tiltkit.posterior.verdict import stored_verdict, worst_verdict
from tiltkit.posterior.warnings import Caution, group_warnings

__all__ = ["TENSORS_KEPT", "available_memory", "combine_reports", "values_at_once"]

# Image-sized tensors per particle during a whole run: particle, score, next particle, collected
# samples, statistics in double precision.
TENSORS_KEPT = 20
# Fraction of the memory of a computer that is used by default.
_SHARE = 0.5


# Figures whose largest value over the tiles counts.
_LARGEST = ("rhat", "rhat_limit", "peak_memory_mb", "fisher_at_least", "separation", "chi2_scatter")


def values_at_once(samples: int, memory_gb: float) -> int:
    """Return the number of values of an image whose samples all fit into half of the memory.

    The other half is for samples that are computed together.
    """
    return max(1, int(memory_gb / 2 * 1e9 / (4 * TENSORS_KEPT * samples)))


def available_memory(device: torch.device) -> float:
    """Return the default memory of a run on a device in GB: half of the total memory."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory * _SHARE / 1e9
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * _SHARE / 1e9
    except (AttributeError, ValueError, OSError):  # not available on this system
        return 4.0


def combine_reports(
    reports: Sequence[Mapping[str, Any]], windows: Sequence[Sequence[tuple[int, int]]]
) -> dict[str, Any]:
    """Combine the certificates of all tiles of an image.

    Times and numbers of measured values are summed. Minima and maxima are taken over the tiles.
    Other numbers are means weighted by the size of the tiles. Each half of the verdict is that of
    its worst tile. Bands are those of the tile whose spread is furthest from 1; curves, and numbers
    that some tile lacks, are those of the tile with the lowest effective sample size.
    """
    worst = min(reports, key=lambda report: float(report.get("ess_min", np.inf)))
    size = np.array([prod(b - a for a, b in window) for window in windows], float)
    found = dict(worst)
    for name in worst:
        values = [report.get(name) for report in reports]
        numbers = [float(v) for v in values if isinstance(v, int | float)]
        if len(numbers) < len(reports):
            continue
        if name in ("seconds", "measured"):
            found[name] = sum(numbers)
        elif len(set(values)) == 1:
            continue
        elif name.endswith("_max") or name in _LARGEST:
            found[name] = max(numbers)
        elif name.endswith("_min") or name == "independent_samples":
            found[name] = min(numbers)
        else:
            found[name] = float(np.average(numbers, weights=size))
    bands = [report["bands"] for report in reports if report.get("bands")]
    if bands:
        found["bands"] = max(bands, key=lambda few: max(abs(one.worst_ratio[0] - 1) for one in few))
    if any("local" in report for report in reports):
        found |= worst_verdict([stored_verdict(report) for report in reports]).figures()
    notes = dict.fromkeys(note for report in reports for note in report.get("notes", ()))
    return found | {"tiles": len(reports), "warnings": _warnings(reports), "notes": tuple(notes)}


def _warnings(reports: Sequence[Mapping[str, Any]]) -> tuple[Caution, ...]:
    """Each kind of warning once, from the worst tile, with the number of tiles that have it."""
    grouped = group_warnings(report.get("warnings", ()) for report in reports)
    return tuple(
        replace(one, text=f"In {len(places)} of {len(reports)} tiles: {one.text}")
        for one, places in grouped
    )
