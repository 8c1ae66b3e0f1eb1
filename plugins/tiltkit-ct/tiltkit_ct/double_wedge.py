"""``A A^H`` of parallel beams in the Fourier transform of the sinogram, to precondition solves.

The transform of a sinogram over all angles and columns is zero outside of a double wedge: an
image within the radius ``R`` around the axis gives angular frequencies up to ``2 pi f R`` at the
frequency ``f`` along the detector. Within the wedge ``A A^H`` multiplies it by about ``1 / f``,
as ``A^H A`` does with the transform of the image. Only FFTs are needed, for any number of columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from scipy.fft import next_fast_len

from tiltkit_ct.directions import circle_gaps

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["DoubleWedge"]

# Length of rows for the transform, over the number of columns. Longer ones saved no iterations.
_PADDED = 1.25
# Least eigenvalue outside of the wedge, over the largest one at the frequency. Measured at 128
# columns: 0 takes up to twice the iterations, 0.02 up to a third more at low noise.
_FLOOR = 0.01
# A gap between directions of so many mean gaps is a missing wedge; one of so few is none.
_WIDE, _NONE = 4.0, 0.25
# Values that are transformed at once: bounds the memory.
_AT_ONCE = 2**23
# Least eigenvalue of differences between opposite views, over that of what they share.
_LEAST_DIFFERENCE = 0.01


class DoubleWedge:
    """Eigenvalues of ``A A^H``, taken as diagonal in angular and column frequency.

    Directions are sorted and counted as evenly spaced over half a turn, which mirror images
    complete. Where opposite views have been measured twice, they are counted over a full turn.
    Differences between opposite views then have an eigenvalue of their own: it is 0 but for
    columns that have no mirror image on the detector.

    Args:
        angles: Angles (n_angles,) in radians; device of the transforms.
        shape: Shape of the image (ny, nx).
        n_columns: Pixels of the detector.
        axis: Detector column of the rotation axis.
        pixel: Side of an image pixel.
        pitch: Side of a detector pixel, the same unit.
    """

    def __init__(
        self,
        angles: Tensor,
        shape: tuple[int, int],
        n_columns: int,
        *,
        axis: float,
        pixel: float,
        pitch: float,
    ) -> None:
        self._n_columns, self._ratio = n_columns, pixel / pitch
        dtype, turn = angles.dtype, angles.double().remainder(2 * math.pi)
        self._full = _opposite_views(turn)
        direction = turn if self._full else turn.remainder(math.pi)
        self._order = direction.argsort()
        self._opposite = (turn[self._order] >= math.pi) & (not self._full)
        offset = abs(2 * axis - (n_columns - 1))
        length = n_columns + min(max((_PADDED - 1) * n_columns, offset), n_columns)
        self._period = next_fast_len(math.ceil(length), real=True)
        f = torch.arange(self._period // 2 + 1, device=angles.device).double() / self._period
        self._frequency = f
        phase = torch.polar(torch.ones_like(f), 2 * math.pi * f * axis)
        self._phase = phase.to(dtype.to_complex())
        step = _step(direction, 2 * math.pi if self._full else math.pi)
        turns = len(angles) if self._full else 2 * len(angles)
        m = torch.fft.fftfreq(turns, 1 / turns, device=angles.device).double()[:, None]
        self._parity = (1 - 2 * (m.abs() % 2)).to(dtype)
        # Radius of the corners of the image, in columns.
        radius = self._ratio * math.hypot(*shape) / 2
        raised = f.clamp_min(1 / (math.pi**2 * radius))  # the mean of 1 / f around 0
        inside = _inside(m, raised * radius * turns * step, turns)
        footprint = torch.sinc(self._ratio * f) * torch.sinc(f)
        values = inside / (step * raised) * (pixel * footprint).square()
        alone = min(max(offset / n_columns, _LEAST_DIFFERENCE), 1.0) if self._full else 1.0
        self._values = ((2 - alone) * values).to(dtype)
        self._difference = alone / (2 - alone)

    def preconditioner(self, variance: Tensor, c: float | Tensor) -> Callable[[Tensor], Tensor]:
        """Approximate inverse of ``diag(variance) + A C A^H``; see `PreconditionedOperator`.

        Unequal variances scale it so that its diagonal is about right.
        """
        values = self._values * (self._along_rays(c) if isinstance(c, torch.Tensor) else c)
        # A high quantile: too large a variance only damps data that no image explains. Not the
        # maximum, which dead rays would set.
        common = variance.flatten().kthvalue(max(int(0.9 * variance.numel()), 1)).values
        pairs = torch.full_like(values[0], 2)
        pairs[0] = 1
        diagonal = (values.mean(0) * pairs).sum() / self._period
        if self._full:
            diagonal = diagonal * (1 + self._difference) / 2
        correct = ((common + diagonal) / (variance + diagonal)).sqrt()
        inverses = [1 / (common + values)]
        if self._full:
            inverses.append(1 / (common + self._difference * values))
        return lambda r: correct * self._apply(correct * r, inverses)

    def _along_rays(self, c: Tensor) -> Tensor:
        """Variances (ny, nx) of Hartley coefficients at the frequencies of projections (f,).

        Those along the rows of the image stand for all directions.
        """
        row = c[0, : c.shape[1] // 2 + 1]
        place = (self._ratio * self._frequency * c.shape[1]).clamp(max=len(row) - 1)
        before = place.long().clamp(max=max(len(row) - 2, 0))
        after = (before + 1).clamp(max=len(row) - 1)
        found: Tensor = torch.lerp(row[before], row[after], (place - before).to(row))
        return found

    def _apply(self, r: Tensor, inverses: Sequence[Tensor]) -> Tensor:
        """Filter measurements (n, angle, column).

        Args:
            r: Measurements.
            inverses: Filters (angular frequency, f) of what opposite views share, and of what they
                differ in where they have been measured twice.
        """
        result = torch.empty_like(r)
        at_once = max(1, _AT_ONCE // inverses[0].numel())
        for part, out in zip(torch.split(r, at_once), torch.split(result, at_once), strict=True):
            out[:, self._order] = self._filter(part[:, self._order], inverses)
        return result

    def _filter(self, rows: Tensor, inverses: Sequence[Tensor]) -> Tensor:
        spectrum = self._mirrored(torch.fft.rfft(rows, n=self._period) * self._phase)
        turned = spectrum if self._full else torch.cat([spectrum, spectrum.conj()], 1)
        z = torch.fft.fft(turned, dim=1)
        if self._full:
            shared = (z + self._parity * z.flip(1).roll(1, 1).conj()) / 2
            z = inverses[0] * shared + inverses[1] * (z - shared)
        else:
            z.mul_(inverses[0])
        spectrum = self._mirrored(torch.fft.ifft(z, dim=1)[:, : rows.shape[1]])
        filtered = torch.fft.irfft(spectrum * self._phase.conj(), n=self._period)
        kept: Tensor = filtered[..., : self._n_columns]
        return kept

    def _mirrored(self, spectrum: Tensor) -> Tensor:
        """Spectra (n, angle, f) of projections, those from the opposite side mirrored."""
        return torch.where(self._opposite[:, None], spectrum.conj(), spectrum)


def _opposite_views(turn: Tensor) -> bool:
    """True where directions (n,), within a full turn, come in pairs of opposite ones."""
    gaps = circle_gaps(turn, math.pi)
    return bool((gaps < _NONE * gaps.mean()).double().mean() > _NONE)


def _step(direction: Tensor, turn: float) -> float:
    """Mean gap between directions, missing wedges left out."""
    gaps = circle_gaps(direction, turn)
    return float(gaps[gaps <= _WIDE * gaps.mean()].mean()) or turn / len(direction)


def _inside(m: Tensor, edge: Tensor, turns: int) -> Tensor:
    """Share of the image that contributes to an angular frequency ``m``, and to its aliases.

    Args:
        m: Angular frequencies (turns, 1) of evenly spaced views.
        edge: Angular frequency of the edge of the wedge (f,).
        turns: Number of views in a turn.
    """
    share = torch.zeros_like(m * edge)
    aliases = math.ceil(float(edge.max()) / turns)
    for k in range(-aliases, aliases + 1):
        share += (1 - ((m + k * turns) / edge).square()).clamp_min(0).sqrt()
    return share.clamp_min(_FLOOR)
