"""Detector rows without beam or data, found before a run comes to them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tiltkit.errors import InputError
from tiltkit_ct.normalise import correct
from tiltkit_ct.transmission import read_band

if TYPE_CHECKING:
    from tiltkit_ct.options import PrepareOptions
    from tiltkit_ct.projections import Band, Projections

__all__ = ["unusable_rows"]

_FRAMES = 4  # of each sort are read to find rows without light


def unusable_rows(p: Projections, options: PrepareOptions) -> dict[int, str]:
    """Rows that have no beam or no counts, and why, from a few frames of each sort.

    Empty where all rows are unusable: the error of preparing one has the reason.
    """
    if p.kind != "counts":
        return {}
    band = read_band(_glance(p), 0, p.n_rows, options)
    faults = {row: why for row in range(p.n_rows) if (why := _fault(band, row))}
    return faults if len(faults) < p.n_rows else {}


def _glance(p: Projections) -> Projections:
    """The same scan with few frames of each sort, from all over it."""
    return replace(
        p,
        projections=p.projections.few(_FRAMES),
        flats=p.flats and p.flats.few(_FRAMES),
        darks=p.darks and p.darks.few(_FRAMES),
        brightness=None,
    )


def _fault(band: Band, row: int) -> str | None:
    at = slice(row, row + 1)
    part = replace(
        band,
        counts=band.counts[:, at],
        flats=None if band.flats is None else band.flats[:, at],
        darks=None if band.darks is None else band.darks[:, at],
    )
    try:
        correct(part, f"row {row}")
    except InputError as error:
        return error.message
    return None
