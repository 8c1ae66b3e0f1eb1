"""Slices beyond memory: sampled in tiles, each a problem of its own, and written into place."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import torch

from tiltkit.posterior.warnings import Caution, group_warnings

__all__ = ["TENSORS_KEPT", "combined", "memory_of", "values_at_once"]

# Tensors of the size of the image that a particle lives in from start to end: itself, its score
# and its successor, collected samples, statistics in double precision.
TENSORS_KEPT = 20
# Share of the memory of a machine that is used where no other is named.
_SHARE = 0.5


def values_at_once(samples: int, memory_gb: float) -> int:
    """Values of one image for which all its samples fit into half of a memory.

    The other half is for the samples that are handled side by side.
    """
    return max(1, int(memory_gb / 2 * 1e9 / (4 * TENSORS_KEPT * samples)))


def memory_of(device: torch.device) -> float:
    """What a run may use of a device where it is not told, in GB: half of all."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory * _SHARE / 1e9
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * _SHARE / 1e9
    except (AttributeError, ValueError, OSError):  # no such question on this system
        return 4.0


def combined(
    reports: Sequence[Mapping[str, Any]], windows: Sequence[Sequence[tuple[int, int]]]
) -> dict[str, Any]:
    """One certificate of all tiles of an image.

    Times and measured values add up. Curves and extremes are those of the tile with the lowest
    effective sample size. Other numbers are means over the tiles, weighted by their windows, or
    what all tiles have, such as the seed; numbers that only the worst tile tells are its own.
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
        elif name.endswith("_max") or name in ("rhat", "rhat_limit", "peak_memory_mb"):
            found[name] = max(numbers)
        elif name.endswith("_min") or name == "independent_samples":
            found[name] = min(numbers)
        else:
            found[name] = float(np.average(numbers, weights=size))
    notes = dict.fromkeys(note for report in reports for note in report.get("notes", ()))
    return found | {"tiles": len(reports), "warnings": _warnings(reports), "notes": tuple(notes)}


def _warnings(reports: Sequence[Mapping[str, Any]]) -> tuple[Caution, ...]:
    """Each kind of warning once, that of the worst tile, with the number of tiles that have it."""
    grouped = group_warnings(report.get("warnings", ()) for report in reports)
    return tuple(
        replace(one, text=f"In {len(places)} of {len(reports)} tiles: {one.text}")
        for one, places in grouped
    )
