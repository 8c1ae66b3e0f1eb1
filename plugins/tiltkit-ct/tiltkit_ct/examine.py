"""Examination of a scan before it is used: frames that cannot be used are left out, and named."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tiltkit.problem import Note
from tiltkit_ct import frame_statistics
from tiltkit_ct.bad_frames import (
    frames_unlike_others,
    level_of,
    levels_unlike_others,
    listed,
    views_without_light,
)
from tiltkit_ct.beam import follow_beam
from tiltkit_ct.noise import dark_variance
from tiltkit_ct.repairs import exchanged_back, interpreted, unwrapped
from tiltkit_ct.transmission import read_band

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tiltkit_ct.options import PrepareOptions
    from tiltkit_ct.projections import Band, Projections

    Frames = NDArray[np.float32]
    Chosen = NDArray[np.bool_]

__all__ = ["examine"]

_ROWS = 4  # detector rows that are read of all frames
_GLANCE = 4  # flats that are read to find rows with light
# Differences of darks and of flats that do not matter, as shares of the flats.
_LEAST_DARK, _LEAST_FLAT = 0.002, 0.01
_LIGHT = 0.1  # share of the flats above which a dark has light
_SATURATED, _HALF = 0.02, 0.5  # share of pixels, and of flats in a pixel
_MOST_LEVELS = 4  # of frames, that a note lists
_CAUSES = {
    "dark": "The shutter was probably open.",
    "flat": "The shutter was probably not fully open, or the sample was in the beam.",
}


def examine(p: Projections, options: PrepareOptions) -> Projections:
    """The scan without frames that cannot be used, and with notes that name them.

    Everything that is estimated from a scan comes after this: axis, scale, gain, usable rows.
    Some rows of all frames are read. Darks and flats are compared to the others; projections that
    are as dark as darks are left out. Changes of the beam are found (`tiltkit_ct.beam`).
    """
    rows = _rows(p)
    band = read_band(p, rows.start, rows.stop, options)
    for repair in (unwrapped, exchanged_back, *(() if options.kind else (interpreted,))):
        repaired = repair(p, band)
        if repaired is not p:
            p, band = repaired, read_band(repaired, rows.start, rows.stop, options)
    if any(part is not None and not np.isfinite(part).any() for part in _parts(band)):
        return p  # the correction of each row says why
    p, band = _without_bad_references(p, band, options)
    p = _noted_saturation(p, band)
    p, band = _without_dark_views(p, band)
    return follow_beam(p, band, options) if p.kind == "counts" else p


def _rows(p: Projections) -> range:
    """Rows in the middle of those with light, or of the detector."""
    n = min(_ROWS, p.n_rows)
    middle = p.n_rows // 2
    if p.flats is not None and p.n_rows > n:
        few = replace(p, flats=p.flats.few(_GLANCE), darks=None).subset(slice(0, 0))
        flats = few.read(0, p.n_rows).flats
        if flats is not None:
            # Of the brightest frame: the shutter may be closed in others.
            bright = np.nan_to_num(flats).max(axis=0).mean(axis=1)
            lit = np.flatnonzero(bright >= (bright.min() + bright.max()) / 2)
            middle = int(lit[len(lit) // 2])
    first = min(max(middle - n // 2, 0), p.n_rows - n)
    return range(first, first + n)


def _parts(band: Band) -> tuple[Frames | None, ...]:
    return band.counts, band.flats, band.darks


def _without_bad_references(
    p: Projections, band: Band, options: PrepareOptions
) -> tuple[Projections, Band]:
    """The scan without darks and flats unlike the others; values of the options have none."""
    notes: list[Note] = []
    if p.kind == "counts" and options.dark_value is None and p.darks and band.darks is not None:
        levels = level_of(band.darks)
        bad = _unless_all(_bad_darks(band.darks, levels, band.flats))
        notes += _notes_on_references("dark", levels, bad)
        p = replace(p, darks=p.darks.part(~bad))
        band = replace(band, darks=band.darks[~bad], dark_times=band.dark_times[~bad])
    if p.kind == "counts" and options.flat_value is None and p.flats and band.flats is not None:
        levels = level_of(band.flats)
        dark = 0.0 if band.darks is None else float(np.nanmedian(level_of(band.darks)))
        bad = _unless_all(_bad_flats(band.flats, levels - dark, band.flat_times))
        notes += _notes_on_references("flat", levels, bad)
        p = replace(p, flats=p.flats.part(~bad))
        band = replace(band, flats=band.flats[~bad], flat_times=band.flat_times[~bad])
    return replace(p, notes=(*p.notes, *notes)), band


def _noted_saturation(p: Projections, band: Band) -> Projections:
    """The scan with a note where many pixels of flats are saturated."""
    if p.kind != "counts" or band.flats is None or not p.flats:
        return p
    lost = float((np.isnan(band.flats).mean(axis=0) > _HALF).mean())
    if lost < _SATURATED:
        return p
    text = (
        f"Flats are saturated or NaN in {lost:.0%} of the pixels, which are left out, and may be"
        " too dark beside them. Take flats with a shorter exposure: the result has errors that its"
        " intervals do not cover."
    )
    return replace(p, notes=(*p.notes, Note("flats_saturated", text, assumed=True)))


def _bad_darks(darks: Frames, levels: NDArray[np.float64], flats: Frames | None) -> Chosen:
    """Darks unlike the others, and those that are nearly as bright as flats."""
    beam = 0.0
    if flats is not None:
        beam = max(float(np.nanmax(level_of(flats)) - np.nanmin(levels)), 0.0)
    bad = _unless_all(frames_unlike_others(darks, _LEAST_DARK * beam))
    typical = float(np.nanmin(levels[~bad]))
    return bad | (levels > typical + _LIGHT * beam) if beam else bad


def _bad_flats(
    flats: Frames, light: NDArray[np.float64], times: NDArray[np.float64]
) -> Chosen:  # fmt: skip
    """Flats without light, and those unlike others that were taken at the same time."""
    bad = views_without_light(light, float(np.nanmax(light)), 0.0)
    for group in _groups(times[~bad], np.flatnonzero(~bad)):
        typical = float(np.nanmedian(light[group]))
        unlike = frames_unlike_others(flats[group], _LEAST_FLAT * typical)
        bad[group] = unlike | levels_unlike_others(light[group])
    return bad


def _unless_all(bad: Chosen) -> Chosen:
    """None of the frames where all are bad: the correction of each row refuses them."""
    return bad & ~bad.all()


def _groups(
    times: NDArray[np.float64], numbers: NDArray[np.int64]
) -> Iterator[NDArray[np.int64]]:  # fmt: skip
    """Frames of the same time; all frames together where groups are too small to compare."""
    groups = [numbers[times == time] for time in np.unique(times)]
    yield from groups if all(len(group) > 2 for group in groups) else [numbers]


def _notes_on_references(
    what: str, levels: NDArray[np.float64], bad: Chosen
) -> Iterator[Note]:  # fmt: skip
    if not bad.any():
        return
    numbers = np.flatnonzero(bad)
    usual = float(np.nanmedian(levels[~bad]))
    several = f"{what.capitalize()}s {listed(numbers)} differ from the others and are"
    one = f"{what.capitalize()} {numbers[0]} differs from the others and is"
    found = ", ".join(f"{level:.4g}" for level in levels[numbers[:_MOST_LEVELS]])
    more = ", ..." if len(numbers) > _MOST_LEVELS else ""
    text = (
        f"{one if len(numbers) == 1 else several} left out (of {len(bad)}, counted from 0):"
        f" {found}{more} counts instead of {usual:.4g}. {_CAUSES[what]}"
    )
    yield Note(f"{what}s_left_out", text, assumed=True)


def _without_dark_views(p: Projections, band: Band) -> tuple[Projections, Band]:
    """The scan without projections that have no light."""
    if p.kind == "counts":
        dark = 0.0 if band.darks is None else frame_statistics.median(band.darks)
        flat = 0.0
        if band.flats is not None:
            flat = max(float(np.nanmedian(level_of(band.flats - dark))), 0.0)
        pixels = band.counts[0].size if len(band.counts) else 1
        error = math.sqrt(dark_variance(band.darks) / pixels)
        bad = views_without_light(level_of(band.counts - dark), flat, error)
    else:
        low, high = (f.reduce(band.counts, axis=(1, 2)) for f in (np.fmin, np.fmax))
        bad = np.asarray(low == high, np.bool_)
    if not bad.any() or bad.all():
        return p, band
    numbers = p.projections.times[bad].round().astype(int)
    if numbers.max() == round(p.projections.times.max()):
        cause = "The scan was probably aborted, or the shutter closed too early."
    else:
        cause = "The shutter was probably closed, or something blocked the beam."
    text = (
        f"{len(numbers)} of {len(bad)} projections have no light and are left out:"
        f" {listed(numbers)}, counted from 0. {cause}"
    )
    kept = p.subset(np.flatnonzero(~bad))
    band = replace(band, counts=band.counts[~bad], times=band.times[~bad])
    return replace(kept, notes=(*p.notes, Note("views_left_out", text, assumed=True))), band
