"""Detector rows that see nothing: named before the first of them stops a long run."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from tiltkit.errors import InputError
from tiltkit_ct.normalise import correct
from tiltkit_ct.transmission import read_band

if TYPE_CHECKING:
    from tiltkit_ct.options import PrepareOptions
    from tiltkit_ct.projections import Band, Projections, Stack

__all__ = ["check_rows"]

_FRAMES = 4  # of each sort tell whether there is light


def check_rows(p: Projections, options: PrepareOptions) -> None:
    """Refuse a scan of which some rows have no beam or no counts, from a few frames of each sort.

    Where that is so of all rows, preparing one says why.

    Raises:
        InputError: Some rows see nothing.
    """
    if p.kind != "counts":
        return
    band = read_band(_glance(p), 0, p.n_rows, options)
    works = [_works(band, row) for row in range(p.n_rows)]
    if all(works) or not any(works):
        return
    runs = [(good, [row for row, _ in run])
            for good, run in groupby(enumerate(works), key=lambda item: item[1])]  # fmt: skip
    longest = max((run for good, run in runs if good), key=len)
    dark = ", ".join(_name(p, run) for good, run in runs if not good)
    raise InputError(
        f"Rows of {p.path} have no beam or no counts: {dark}.",
        f"leave them out with --rows {_range(p, longest)}.",
    )


def _glance(p: Projections) -> Projections:
    """The same scan with few frames of each sort, from all over it."""

    def few(stack: Stack) -> Stack:
        which = np.unique(np.linspace(0, len(stack) - 1, _FRAMES).round().astype(int))
        return replace(stack, frames=stack.frames[which], times=stack.times[which])

    return replace(
        p, projections=few(p.projections), flats=p.flats and few(p.flats),
        darks=p.darks and few(p.darks),
    )  # fmt: skip


def _works(band: Band, row: int) -> bool:
    at = slice(row, row + 1)
    part = replace(
        band,
        counts=band.counts[:, at],
        flats=None if band.flats is None else band.flats[:, at],
        darks=None if band.darks is None else band.darks[:, at],
    )
    try:
        correct(part, "")
    except InputError:
        return False
    return True


def _name(p: Projections, run: list[int]) -> str:
    """Rows of the file, of which several may be binned to one."""
    first, end = map(int, _range(p, run).split(":"))
    return f"{first} to {end - 1}" if end > first + 1 else str(first)


def _range(p: Projections, run: list[int]) -> str:
    first, end = (p.rows.start + p.binning * row for row in (run[0], run[-1] + 1))
    return f"{first}:{end}"
