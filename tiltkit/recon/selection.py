"""Selection of slices."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tiltkit.errors import InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tiltkit.protocols import Layout

__all__ = ["choose_slices", "select_slices"]


def choose_slices(text: str | None, layout: Layout, source: Path) -> list[int]:
    """Parse slice numbers such as ``"0,3,5:9"``; ranges exclude their end, as in Python.

    Args:
        text: List of numbers and ranges; all slices when None.
        layout: Layout of the whole scan.
        source: Input file, for messages.

    Raises:
        UsageError: Not such a list, or a slice that does not exist.
        InputError: A chosen slice is unusable.
    """
    chosen = _numbers(text, layout.shape[0])
    bad = next((i for i in chosen if i in layout.unusable), None)
    if bad is not None:
        good = [i for i in chosen if i not in layout.unusable]
        raise InputError(
            f"Slice {bad} of {source} cannot be used: {layout.unusable[bad].rstrip('.')}.",
            f"leave it out with --slices {_ranges(good)}." if good else "choose other slices.",
        )
    return chosen


def select_slices(layout: Layout, chosen: Sequence[int]) -> Layout:
    """Layout of a result that contains the chosen slices only."""
    slices = layout.axes[0]
    kept = replace(slices, coordinates=[slices.coordinates[i] for i in chosen])
    return replace(layout, axes=(kept, *layout.axes[1:]), unusable={})


def _numbers(text: str | None, total: int) -> list[int]:
    if not text:
        return list(range(total))
    ranges: list[range] = []
    try:
        for part in text.split(","):
            first, colon, last = part.partition(":")
            start = int(first or 0) if colon else int(first)
            ranges.append(range(start, int(last or total) if colon else start + 1))
    except ValueError:
        raise UsageError(
            f"The slices {text!r} are not a list like 0,3,5:9.", "use numbers and FIRST:END."
        ) from None
    # Checked on the ends of ranges: a huge range must not be expanded.
    if not any(ranges) or any(r.start < 0 or r.stop > total for r in ranges):
        raise UsageError(
            f"The slices {text!r} are not all in the file, which has {total}.",
            f"choose among 0 to {total - 1}.",
        )
    return sorted(set().union(*ranges))


def _ranges(numbers: Sequence[int]) -> str:
    """Format rising numbers as ``0:3,5``."""
    runs: list[list[int]] = []
    for n in numbers:
        if runs and n == runs[-1][1]:
            runs[-1][1] += 1
        else:
            runs.append([n, n + 1])
    return ",".join(f"{a}" if b == a + 1 else f"{a}:{b}" for a, b in runs)
