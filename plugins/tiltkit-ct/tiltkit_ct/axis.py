"""Position of the rotation axis on the detector, estimated from the projections."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy import fft
from scipy.ndimage import gaussian_filter1d

from tiltkit.errors import InputError, UsageError
from tiltkit_ct.directions import FULL_TURN
from tiltkit_ct.opposite import mirror_axis
from tiltkit_ct.prepare import PrepareOptions, prepare

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tiltkit_ct.projections import Projections

    Rows = NDArray[np.float64]  # (row, angle, column), line integrals

__all__ = ["check_axis", "find_axis"]

_ROWS = 4  # detector rows that are used, of twice as many that are tried
_ANGLES = 720  # projections that are enough
_HALF = math.radians(179)  # from which on the angles cover half a turn
_LEAST = math.radians(90)
_UNSURE = 0.25  # columns: largest standard error of an axis from less than half a turn
_SIDE = 0.1  # the axis is not searched in this share of the detector at either side
_OVERLAP = 0.05  # of the detector that opposite projections must share
_TRUNCATED = 0.05  # of the largest line integral; more than this at the edge is sample
_SMOOTH = 1.0  # columns, before taking differences
_WIDE = 1.5  # half widths of the detector: assumed extent of a sample that it truncates
_NEAR = 0.03  # of the columns, at least 3: distance from the axis of the first and last view
_STRAY = 0.01  # of the columns: centres of mass that stray further are not aligned
_GIVE = "give its detector column with --axis, or look at some: --axis try:FIRST:LAST:STEP."
_BRIGHT_FIELD = "for a bright-field series add --kind counts, and --flat-value of the bare beam."


def check_axis(axis: float, columns: int) -> None:
    """Refuse a rotation axis that is further off the detector than the detector is wide.

    Raises:
        UsageError: It is.
    """
    if not -columns < axis < 2 * columns:
        raise UsageError(
            f"The rotation axis {axis:g} is far outside of the detector, which has {columns}"
            " columns after ranges and binning.",
            "give its column, counted from 0, or auto.",
        )


def find_axis(
    projections: Projections,
    options: PrepareOptions | None = None,
    rows: Sequence[int] | None = None,
) -> float:
    """Detector column (0 is the centre of the first pixel) of the rotation axis.

    A scan of a full turn has every view twice, mirrored: opposite projections are laid over each
    other, also where the axis is near the edge (half acquisition). Half a turn, continued by its
    own mirror image, must make a full turn, whose Fourier transform is zero outside of a double
    wedge (Vo et al., Opt. Express 22 (2014) 19078-19086): the axis is where there is least energy
    outside. For less than that the centre of mass must run on a sine. Where projections do not
    determine the axis, the column of the file counts; it is only the set position of motors.

    Args:
        projections: A scan, after `tiltkit_ct.select.select`.
        options: Settings of the correction.
        rows: Detector rows that can be used, of which some are used; all when None.

    Raises:
        InputError: The projections do not determine the axis, or are not aligned to each other; the
            message says what to do instead.
    """
    plain = (options or PrepareOptions()).model_copy(update={"delta_beta": None})
    some = projections.subset(slice(None, None, max(len(projections.angles) // _ANGLES, 1)))
    angles, step = some.rising, some.step
    turned = float(np.ptp(angles)) + step
    reason, advice = "", _GIVE
    if len(angles) >= 3 and turned >= _LEAST:
        sinograms = _sinograms(some, plain, rows)
        if turned >= FULL_TURN:
            return _from_full_turn(sinograms, angles, step)
        complete = _complete(sinograms)
        if turned >= _HALF:
            return _from_half_turn(sinograms, angles, step, complete=complete)
        if complete:
            axis, stray, error = _from_mass(sinograms, angles)
            _check_aligned(stray, some)
            if error < _UNSURE:
                return axis
            reason = f", which determine it within {error:.2g} columns"
        else:
            reason = ", and the sample is wider than the detector"
        if some.kind == "line_integrals" and _sides(sinograms).mean() > sinograms.mean():
            reason, advice = ", and are brighter beside the sample than in it", _BRIGHT_FIELD
    if projections.axis_hint is not None:
        return projections.axis_hint
    raise InputError(
        f"The rotation axis of {projections.path} cannot be found: {len(angles)} projections cover"
        f" {math.degrees(turned):.0f} degrees{reason}.",
        advice,
    )


def _sinograms(p: Projections, options: PrepareOptions, rows: Sequence[int] | None) -> Rows:
    """Some rows, those with most in them among rows spread over the detector."""
    usable = np.arange(p.n_rows) if rows is None else np.asarray(rows)
    n = len(usable)
    tried = usable[np.unique(np.linspace(0, n - 1, min(2 * _ROWS, n)).round().astype(int))]
    found: list[NDArray[np.float32]] = []
    fault: InputError | None = None
    for row in tried:
        try:
            found.append(prepare(p, int(row), options).line_integrals)
        except InputError as error:
            fault = error
    if not found:
        raise fault or InputError(f"{p.path} has no rows.", "check the ranges.")
    found.sort(key=lambda sinogram: -float(sinogram.std()))
    return np.stack(found[:_ROWS]).astype(np.float64)


def _complete(sinograms: Rows) -> bool:
    """True where the sample ends before the detector, at both sides and all angles."""
    sides = np.abs(_sides(sinograms))
    return bool(sides.mean() < _TRUNCATED * np.quantile(np.abs(sinograms), 0.999))


def _sides(sinograms: Rows) -> Rows:
    """The columns at both sides of the detector."""
    edge = max(sinograms.shape[2] // 50, 1)
    return np.concatenate([sinograms[..., :edge], sinograms[..., -edge:]], axis=2)


def _from_half_turn(
    sinograms: Rows, angles: NDArray[np.float64], step: float, *, complete: bool
) -> float:
    """From the energy outside of the double wedge, with the second half turn for every shift.

    With A the transform of the half turn and B that of its mirror image, the energy is
    ``|A|^2 + |B|^2 + 2 Re(A* B exp(-2 pi i f shift))``: the last term, a correlation, gives
    all shifts at once. Where the detector truncates the sample, differences of columns are used:
    the cut edges would have energy everywhere. The wedge is wider then, and the axis is searched
    near the one around which the last view mirrors the first one.
    """
    half = _uniform(sinograms, angles, step)
    offset, sign, radius = 0.0, 1.0, 1.1
    within = _SIDE * sinograms.shape[2], (1 - _SIDE) * sinograms.shape[2] - 1
    if complete:
        half = half - np.median(_sides(half))
    else:
        near = mirror_axis(half[:, 0], half[:, -1])
        half = np.diff(gaussian_filter1d(half, _SMOOTH, axis=2), axis=2)
        offset, sign, radius = 0.5, -1.0, _WIDE
        reach = max(_NEAR * sinograms.shape[2], 3.0)
        within = max(within[0], near - reach), min(within[1], near + reach)
    n, m = half.shape[1:]
    turn = np.zeros((2, 2 * n, 2 * m), np.float32)
    k = np.abs(np.fft.fftfreq(2 * n, 0.5 / n))[:, None]
    f = np.fft.rfftfreq(2 * m)
    outside = k > radius * np.pi * m * f + 1
    energy = np.zeros(2 * m)
    for sinogram in half:
        turn[0, :n, :m] = sinogram
        turn[1, n:, :m] = sign * sinogram[:, ::-1]
        a, b = fft.rfft2(turn)
        energy += np.fft.irfft((np.conj(a) * b * outside).sum(axis=0), 2 * m)
    shifts = np.arange(1 - m, m)
    axis = (shifts + m - 1) / 2
    searched = (axis + offset > within[0]) & (axis + offset < within[1])
    return _lowest(axis[searched], energy[-shifts][searched]) + offset


def _uniform(sinograms: Rows, angles: NDArray[np.float64], step: float) -> Rows:
    """The first half turn at equal steps; interpolated where the steps are not equal."""
    n = max(round(math.pi / step), 2)
    wanted = angles[0] + math.pi / n * np.arange(n)
    if len(angles) >= n and np.abs(angles[:n] - wanted).max() < 0.1 * step:
        return sinograms[:, :n]
    place = np.clip(np.interp(wanted, angles, np.arange(len(angles))), 0, len(angles) - 1)
    before = np.minimum(place.astype(int), len(angles) - 2)
    weight = (place - before)[:, None]
    mixed: Rows = (1 - weight) * sinograms[:, before] + weight * sinograms[:, before + 1]
    return mixed


def _from_full_turn(sinograms: Rows, angles: NDArray[np.float64], step: float) -> float:
    """From the correlation of opposite projections where they overlap, for every axis.

    Differences of columns are compared: what they share are edges, however small the overlap. The
    score is Fisher's transform of the correlation times the root of the number of values, which
    makes overlaps of different widths comparable.
    """
    n = round(2 * math.pi / step) // 2
    edges = np.diff(gaussian_filter1d(sinograms, _SMOOTH, axis=2), axis=2)
    at = np.interp(angles[0] + step * np.arange(2 * n), angles, np.arange(len(angles)))
    turn = edges[:, at.round().astype(int)]
    one, other = turn[:, :n], -turn[:, n:, ::-1]
    m = edges.shape[2]
    product = _correlation(one, other)
    energies = [_correlation(one**2, np.ones_like(other)),
                _correlation(np.ones_like(one), other**2)]  # fmt: skip
    shifts = np.arange(1 - m, m)
    overlap = m - np.abs(shifts)
    # An overlap without any edges does not determine the shift, however small its residual.
    least = 1e-3 * float((one**2).sum() + (other**2).sum())
    norm = np.sqrt(np.maximum(energies[0] * energies[1], 0)) + least
    score = np.arctanh(np.clip(product / norm, -0.999, 0.999)) * np.sqrt(overlap)
    within = overlap >= max(_OVERLAP * m, 8)
    axis = (shifts + m - 1) / 2 + 0.5
    return _lowest(axis[within], -score[within])


def _correlation(one: Rows, other: Rows) -> NDArray[np.float64]:
    """Sum of products over rows, angles and columns, ``other`` shifted by -(m - 1) ... m - 1."""
    m = one.shape[2]
    spectrum = np.fft.rfft(one, 2 * m) * np.conj(np.fft.rfft(other, 2 * m))
    circular = np.fft.irfft(spectrum.sum(axis=(0, 1)), 2 * m)
    return np.asarray(circular[np.arange(1 - m, m)], np.float64)


def _from_mass(sinograms: Rows, angles: NDArray[np.float64]) -> tuple[float, float, float]:
    """From the centre of mass of the projections, which runs on ``axis + a cos + b sin``.

    Returns:
        The axis; how far the centres stray from where they should be: the median over the
        rows of their root mean square, in columns; and the standard error of the axis.
    """
    columns = np.arange(sinograms.shape[2])
    mass = sinograms.sum(axis=2)
    centre = (sinograms * columns).sum(axis=2) / mass
    circle = np.stack([np.ones_like(angles), np.cos(angles), np.sin(angles)], axis=1)
    fit = np.linalg.lstsq(circle, centre.T, rcond=None)[0]
    stray = np.sqrt(np.mean((centre.T - circle @ fit) ** 2, axis=0))
    axis = np.average(fit[0], weights=np.abs(mass.mean(axis=1)))
    typical = float(np.median(stray))
    error = typical * math.sqrt(float(np.linalg.inv(circle.T @ circle)[0, 0]))
    return float(axis), typical, error


def _check_aligned(stray: float, p: Projections) -> None:
    """Tilt series of microscopes drift, and must be aligned before they are reconstructed."""
    if stray > max(_STRAY * p.n_columns, 1.0):
        raise InputError(
            f"The projections of {p.path} are not aligned: their centres of mass stray by"
            f" {stray:.1f} columns from the curve that a turning sample gives.",
            "align the series first (ETSpy, IMOD, tomviz), or go on as it is with --axis.",
        )


def _lowest(axis: NDArray[np.float64], energy: NDArray[np.float64]) -> float:
    """The minimum, from a parabola through the lowest value and its neighbours."""
    i = int(np.clip(energy.argmin(), 1, len(energy) - 2))
    before, here, after = energy[i - 1 : i + 2]
    curvature = before - 2 * here + after
    move = 0.5 * (before - after) / curvature if curvature > 0 else 0.0
    return float(axis[i] + np.clip(move, -1, 1) * (axis[1] - axis[0]))
