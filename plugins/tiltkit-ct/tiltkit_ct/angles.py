"""Angles of a scan: their unit, where the file states none, and a check that they can be right."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tiltkit.errors import InputError, UsageError
from tiltkit.io.units import ANGLES, unit_size
from tiltkit.problem import Note
from tiltkit_ct.hdf5 import DEFAULT_UNIT

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from tiltkit_ct.options import PrepareOptions
    from tiltkit_ct.projections import Projections

__all__ = ["ANGLES_ASSUMED", "assumed_angles", "check_angles", "listed_angles", "settle_angles"]

# Code of the note that a file has no angles.
ANGLES_ASSUMED = "angles_assumed"
# Fewest angles from whose span a wrong unit is recognised.
_ENOUGH_ANGLES = 16
# Span of two turns in radians: no scan of that many degrees gives an image.
_RADIANS = 4 * math.pi * 1.02
_GIVE = "give the degrees of the first and the last projection: --angle-range FIRST:LAST."


def settle_angles(p: Projections, options: PrepareOptions) -> Projections:
    """The scan with the angles and the unit of the options, or with a unit by the values.

    Raises:
        UsageError: The range of the options is none.
        InputError: The range of the file only makes sense in another unit than it states.
    """
    if options.angle_range is not None:
        first, last = _parse(options.angle_range)
        angles = np.linspace(first, last, len(p.stored_angles))
        kept = tuple(n for n in p.notes if n.code not in (DEFAULT_UNIT, ANGLES_ASSUMED))
        return replace(p, stored_angles=angles, angle_unit="deg", notes=kept)
    if any(note.code == ANGLES_ASSUMED for note in p.notes):
        return p  # degrees, whatever the unit of angles that the file does not have
    without = tuple(note for note in p.notes if note.code != DEFAULT_UNIT)
    if options.angle_unit:
        return replace(p, angle_unit=options.angle_unit, notes=without)
    if len(without) < len(p.notes) and _span_of_radians(p.stored_angles):
        text = (
            f"The angles have no unit and span {np.ptp(p.stored_angles):.4g}: radians are assumed,"
            f" {math.degrees(np.ptp(p.stored_angles)):.4g} degrees (--angle-unit)."
        )
        note = Note(DEFAULT_UNIT, text, assumed=True)
        return replace(p, angle_unit="rad", notes=(*without, note))
    _check_unit(p)
    return p


def assumed_angles(n: int) -> tuple[NDArray[np.float64], Note]:
    """Degrees of ``n`` projections of a file without angles, and a note that they are assumed."""
    words = "There are no angles: 0 to 180 degrees, both included, are assumed."
    return np.linspace(0.0, 180.0, n), Note(ANGLES_ASSUMED, words, assumed=True)


def listed_angles(file: Path, n: int) -> tuple[NDArray[np.float64], Note]:
    """Angles of ``n`` projections from a text file: the last number of each line.

    Lines that do not end with a number, such as titles, are left out.

    Returns:
        The numbers, and a note that they are taken as degrees.

    Raises:
        InputError: There is another number of them.
    """
    found = []
    for line in file.read_text(errors="replace").splitlines():
        try:
            found.append(float(re.split(r"[\s,;]+", line.strip())[-1]))
        except ValueError:
            continue
    if len(found) != n:
        raise InputError(
            f"{file} has {len(found)} angles for {n} projections.",
            "give one angle in degrees per line.",
        )
    words = f"The angles are read from {file.name}: degrees are assumed (--angle-unit)."
    return np.array(found), Note(DEFAULT_UNIT, words, assumed=True)


def check_angles(p: Projections) -> None:
    """Refuse angles that cannot be right.

    Raises:
        InputError: NaN, or all the same.
    """
    bad = int((~np.isfinite(p.angles)).sum())
    if bad:
        raise InputError(
            f"{bad} of the {len(p.angles)} angles of {p.path} are NaN or infinite.",
            "leave these projections out with angles, or export the scan again.",
        )
    stored = p.stored_angles
    if len(stored) > 1 and not np.ptp(stored) > 0:
        raise InputError(f"All {len(stored)} angles of {p.path} are {stored[0]:g}.", _GIVE)


def _check_unit(p: Projections) -> None:
    """Refuse a range of angles that only makes sense in another unit than the file states."""
    stored = p.stored_angles[np.isfinite(p.stored_angles)]
    if len(stored) < _ENOUGH_ANGLES:
        return
    turned = float(np.ptp(stored))
    degrees = math.isclose(unit_size(p.angle_unit, ANGLES) or 0.0, math.radians(1))
    if degrees and _span_of_radians(stored):
        why = f"too little for a scan; in radians it would be {math.degrees(turned):.4g} degrees"
        raise _wrong_unit(p, turned, why, "deg", "rad")
    whole = turned + float(np.median(np.abs(np.diff(stored))))  # the last step is often left out
    if not degrees and any(
        abs(end - turn) < 0.02 * turn for turn in (180.0, 360.0) for end in (turned, whole)
    ):
        raise _wrong_unit(p, turned, "half or all of a turn in degrees instead", "rad", "deg")


def _wrong_unit(p: Projections, turned: float, why: str, stated: str, other: str) -> InputError:
    return InputError(
        f"The angles of {p.path} span {turned:.4g} {p.angle_unit}, which is {why}.",
        f"add --angle-unit {other}, or --angle-unit {stated} if that is right.",
    )


def _span_of_radians(angles: NDArray[np.float64]) -> bool:
    """Return whether angles span so little that they are no degrees of a scan."""
    return len(angles) >= _ENOUGH_ANGLES and 0 < float(np.ptp(angles)) < _RADIANS


def _parse(text: str) -> tuple[float, float]:
    """First and last angle of ``FIRST:LAST``.

    Raises:
        UsageError: It is no such text, or both are the same.
    """
    try:
        first, last = (float(part) for part in text.split(":"))
    except ValueError:
        first = last = math.nan
    if not (math.isfinite(last - first) and first != last):
        raise UsageError(
            f"The range of angles {text!r} is not FIRST:LAST in degrees.",
            "give the angles of the first and the last projection, such as 0:179.5.",
        )
    return first, last
