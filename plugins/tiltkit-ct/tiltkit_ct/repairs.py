"""Faults of stored values that can be undone: wrapped integers, darks and flats exchanged."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tiltkit.problem import Note
from tiltkit_ct.bad_frames import level_of
from tiltkit_ct.projections import constant_stack

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from tiltkit_ct.projections import Band, Projections, Stack

    Frames = NDArray[np.float32]

__all__ = ["exchanged_back", "interpreted", "unwrapped"]

_SIGNED, _UNSIGNED = 2.0**15 - 1, 2.0**16 - 1  # largest values of 16 bits
# Values below this are no noise around zero; so many of them are no damage.
_NEGATIVE, _SHARE = -1024.0, 0.01
# Light of projections, as a share of that of flats: more than noise and afterglow.
_LIGHT = 0.05
# Share of the columns at each side that are beside the sample, and how near to 0 or 1 they are.
_SIDE, _NEAR = 0.03, 0.05


def unwrapped(p: Projections, band: Band) -> Projections:
    """The scan with 16-bit counts above 32767 restored, where they were stored as negative ones."""
    stacks = (p.projections, p.flats, p.darks)
    values = (band.counts, band.flats, band.darks)
    wrapped = [
        stack is not None and stack.full_scale == _SIGNED and frames is not None
        and float((frames < _NEGATIVE).mean()) > _SHARE
        for stack, frames in zip(stacks, values, strict=True)
    ]  # fmt: skip
    if p.kind != "counts" or not any(wrapped):
        return p
    text = (
        "Counts above 32767 were stored as negative numbers of signed 16 bits: 65536 is added to"
        " all negative ones."
    )
    return replace(
        p,
        projections=_unwrapped(p.projections),
        flats=p.flats and _unwrapped(p.flats),
        darks=p.darks and _unwrapped(p.darks),
        notes=(*p.notes, Note("counts_unwrapped", text, assumed=True)),
    )


def _unwrapped(stack: Stack) -> Stack:
    if stack.full_scale != _SIGNED:
        return stack
    inner: Callable[..., Frames] = stack.load

    def load(frames: NDArray[np.int64], rows: slice, columns: slice) -> Frames:
        found = inner(frames, rows, columns)
        return np.where(found < 0, found + np.float32(_UNSIGNED + 1), found)

    return replace(stack, load=load, full_scale=_UNSIGNED)


def interpreted(p: Projections, band: Band) -> Projections:
    """The scan as transmission or as line integrals, where its values without flats are such.

    Numbers of floating point that are 1 beside the sample and less in it were divided by flats; 0
    beside the sample and more in it, they are minus the logarithm of that.
    """
    whole = np.isfinite(p.projections.full_scale)
    if p.kind != "counts" or band.flats is not None or band.darks is not None or whole:
        return p
    side = max(math.ceil(_SIDE * p.n_columns), 2)
    beside = np.concatenate([band.counts[..., :side], band.counts[..., -side:]], axis=2)
    if not np.isfinite(beside).any():
        return p
    air = float(np.nanmedian(beside))
    low, high = (float(np.nanquantile(band.counts, share)) for share in (0.005, 0.995))
    if abs(air - 1) < _NEAR and -_NEAR < low < 1 - _NEAR and high < 1 + 3 * _NEAR:
        text = (
            "There are no flats, and values are 1 beside the sample: they are taken as counts that"
            " were divided by flats (--flat-value, --kind)."
        )
        flats, darks = constant_stack(1.0), constant_stack(0.0)
        note = Note("transmission_assumed", text, assumed=True)
        return replace(p, flats=flats, darks=darks, notes=(*p.notes, note))
    if abs(air) < _NEAR * high and low > -_NEAR * high:
        text = (
            "There are no flats, and values are 0 beside the sample: they are taken as line"
            " integrals (--kind)."
        )
        note = Note("line_integrals_assumed", text, assumed=True)
        return replace(p, kind="line_integrals", notes=(*p.notes, note))
    return p


def exchanged_back(p: Projections, band: Band) -> Projections:
    """The scan with darks and flats exchanged, where its projections show that they are swapped.

    They are where projections are brighter than flats, and darks as bright as projections.
    """
    if p.kind != "counts" or band.darks is None or band.flats is None:
        return p
    dark, flat = (float(np.median(level_of(part))) for part in (band.darks, band.flats))
    if not dark > flat:
        return p
    views = float(np.median(level_of(band.counts)))
    if not (dark > views > flat and views - flat > _LIGHT * (dark - flat)):
        return p
    text = (
        f"Darks have {dark:.4g} counts and flats {flat:.4g}: they are taken to be exchanged in the"
        " file."
    )
    note = Note("darks_flats_exchanged", text, assumed=True)
    return replace(p, darks=p.flats, flats=p.darks, notes=(*p.notes, note))
