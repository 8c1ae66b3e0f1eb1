"""Brightness of the beam during each projection: by a monitor, and by air beside the sample."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tiltkit.errors import InputError
from tiltkit.problem import Note
from tiltkit_ct.air import Air, find_air
from tiltkit_ct.bad_frames import level_of
from tiltkit_ct.normalise import correct
from tiltkit_ct.zingers import MAD_TO_SD

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tiltkit_ct.options import PrepareOptions
    from tiltkit_ct.projections import Band, Projections

    Values = NDArray[np.float64]

__all__ = ["follow_beam"]

# Flats have another exposure where air differs from 1 by this share and so many standard errors.
_EXPOSURE, _LEVEL_ERRORS = 0.03, 4.0
# Changes of the beam are followed where they exceed noise by the factor and this share; single
# projections where they exceed so many standard errors and this share.
_OVER_NOISE, _CHANGE = 2.0, 0.003
_ERRORS, _JUMP = 6.0, 0.01
_ROUGHER = 2.0  # by a monitor, which then measured something else
_LARGE = 0.05  # changes that a user should know about


def follow_beam(p: Projections, band: Band, options: PrepareOptions) -> Projections:
    """The scan with the brightness of the beam in each projection, relative to its flats.

    A monitor is used as nabu does: flats and projections are divided by it. Where there is air
    beside the sample its transmission must be 1, which shows changes of the beam, and flats of
    another exposure. Where the two contradict each other the air counts.

    Args:
        p: A scan of counts without frames that cannot be used.
        band: Some of its rows.
        options: Settings of the correction.
    """
    air = _air(p, band) if options.air is None else None
    notes: list[Note] = []
    brightness = None
    if options.monitor and options.flat_value is None:
        brightness, notes = _by_monitor(p, band, air)
    if air is not None and air.certain:
        known = np.ones_like(air.brightness) if brightness is None else brightness
        rest, more = _by_air(replace(air, brightness=air.brightness / known))
        if rest is not None:
            brightness = known * rest
            notes += more
    elif air is not None and brightness is None:
        notes.append(_note_on_doubt(air))
    return replace(p, brightness=brightness, notes=(*p.notes, *notes))


def _air(p: Projections, band: Band) -> Air | None:
    """Air beside the sample, if any."""
    try:
        c = correct(replace(band, brightness=None), p.path.name)
    except InputError:
        return None  # said when its rows are prepared
    with np.errstate(invalid="ignore", divide="ignore"):
        transmission = np.where(c.usable, c.counts / c.blank, np.float32(np.nan))
    return find_air(transmission, float(c.used_flats.min()))


def _note_on_doubt(air: Air) -> Note:
    level, width = float(np.median(air.brightness)), max(air.columns)
    text = (
        f"At the sides ({_columns(air)}) projections are {level:.3g} times as bright as flats:"
        " either the sample is wider than the detector, or flats had another exposure. The"
        f" flats count; if this is air, add --air {width}."
    )
    return Note("exposure_doubtful", text, assumed=True)


def _by_monitor(
    p: Projections, band: Band, air: Air | None
) -> tuple[Values | None, list[Note]]:  # fmt: skip
    """Brightness that the monitor of the file shows, None without a usable one, and notes on it."""
    monitored = _monitored(p)
    if monitored is None:
        return None, []
    if (air is not None and air.certain and not _agrees(monitored, air)) or _rough(monitored, band):
        text = (
            "The monitor of the beam is ignored: projections are less steady with it than without."
            " Check what it measured."
        )
        return None, [Note("monitor_ignored", text, assumed=True)]
    brightness = np.stack([monitored, monitored], axis=1)
    text = (
        f"The beam is {_range(brightness)} times as bright as in the flats by the monitor of the"
        " file, which is corrected; with --monitor false it is not."
    )
    return brightness, [Note("monitor_used", text)]


def _rough(monitored: Values, band: Band) -> bool:
    """True where the light of projections changes more from one to the next by the monitor."""
    order = np.argsort(band.times)
    dark = 0.0 if band.darks is None else float(np.median(level_of(band.darks)))
    light = np.log(np.maximum(level_of(band.counts) - dark, 1e-6))

    def roughness(values: Values) -> float:
        return float(np.median(np.abs(np.diff(values[order], 2)))) if len(values) > 2 else 0.0

    before, after = roughness(light), roughness(light - np.log(monitored))
    return after > _ROUGHER * before + _CHANGE


def _monitored(p: Projections) -> Values | None:
    """Beam during each projection relative to the flats at that time, (angle,), by the monitor."""
    if p.projections.monitor is None or p.flats is None or p.flats.monitor is None:
        return None
    during, flat = p.projections.monitor, p.flats.monitor
    if not all(np.isfinite(part).all() and (part > 0).all() for part in (during, flat)):
        return None
    groups = np.unique(p.flats.times)
    means = [float(flat[p.flats.times == time].mean()) for time in groups]
    relative: Values = during / np.interp(p.projections.times, groups, means)
    return relative if np.abs(relative - 1).max() > 1e-6 else None


def _agrees(monitored: Values, air: Air) -> bool:
    """True unless air changes more after it is divided by the monitor."""
    before = np.log(air.brightness.mean(axis=1))
    after = before - np.log(monitored)
    return bool(np.ptp(after) <= np.ptp(before) + 4 * air.error)


def _by_air(air: Air) -> tuple[Values | None, list[Note]]:
    """Brightness that air shows beyond noise, None where it is 1, and notes on it."""
    level = np.median(air.brightness, axis=0)
    relative = air.brightness / level
    stray = np.abs(relative - 1)
    error = air.error
    changes = MAD_TO_SD * float(np.median(stray)) > _OVER_NOISE * error + _CHANGE
    # The beam changes at both sides; at one of them a sample may have moved into the air.
    jumps = stray.min(axis=1) > _ERRORS * error + _JUMP
    relative = relative if changes else np.where(jumps[:, None], relative, 1.0)
    other = np.abs(level - 1).max() > max(_EXPOSURE, _LEVEL_ERRORS * air.level_error)
    brightness = relative * level if other or changes else relative
    notes = []
    if other and (not changes or brightness.max() < 1 - _LARGE or brightness.min() > 1 + _LARGE):
        text = (
            f"Beside the sample ({_columns(air)}) projections are {_range(level)} times as bright"
            " as flats, which probably had another exposure. They are scaled by that; with --air 0"
            " they are not."
        )
        notes.append(Note("flats_scaled", text, assumed=True))
    if changes or jumps.any():
        text = (
            f"The beam changes: it is {_range(brightness)} times as bright as in the flats, by air"
            f" beside the sample ({_columns(air)}). That is corrected; with --air 0 it is not."
        )
        notes.append(Note("beam_followed", text, assumed=bool(stray.max() > _LARGE)))
    return (brightness if notes else None), notes


def _columns(air: Air) -> str:
    sides = zip(air.columns, ("left", "right"), strict=True)
    return " and ".join(f"{width} columns at the {side}" for width, side in sides if width)


def _range(brightness: Values) -> str:
    low, high = f"{brightness.min():.3g}", f"{brightness.max():.3g}"
    return low if low == high else f"{low} to {high}"
