"""``--axis try:FIRST:LAST:STEP``: a picture with one slice per candidate for the rotation axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tiltkit.errors import UsageError
from tiltkit_ct.contact_sheet import MOST, axis_picture

if TYPE_CHECKING:
    from tiltkit_ct.options import PrepareOptions
    from tiltkit_ct.projections import Projections

__all__ = ["candidates", "show_candidates"]


def candidates(text: str) -> list[float]:
    """The columns of ``try:FIRST:LAST:STEP``, the last one included; empty for other texts.

    Raises:
        UsageError: The text begins with ``try`` but has another form.
    """
    if not text.startswith("try"):
        return []
    try:
        first, last, step = map(float, text.removeprefix("try").strip(" :").split(":"))
        count = math.floor((last - first) / step + 1e-6) + 1
    except (ValueError, ZeroDivisionError, OverflowError):
        count = 0
    if not 1 <= count <= MOST:
        raise UsageError(
            f"The rotation axes {text!r} are not 1 to {MOST} candidates.",
            "write try:FIRST:LAST:STEP, such as try:290:302:2.",
        )
    return [first + step * i for i in range(count)]


def show_candidates(
    projections: Projections, columns: Sequence[float], options: PrepareOptions, row: int
) -> Path:
    """Draw the slices of a row into ``NAME.axis.png`` in the current folder."""
    path = Path(f"{projections.path.stem}.axis.png")
    axis_picture(projections, columns, path, options, row)
    return path
