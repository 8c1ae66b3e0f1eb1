"""Samples that are wider than the detector: recognised, and how wide they are.

A detector that cuts the sample on all sides measures rays that also cross what lies outside of the
image. On an image as wide as the detector that attenuation has no place but inside. The sample
must be modelled as wide as it is; what the outer part looks like is not determined.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from tiltkit.errors import InputError
from tiltkit.operators.cg import conjugate_gradient
from tiltkit_ct.directions import FULL_TURN
from tiltkit_ct.parallel import ParallelBeam
from tiltkit_ct.prepare import prepare

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from tiltkit_ct.options import PrepareOptions
    from tiltkit_ct.projections import Projections

__all__ = ["WIDEST", "extended", "is_truncated", "seen_radius", "some_rows", "widening"]

_ANGLES = 64  # projections that are enough
_COLUMNS = 32  # to which the detector is binned, about
_HALF = math.radians(170)  # of a turn: for less, what a wider sample adds is not determined
_STRIP = 25  # strips at the sides are one so-many-th of the detector
_SAMPLE = 0.05  # of the largest line integral, on average; more than this at the side is sample
# Change of the side with angle and column, as a share of what the sample rises above it; less than
# this is air with an offset, as flats of another exposure give.
_FLAT = 0.03
_CENTRED = 0.05  # of the detector: an axis that is nearer to the middle leaves no longer side
# Widths that are tried, in widths of the image without widening.
_WIDTHS = (1.0, 1.15, 1.3, 1.5, 1.75, 2.0, 2.5, 3.0)
WIDEST = _WIDTHS[-1]
_GAIN = 1.1  # a wider image that lowers the residual by less than this factor adds nothing
_MARGIN = 1.15  # noise hides the last part of a sample
_DAMPING = 1e-4  # of the least squares, as a fraction of the largest eigenvalue of A^H A
_ROUGH = 1e-3


def some_rows(
    p: Projections, options: PrepareOptions, rows: Sequence[int]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Line integrals (row, angle, column) of some rows and projections, and their angles.

    Rows that cannot be used are left out; there may be none.
    """
    thin = p.subset(slice(None, None, max(len(p.angles) // _ANGLES, 1)))
    plain = options.model_copy(update={"delta_beta": None})
    found = []
    for row in rows:
        try:
            found.append(prepare(thin, row, plain).line_integrals)
        except InputError:
            continue
    shape = 0, len(thin.angles), thin.n_columns
    return np.stack(found) if found else np.empty(shape, np.float32), thin.rising


def is_truncated(sinograms: NDArray[np.float32], angles: NDArray[np.float64], axis: float) -> bool:
    """Return whether the sample reaches beyond the detector, for half a turn or more.

    With the axis off the middle a full turn sees either side of the sample on the longer side of
    the detector (half acquisition); only that side counts.

    Args:
        sinograms: Line integrals (row, angle, column).
        angles: Radians (angle,), rising.
        axis: Column of the rotation axis.
    """
    columns = sinograms.shape[2]
    if not len(sinograms) or _turned(angles) < _HALF:
        return False
    sides = {"left": sinograms, "right": sinograms[..., ::-1]}
    longer = _longer_side(angles, columns, axis)
    counted = sides.values() if longer is None else [sides[longer]]
    return any(_reaches(row, angles) for side in counted for row in side)


def _longer_side(angles: NDArray[np.floating], columns: int, axis: float) -> str | None:
    """Side of the detector that sees all of the sample in a full turn; None where both count."""
    off = axis - (columns - 1) / 2
    if _turned(angles) < FULL_TURN or abs(off) <= _CENTRED * columns:
        return None
    return "left" if off > 0 else "right"


def seen_radius(columns: int, axis: float, angles: NDArray[np.float64]) -> float:
    """Radius in columns of the circle around the axis that all projections see.

    Of half a turn the nearer side of the detector counts, of a full turn the farther one: what one
    projection misses the opposite one has.
    """
    sides = axis, columns - 1 - axis
    return (max(sides) if _turned(angles) >= FULL_TURN else min(sides)) + 0.5


def _reaches(sinogram: NDArray[np.float32], angles: NDArray[np.float64]) -> bool:
    """Return whether there is sample at the first columns of a sinogram."""
    n = max(sinogram.shape[1] // _STRIP, 2)
    strip = sinogram[:, :n].mean(axis=1)
    top, level = float(np.quantile(sinogram, 0.999)), float(strip.mean())
    if level < _SAMPLE * top:
        return False
    circle = [np.ones_like(angles), *(f(k * angles) for k in (1, 2) for f in (np.cos, np.sin))]
    waves = np.linalg.lstsq(np.stack(circle, axis=1), strip, rcond=None)[0][1:]
    slope = float(sinogram[:, : n // 2].mean() - sinogram[:, n - n // 2 : n].mean())
    return math.hypot(slope, *waves) > _FLAT * (top - level)


def widening(
    sinograms: NDArray[np.float32], angles: NDArray[np.float64], axis: float, width: float
) -> float:
    """Factor by which an image must be wider so that it can explain truncated projections.

    Images of growing width are fitted to coarse projections by least squares. The residual falls
    until the image is as wide as the sample; the width at which it no longer falls has a margin.

    Args:
        sinograms: Line integrals (row, angle, column).
        angles: Radians (angle,).
        axis: Column of the rotation axis.
        width: Width of the image without widening, in columns.
    """
    binning = max(sinograms.shape[2] // _COLUMNS, 1)
    kept = sinograms.shape[2] // binning * binning
    coarse = sinograms[..., :kept].reshape(*sinograms.shape[:2], -1, binning).mean(axis=3)
    place = (axis - (binning - 1) / 2) / binning
    y, turns = torch.from_numpy(coarse).double(), torch.from_numpy(np.array(angles))
    last = math.inf
    for factor in _WIDTHS:
        residual = _residual(y, turns, place, math.ceil(factor * width / binning))
        if last < _GAIN * residual:
            return _MARGIN * factor
        last = residual
    return WIDEST


def _residual(y: Tensor, angles: Tensor, axis: float, size: int) -> float:
    """Root mean square residual of the best image within a circle; ``y`` is (n, angle, column)."""
    operator = ParallelBeam(angles, (size, size), y.shape[2], axis=axis)
    grid = torch.arange(size, dtype=y.dtype) - (size - 1) / 2
    inside = (torch.hypot(grid[:, None], grid) <= size / 2).to(y)

    def normal(x: Tensor) -> Tensor:
        return inside * operator.normal(inside * x)

    top = float(normal(inside[None, None]).max())
    back = inside * operator.adjoint(y)
    x, _ = conjugate_gradient(normal, back, _DAMPING * top, 1.0, rtol=_ROUGH)
    return float((y - operator.forward(x)).square().mean().sqrt())


def extended(sinogram: Tensor, operator: ParallelBeam, width: float) -> tuple[Tensor, ParallelBeam]:
    """Projections that end smoothly where the sample does, and their geometry.

    Beyond the detector each projection is continued as that of a disc of the sample's radius
    around the axis (Hsieh et al., Med. Phys. 31 (2004) 2385-2391): cut ends would become a bright
    rim of a filtered back-projection.

    Args:
        sinogram: Line integrals (angle, column).
        operator: Geometry of the scan.
        width: Width of the region that is modelled, in columns: that of the sample and a margin.
    """
    radius = width / 2 / _MARGIN
    n, axis = operator.n_columns, operator.axis
    before, after = (max(math.ceil(radius - reach), 0) for reach in (axis, n - 1 - axis))
    if (side := _longer_side(operator.angles.sort().values.cpu().numpy(), n, axis)) is not None:
        # Opposite projections have what the shorter side misses.
        before, after = (before, 0) if side == "left" else (0, after)
    s = (torch.arange(-before, n + after, dtype=sinogram.dtype) - axis) / radius
    chord = (1 - s.square()).clamp_min(0).sqrt().to(sinogram)
    k = max(n // _STRIP, 2)
    left = sinogram[:, :k].mean(1, keepdim=True) / chord[before : before + k].mean()
    right = sinogram[:, -k:].mean(1, keepdim=True) / chord[before + n - k : before + n].mean()
    rows = torch.cat([left * chord[:before], sinogram, right * chord[before + n :]], dim=1)
    wide = ParallelBeam(
        operator.angles, operator.shape, n + before + after, axis=axis + before,
        pixel=operator.pixel, pitch=operator.pitch, matrix_bytes=0,  # used once
    )  # fmt: skip
    return rows, wide


def _turned(angles: NDArray[np.floating]) -> float:
    """Range of the angles, with the last step."""
    return float(np.ptp(angles)) * len(angles) / max(len(angles) - 1, 1)
