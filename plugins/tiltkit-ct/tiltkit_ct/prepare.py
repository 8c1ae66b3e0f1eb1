"""From one detector row of a scan to a sinogram of line integrals with known noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tiltkit.errors import InputError
from tiltkit.problem import Note
from tiltkit_ct import noise
from tiltkit_ct.normalise import drift
from tiltkit_ct.options import PrepareOptions
from tiltkit_ct.select import select
from tiltkit_ct.stripes import remove_stripes
from tiltkit_ct.transmission import (
    FEWEST,
    check_air,
    fill,
    find_gain,
    phase_length,
    read_rows,
    retrieve_row,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tiltkit_ct.projections import Projections

    Image = NDArray[np.float32]

__all__ = ["PrepareOptions", "Sinogram", "prepare", "select"]

_COLUMNS = 8  # fewest, for an estimate of the noise
_UNUSABLE = 0.5  # a row with a larger share of unusable values is refused


@dataclass(frozen=True, slots=True)
class Sinogram:
    """One detector row of a scan after all corrections.

    Attributes:
        line_integrals: float32 (angle, column), finite everywhere: masked values are filled in
            from their neighbours.
        variance: Noise variance, float32 (angle, column); infinite where values are masked.
        counts: Photon counts, float32 (angle, column); None where the data are no counts, or were
            filtered (phase retrieval).
        blank: Photons expected without sample, float32 (angle, column), 0 where the detector says
            nothing; None where ``counts`` is None.
        angles: Radians, (angle,).
        facts: Gain, share of masked values, zingers and the like, by name.
        notes: Assumptions, as sentences.
    """

    line_integrals: Image
    variance: Image
    counts: Image | None
    blank: Image | None
    angles: NDArray[np.float64]
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()


def prepare(projections: Projections, row: int, options: PrepareOptions) -> Sinogram:
    """Read and correct one detector row.

    Args:
        projections: A scan, after `select`.
        row: Detector row, after binning.
        options: Settings of the correction.

    Raises:
        InputError: The row holds nothing usable; the message says why.
    """
    if projections.n_columns < _COLUMNS:
        raise InputError(
            f"{projections.path} has {projections.n_columns} detector columns here, too few for a"
            " sinogram.",
            f"use at least {_COLUMNS}: widen columns, or lower binning.",
        )
    if projections.kind == "line_integrals":
        return _from_line_integrals(projections, row, options)
    return _from_counts(projections, row, options)


def _from_line_integrals(p: Projections, row: int, options: PrepareOptions) -> Sinogram:
    values = p.read(row, row + 1).counts[:, 0]
    bad = ~np.isfinite(values) | _borders(values)
    _check_share(float(bad.mean()), p, row)
    first = float(values.flat[0])
    background = p.background if options.background is None else options.background
    values = np.where(bad, np.float32(np.nan), values - np.float32(background))
    if options.air:
        check_air(options.air, p)
        values = values - np.nan_to_num(drift(values[:, None], options.air)[:, 0])
    filled = fill(values, bad)
    if not np.ptp(filled) > 0:
        raise InputError(
            f"Row {row} of {p.path} has the same value everywhere: {first:.3g}.",
            "leave this row out with --rows.",
        )
    variance = noise.noise_variance(filled) + np.float32(options.extra_noise**2)
    variance = np.where(bad, np.float32(np.inf), variance)
    return Sinogram(
        line_integrals=remove_stripes(filled, options.stripes, options.stripe_width),
        variance=variance,
        counts=None,
        blank=None,
        angles=p.angles,
        facts={"masked": float(bad.mean())},
        notes=p.notes,
    )


def _from_counts(p: Projections, row: int, options: PrepareOptions) -> Sinogram:
    """Line integrals from counts, linearised around the expected transmission E.

    ``-log T`` itself, with its own counts as weights, is biased by half the inverse of the counts,
    and has no value where there are none. Around E it is ``-log E - (T - E) / E``,
    linear in T, with the variance of T over E^2: one step of Fisher scoring.
    """
    gain, source = find_gain(p, row, options)
    length = phase_length(p, options)
    if length is None:
        rows = read_rows(p, row, row + 1, options, gain)
    else:
        rows = retrieve_row(p, row, options, gain, length)
    unusable, expected = rows.unusable[:, 0], rows.expected[:, 0]
    photons = expected * rows.blank[:, 0] / gain
    bad = unusable | ~(photons > FEWEST)
    _check_share(float(bad.mean()), p, row)
    with np.errstate(invalid="ignore", divide="ignore"):
        plain = fill(-np.log(expected) - (rows.values[:, 0] / expected - 1), bad)
        variance = rows.variance[:, 0] / expected**2 + options.extra_noise**2
    line_integrals = remove_stripes(plain, options.stripes, options.stripe_width)
    counts = blank = None
    if length is None:
        counts = np.where(unusable, 0, np.maximum(rows.counts[:, 0], 0) / gain).astype(np.float32)
        # A stripe is an error of the blank: the filter's correction belongs there.
        bare = rows.blank[:, 0] / gain * np.exp(line_integrals - plain)
        blank = np.where(unusable, 0, bare).astype(np.float32)
    variance = np.where(bad, np.inf, variance)
    return Sinogram(
        line_integrals=line_integrals,
        variance=variance.astype(np.float32),
        counts=counts,
        blank=blank,
        angles=p.angles,
        facts={
            "gain": gain,
            "gain_from": source,
            "photons": float(np.median(photons[~bad])),
            "masked": float(bad.mean()),
            "zingers": rows.zingers,
        },
        notes=_notes(p, options),
    )


def _borders(values: Image) -> NDArray[np.bool_]:
    """Ends of rows (angle, column) that alignment filled with a repeated number.

    Where it is a large part of the data it is no border, but data without any noise.
    """
    found = np.zeros(values.shape, np.bool_)
    for side, ends in ((values, found), (values[:, ::-1], found[:, ::-1])):
        run = np.logical_and.accumulate(side == side[:, :1], axis=1)
        ends |= run & (run.sum(axis=1, keepdims=True) > 1)
    return found if found.mean() < _UNUSABLE / 2 else np.zeros_like(found)


def _check_share(share: float, p: Projections, row: int) -> None:
    if share > _UNUSABLE:
        raise InputError(
            f"{share:.0%} of row {row} of {p.path} cannot be used: saturated, NaN, blocked, dead or"
            " without a photon.",
            "leave this row out with --rows, or the columns without beam with --columns.",
        )


def _notes(p: Projections, options: PrepareOptions) -> tuple[Note, ...]:
    if p.darks is None and options.dark_value is None:
        text = "There are no darks: dark counts of 0 are assumed."
        return (*p.notes, Note("darks_assumed", text, assumed=True))
    return p.notes
