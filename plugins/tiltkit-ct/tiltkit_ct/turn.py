"""Half or a full turn: the range of angles of a scan whose file has none."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tiltkit.errors import InputError
from tiltkit.problem import Note
from tiltkit_ct.angles import ANGLES_ASSUMED
from tiltkit_ct.examine import examine
from tiltkit_ct.opposite import AGREE, mirror_mismatch, mismatch, smoothed_noise
from tiltkit_ct.prepare import prepare
from tiltkit_ct.rows import unusable_rows
from tiltkit_ct.select import select

if TYPE_CHECKING:
    from tiltkit_ct.options import PrepareOptions
    from tiltkit_ct.projections import Projections

__all__ = ["find_turn"]

_FEWEST = 16  # projections, to find the range
# The last view is like the first one where they differ by less than this share of the mismatch of
# neighbours; otherwise it is a step short of the end of the turn.
_SAME = 0.5


def find_turn(p: Projections, options: PrepareOptions) -> Projections:
    """The scan with the angles that its projections fit, where its file has none.

    Opposite projections of a full turn mirror each other; of half a turn the last one mirrors the
    first. Where all projections are alike the assumption of the reader stays.

    Args:
        p: A scan as it was read.
        options: Settings of selection and correction.

    Raises:
        InputError: The projections fit neither half a turn nor a full one.
    """
    assumed = [note for note in p.notes if note.code == ANGLES_ASSUMED]
    n = len(p.stored_angles)
    if n < _FEWEST or not assumed or options.angle_range is not None:
        return p
    plain = {"angles": None, "exclude_views": None, "delta_beta": None}
    found = _turn(p, options.model_copy(update=plain))
    if found is None:
        text = f"{assumed[0].text} The projections cannot confirm it: too much alike, or too few."
        return _noted(p, text)
    degrees, included = found
    angles = np.linspace(0.0, degrees, n, endpoint=included)
    why = (
        "half a turn, because the last projection mirrors the first one"
        if degrees == 180.0
        else "a full turn, because opposite projections mirror each other"
    )
    text = f"There are no angles: 0 to {angles[-1]:.6g} degrees are assumed, {why}."
    return _noted(replace(p, stored_angles=angles, angle_unit="deg"), text)


def _turn(p: Projections, options: PrepareOptions) -> tuple[float, bool] | None:
    """Degrees of the turn, and whether its end is a projection; None where views are alike.

    Views without light are left out; the others keep their numbers.
    """
    whole = examine(select(p, options), options)
    unusable = unusable_rows(whole, options)
    good = [row for row in range(whole.n_rows) if row not in unusable]
    sinogram = prepare(whole, good[len(good) // 2], options).line_integrals
    n = len(p.stored_angles)
    place = {int(view): i for i, view in enumerate(whole.projections.times)}

    def pairs(apart: int) -> tuple[list[int], list[int]]:
        both = [(place[i], place[i + apart]) for i in place if i + apart in place]
        return [first for first, _ in both], [second for _, second in both]

    step, ends = pairs(1), pairs(n - 1)
    quarter, half = pairs(n // 4), pairs(n // 2)
    if not all(first for first, _ in (step, ends, quarter, half)):
        return None
    noise = smoothed_noise(sinogram)
    unlike = mirror_mismatch(sinogram, *quarter, noise)
    neighbours = mismatch(sinogram, *step, noise)
    if unlike <= max(neighbours, noise):
        return None
    if mirror_mismatch(sinogram, *half, noise) < AGREE * unlike:
        return 360.0, mismatch(sinogram, *ends, noise) < _SAME * neighbours
    end = mirror_mismatch(sinogram, *ends, noise)
    if end < AGREE * unlike:
        return 180.0, end < _SAME * neighbours
    raise InputError(
        f"{p.path} has no angles, and its projections fit neither half a turn nor a full one.",
        "give the degrees of the first and the last projection: --angle-range FIRST:LAST.",
    )


def _noted(p: Projections, text: str) -> Projections:
    """The scan with another text of the note that angles are assumed."""
    kept = tuple(note for note in p.notes if note.code != ANGLES_ASSUMED)
    return replace(p, notes=(*kept, Note(ANGLES_ASSUMED, text, assumed=True)))
