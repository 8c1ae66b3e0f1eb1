"""Transmission, the share of the beam that passes the sample: corrected counts of rows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tiltkit.errors import InputError, UsageError
from tiltkit_ct import frame_statistics, noise
from tiltkit_ct.air import find_air
from tiltkit_ct.normalise import correct, drift, mean_over_time
from tiltkit_ct.phase import filter_length, paganin
from tiltkit_ct.zingers import find_zingers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tiltkit_ct.options import PrepareOptions
    from tiltkit_ct.projections import Band, Projections

    Frames = NDArray[np.float32]

__all__ = [
    "FEWEST",
    "Transmission",
    "check_air",
    "fill",
    "find_gain",
    "phase_length",
    "read_band",
    "read_rows",
    "retrieve_row",
]

FEWEST = 0.5  # photons; with fewer expected, a ray has no usable line integral
_SURE = 4.0  # standard deviations below its neighbours, for a ray to be darker than they are
_GAIN_ROWS = 8  # of flats at either side, from which the gain is estimated
_BRIGHTEST = 1.5  # median transmission; beams drift, but not as far
_CHUNK = 2**24  # values that phase retrieval works on at a time


@dataclass(frozen=True, slots=True)
class Transmission:
    """Corrected rows of a scan, all arrays (angle, row, column).

    Attributes:
        values: Counts with sample over counts without; NaN where unusable. Noise may make them
            zero or negative.
        expected: The same with less noise, from the neighbours (Lee's filter).
        variance: Variance of the values, from expected counts: variances from the counts would
            give too much weight to counts that are low by noise.
        unusable: Values that are dead, blocked, saturated or zingers.
        counts: With sample, without dark counts.
        blank: Without sample, at the same times, without dark counts.
        zingers: Number of zingers.
    """

    values: Frames
    expected: Frames
    variance: Frames
    unusable: NDArray[np.bool_]
    counts: Frames
    blank: Frames
    zingers: int


def read_rows(
    p: Projections, first: int, last: int, options: PrepareOptions, gain: float
) -> Transmission:
    """Flat-corrected rows ``first`` to ``last - 1``, with their noise variance and their mask.

    Args:
        p: A scan of counts.
        first: First detector row.
        last: One past the last.
        options: Settings of the correction.
        gain: Detector counts per photon.

    Raises:
        InputError: There is nothing usable in these rows.
    """
    c = correct(read_band(p, first, last, options), f"row {first} of {p.path}")
    variance = (gain * np.maximum(c.counts, 1e-3 * gain) + c.dark_variance).astype(np.float32)
    blank = np.broadcast_to(c.blank, c.counts.shape)
    zingers = np.zeros(c.counts.shape, np.bool_)
    if options.zingers:
        # No sample is as bright. Near other zingers the comparison of views does not find them.
        with np.errstate(invalid="ignore", divide="ignore"):
            typical = float(frame_statistics.median((c.counts / blank)[:, c.usable].ravel()))
        limit = _BRIGHTEST * max(typical, 1.0) * blank
        zingers = c.usable & (c.counts > limit + options.zingers * np.sqrt(variance))
        plain = np.where(zingers, np.float32(np.nan), c.counts)
        zingers |= find_zingers(plain, variance, options.zingers, p.step)
    unusable = zingers | ~c.usable | ~np.isfinite(c.counts)
    with np.errstate(invalid="ignore", divide="ignore"):
        values = np.where(unusable, np.nan, c.counts / blank)
        if options.air:
            check_air(options.air, p)
            brightness = drift(values, options.air)
            values, blank = values / brightness, blank * brightness
        _check_brightness(values, p, first)
        of_flats = (gain * blank + c.dark_variance) / c.used_flats[:, None, None]

        def variance_of(values: Frames) -> Frames:
            of_counts = gain * np.maximum(values * blank, 1e-3 * gain) + c.dark_variance
            return np.asarray((of_counts + values**2 * of_flats) / blank**2, np.float32)

        expected, mean = noise.denoised(values, variance_of)
        # The expected count decides about the mask: the count itself would bias the selection.
        few = ~(np.minimum(expected, mean) * blank / gain > FEWEST)
        opaque = values < mean - _SURE * np.sqrt(variance_of(mean))
        expected = np.where(few & ~opaque, mean, expected)
        variance = variance_of(expected)
    return Transmission(
        values.astype(np.float32),
        expected,
        variance,
        unusable,
        c.counts,
        blank.astype(np.float32),
        int(zingers.sum()),
    )


def retrieve_row(
    p: Projections, row: int, options: PrepareOptions, gain: float, length: float
) -> Transmission:
    """One row after phase retrieval, which needs the rows around it; in chunks of projections.

    Counts and blank stay as they were: they are not Poisson counts of the filtered values.
    """
    margin = math.ceil(5 * length)
    first, last = max(row - margin, 0), min(row + margin + 1, p.n_rows)
    step = max(_CHUNK // ((last - first) * p.n_columns), 8)
    parts = [_retrieve(part, first, last, row, options, gain, length) for part in _parts(p, step)]

    def joined(name: str) -> NDArray[np.generic]:
        return np.concatenate([getattr(part, name) for part in parts])

    return Transmission(
        joined("values").astype(np.float32),
        joined("expected").astype(np.float32),
        joined("variance").astype(np.float32),
        joined("unusable").astype(np.bool_),
        joined("counts").astype(np.float32),
        joined("blank").astype(np.float32),
        sum(part.zingers for part in parts),
    )


def phase_length(p: Projections, options: PrepareOptions) -> float | None:
    """Length of the phase filter in pixels; None where no phase is retrieved.

    Raises:
        InputError: Energy, distance or pixel size are not known.
    """
    if options.delta_beta is None:
        return None
    if p.energy_kev is None or p.distance_mm is None or p.pixel_mm is None:
        values = {"energy_kev": p.energy_kev, "distance_mm": p.distance_mm,
                  "pixel_mm": p.pixel_mm}  # fmt: skip
        missing = [name for name, value in values.items() if value is None]
        given = " and ".join(f"--{name.replace('_', '-')}" for name in missing)
        raise InputError(
            f"Phase retrieval needs {' and '.join(missing)}, which {p.path} does not contain.",
            f"give it with {given}.",
        )
    return filter_length(p.energy_kev, p.distance_mm, options.delta_beta, p.pixel_mm)


def find_gain(p: Projections, row: int, options: PrepareOptions) -> tuple[float, str]:
    """Detector counts per photon, and the source of the value.

    Raises:
        InputError: Neither flats nor projections show any noise.
    """
    if options.gain is not None:
        return options.gain / (p.bin_rows * p.bin_columns), "given"
    first, last = max(row - _GAIN_ROWS, 0), min(row + _GAIN_ROWS + 1, p.n_rows)
    band = read_band(p.subset(slice(0, 0)), first, last, options)
    if (found := _gain_from_flats(band)) is not None:
        return found, "flats"
    c = correct(read_band(p, row, row + 1, options), f"row {row} of {p.path}")
    counts = np.where(c.usable, c.counts, np.float32(np.nan))
    air = find_air(np.divide(counts, c.blank, dtype=np.float32), float(c.used_flats.min()))
    if air is not None:
        left, right = air.columns
        beside = np.concatenate([counts[:, 0, :left], counts[:, 0, p.n_columns - right :]], axis=1)
        if (found := noise.gain_from_air(beside, c.dark_variance)) is not None:
            return found, "air beside the sample"
    found = noise.gain_from_counts(counts[:, 0])
    if found is None:
        raise InputError(
            f"Row {row} of {p.path} shows no noise, so that photons cannot be counted.",
            "give the detector counts per photon with --gain.",
        )
    return found, "projections"


def fill(values: Frames, bad: NDArray[np.bool_]) -> Frames:
    """Replace bad values by interpolation along the columns.

    Rows without any good value take the nearest row that has some.

    Args:
        values: (n, column).
        bad: Values to replace, same shape.
    """
    filled = values.copy()
    lost = bad.all(axis=1)
    for i in np.flatnonzero(bad.any(axis=1) & ~lost):
        good = np.flatnonzero(~bad[i])
        filled[i, bad[i]] = np.interp(np.flatnonzero(bad[i]), good, values[i, good])
    kept = np.flatnonzero(~lost)
    for i in np.flatnonzero(lost):
        filled[i] = filled[kept[np.abs(kept - i).argmin()]] if len(kept) else 0
    return filled


def _retrieve(
    p: Projections,
    first: int,
    last: int,
    row: int,
    options: PrepareOptions,
    gain: float,
    length: float,
) -> Transmission:
    rows = read_rows(p, first, last, options, gain)
    bad = np.isnan(rows.values)

    def whole(frames: Frames) -> Frames:
        flat = fill(frames.reshape(-1, p.n_columns), bad.reshape(-1, p.n_columns))
        return flat.reshape(frames.shape)

    values, variance = paganin(whole(rows.values), whole(rows.variance), length)
    at = slice(row - first, row - first + 1)
    return Transmission(
        values[:, at],
        values[:, at],  # the filter took the noise away
        variance[:, at],
        rows.unusable[:, at],
        rows.counts[:, at],
        rows.blank[:, at],
        int(rows.zingers),
    )


def _parts(p: Projections, step: int) -> Iterator[Projections]:
    for start in range(0, len(p.angles), step):
        yield p.subset(slice(start, start + step))


def read_band(p: Projections, first: int, last: int, options: PrepareOptions) -> Band:
    """Rows with their flats and darks; given values replace those that the file has."""
    band = p.read(first, last)
    shape = (1, last - first, p.n_columns)
    if options.flat_value is not None:
        flats = np.full(shape, options.flat_value, np.float32)
        band = replace(band, flats=flats, flat_times=np.zeros(1))
    if options.dark_value is not None:
        darks = np.full(shape, options.dark_value, np.float32)
        band = replace(band, darks=darks, dark_times=np.zeros(1))
    return band


def _gain_from_flats(band: Band) -> float | None:
    if band.flats is None:
        return None
    dark: Frames = np.zeros((1, 1), np.float32)
    if band.darks is not None:
        dark = mean_over_time(band.darks, np.zeros(len(band.darks)), np.zeros(1))[0][0]
    return noise.gain_from_flats(band.flats, dark, band.flat_times, noise.dark_variance(band.darks))


def check_air(air: int, p: Projections) -> None:
    """Refuse more columns of air than there are columns.

    Raises:
        UsageError: There are too many.
    """
    if 2 * air > p.n_columns:
        raise UsageError(
            f"{air} columns of air at both sides are more than the {p.n_columns} columns of"
            f" {p.path}.",
            f"use --air with at most {p.n_columns // 2}.",
        )


def _check_brightness(transmission: Frames, p: Projections, row: int) -> None:
    """A sample takes light away: flats must be no darker than most of the projections."""
    typical = float(frame_statistics.median(transmission.ravel()))
    if typical > _BRIGHTEST:
        raise InputError(
            f"Row {row} of {p.path} is {typical:.1f} times brighter with sample than without.",
            "check that the flats have the same exposure, or follow the beam with --air.",
        )
