"""Filtered back-projection: the classical reconstruction, fast and without a prior."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, get_args

import torch

from tiltkit.errors import UsageError
from tiltkit_ct.directions import circle_gaps

if TYPE_CHECKING:
    from torch import Tensor

    from tiltkit_ct.parallel import ParallelBeam

__all__ = ["Window", "angular_weights", "filtered_back_projection", "ramp_filter", "widest_gap"]

Window = Literal["ram-lak", "shepp-logan", "cosine", "hamming", "hann"]

# A gap between directions of so many median gaps is a missing wedge.
_WEDGE = 4.0


def filtered_back_projection(
    sinogram: Tensor, operator: ParallelBeam, window: Window = "hann"
) -> Tensor:
    """Reconstruct one slice from line integrals.

    Projections are weighted by the range of directions that each covers, so that spacing may be
    uneven, with or without opposite ones. A scan around the full circle with its axis off
    the middle of the detector (half acquisition) measures rays near the axis twice and others once:
    a smooth weight over the overlap makes up for it. Directions that were never measured are
    taken as zero.

    Args:
        sinogram: Line integrals (angle, column).
        operator: Geometry of the scan.
        window: Apodisation of the ramp; ``ram-lak`` is none.

    Returns:
        Image (1, ny, nx), in 1 / unit of the operator's ``pixel``.

    Raises:
        UsageError: A sinogram of another shape, an unknown window.
    """
    expected = (len(operator.angles), operator.n_columns)
    if tuple(sinogram.shape) != expected:
        raise UsageError(
            f"The sinogram has shape {tuple(sinogram.shape)}, the scan {expected}.",
            "give it as (angle, column).",
        )
    rows = sinogram * angular_weights(operator.angles.double()).to(sinogram)[:, None]
    if _half_acquisition(operator):
        rows = rows * _overlap_weights(operator).to(sinogram)
        operator, rows = _widened(operator, rows)
    filtered = ramp_filter(rows, operator.pitch, window)
    # The adjoint spreads the area of a pixel over the detector, not one.
    return operator.adjoint(filtered[None])[0] * (operator.pitch / operator.pixel**2)


def ramp_filter(rows: Tensor, pitch: float, window: Window = "ram-lak") -> Tensor:
    """Filter detector rows (..., column) by |frequency|, band-limited, in 1 / unit of ``pitch``.

    The ramp is the transform of its exact taps (Kak and Slaney, Principles of Computerized
    Tomographic Imaging, 1988, section 3.3): a ramp that is sampled in frequency would lose the
    mean value.
    """
    if window not in get_args(Window):
        raise UsageError(
            f"There is no window {window!r} of the ramp filter.",
            f"choose one of {', '.join(get_args(Window))}.",
        )
    n = rows.shape[-1]
    length = 2 ** math.ceil(math.log2(2 * n))
    position = torch.fft.fftfreq(length, 1 / length, dtype=torch.float64)
    taps = torch.where(position % 2 == 0, 0.0, -1 / (math.pi * position).square())
    taps[0] = 0.25
    response = torch.fft.rfft(taps).real * _apodisation(window, length) / pitch
    spectrum = torch.fft.rfft(rows, n=length) * response.to(rows)
    filtered: Tensor = torch.fft.irfft(spectrum, n=length)[..., :n]
    return filtered


def angular_weights(angles: Tensor) -> Tensor:
    """Radians of a half circle that each projection covers: half the gaps on its two sides.

    Args:
        angles: (n,) radians, in any order and range; opposite directions count as the same.
    """
    direction, order = torch.sort(angles.remainder(math.pi))
    gaps = direction.roll(-1) - direction
    gaps[-1] += math.pi
    usual = gaps[gaps > 1e-6].median()
    gaps = torch.where(gaps > _WEDGE * usual, usual, gaps)
    weights = torch.empty_like(angles)
    weights[order] = (gaps + gaps.roll(1)) / 2
    return weights


def widest_gap(angles: Tensor) -> float:
    """Widest range of directions without a projection, in radians; one usual step is none.

    Args:
        angles: (n,) radians, in any order and range; opposite directions count as the same.
    """
    gaps = circle_gaps(angles, math.pi)
    usual = gaps[gaps > 1e-6].median() if bool((gaps > 1e-6).any()) else gaps.max()
    return float(gaps.max() - usual)


def _half_acquisition(operator: ParallelBeam) -> bool:
    """True where the axis is off the middle and nearly every view has its opposite."""
    gaps = circle_gaps(operator.angles, 2 * math.pi)
    usual = float(gaps[gaps > 1e-6].median())
    full = float(gaps.max()) < min(_WEDGE * usual, math.pi / 2)
    return full and _offset(operator) != 0 and 0 < operator.axis < operator.n_columns - 1


def _offset(operator: ParallelBeam) -> float:
    """Offset of the middle of the detector from the axis, in columns."""
    return (operator.n_columns - 1) / 2 - operator.axis


def _overlap_weights(operator: ParallelBeam) -> Tensor:
    """Weights of the columns (column,), float64; those at s and -s sum to 2.

    1 in the overlap, 2 on the long side beyond it, 0 at the end of the short one.
    """
    columns = torch.arange(operator.n_columns, dtype=torch.float64) - operator.axis
    reach = min(operator.axis, operator.n_columns - 1 - operator.axis)
    blend = min(reach, 2 * abs(_offset(operator)))
    beyond = (columns.abs() - (reach - blend)).clamp(0, blend) / blend
    sign = columns.sign() * math.copysign(1, _offset(operator))
    return 1 + sign * (math.pi / 2 * beyond).sin().square()


def _widened(operator: ParallelBeam, rows: Tensor) -> tuple[ParallelBeam, Tensor]:
    """The scan with the short side of the detector extended by zeros to the length of the other.

    Filtered projections do not end where the measured ones do.
    """
    from tiltkit_ct.parallel import ParallelBeam

    more = math.ceil(2 * abs(_offset(operator)))
    before = more if _offset(operator) > 0 else 0
    wide = ParallelBeam(
        operator.angles,
        operator.shape,
        operator.n_columns + more,
        axis=operator.axis + before,
        pixel=operator.pixel,
        pitch=operator.pitch,
        matrix_bytes=0,  # used once
    )
    return wide, torch.nn.functional.pad(rows, (before, more - before))


def _apodisation(window: Window, length: int) -> Tensor:
    """1 at zero frequency, falling towards the highest; (length // 2 + 1,), float64."""
    f = torch.linspace(0, 1, length // 2 + 1, dtype=torch.float64)
    if window == "shepp-logan":
        return torch.sinc(f / 2)
    if window == "cosine":
        return (math.pi / 2 * f).cos()
    if window == "hamming":
        return 0.54 + 0.46 * (math.pi * f).cos()
    if window == "hann":
        return 0.5 + 0.5 * (math.pi * f).cos()
    return torch.ones_like(f)
