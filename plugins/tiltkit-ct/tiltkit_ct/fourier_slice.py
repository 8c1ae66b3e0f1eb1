"""Parallel-beam projections of large images, by the Fourier slice theorem.

The Fourier transform of a projection is that of the image along a line through the origin. A
nonuniform FFT gives it for all angles at once, so that the cost grows with the number of pixels
and of measured values, not with their product.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from scipy.fft import next_fast_len

from tiltkit.operators.nufft import Nufft

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["FourierSlice"]

# Highest frequency of projections that is computed, in cycles per detector pixel. Sampling by the
# detector folds what is above 1/2 back. Up to 1/2 the projections of white noise differ by 23 %
# from exact strip integrals, up to 3/4 by 6 %, up to 1 by 4 %.
_BAND = 0.75
# Columns between the detector and the periodic copies of the image.
_MARGIN = 8


class FourierSlice:
    """Projections of square pixels on detector pixels, band-limited, and their exact adjoint.

    The spectrum of a projection at angle ``t`` and frequency ``f`` in cycles per column is
    ``X(q f cos t, q f sin t) sinc(q f cos t) sinc(q f sin t) sinc(f)``: the transform of the image,
    of a square pixel and of a detector pixel, with ``q`` the ratio of their sides. Frequencies
    above 3/4 are left out.

    Args:
        angles: Angles (n_angles,) in radians; device and number type of the transforms.
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
        self._shape, self._n_columns = shape, n_columns
        ratio = pixel / pitch
        reach = ratio * math.hypot(*shape) / 2 + max(abs(axis), abs(n_columns - 1 - axis))
        # Projections are periodic: the copies of the image must not reach the detector.
        self._period: int = next_fast_len(math.ceil(reach) + _MARGIN, real=True)
        f = torch.arange(int(_BAND * self._period) + 1, device=angles.device).double()
        f = f / self._period
        directions = torch.stack([angles.double().sin(), angles.double().cos()])
        k = ratio * directions[..., None] * f  # along rows and columns: (2, angle, f)
        # The middle of an image with an even side is between two pixels.
        shift = sum((n // 2 - (n - 1) / 2) * part for n, part in zip(shape, k, strict=True))
        footprint = torch.sinc(k[0]) * torch.sinc(k[1]) * torch.sinc(f)
        # The transform of the image is divided by the root of the number of pixels.
        scale = pixel**2 / pitch * math.sqrt(math.prod(shape)) / self._period
        complex_type = angles.dtype.to_complex()
        phase = -2 * math.pi * (f * axis + shift)
        self._transfer = torch.polar(scale * footprint, phase).to(complex_type)
        self._nufft = Nufft((k - k.round()).flatten(1), shape, 1, complex_type)

    def forward(self, x: Tensor) -> Tensor:
        """Line integrals (n, angle, column) of images (n, 1, ny, nx)."""
        return torch.stack([self._project(image) for image in x])

    def adjoint(self, y: Tensor) -> Tensor:
        """Back-projections (n, 1, ny, nx) of measurements (n, angle, column)."""
        return torch.stack([self._back_project(one) for one in y])

    def _project(self, image: Tensor) -> Tensor:
        spectrum = self._nufft.forward(image.to(self._transfer.dtype))
        spectrum = spectrum.view_as(self._transfer).mul_(self._transfer)
        half, above = self._period // 2 + 1, (self._period + 1) // 2
        # A frequency f above 1/2 is that of the conjugate at 1 - f; 1/2 is its own.
        folded = spectrum[:, :half].clone()
        folded[:, self._first_folded :] += spectrum[:, above:].flip(1).conj()
        rows: Tensor = torch.fft.irfft(folded, n=self._period, norm="forward")
        return rows[:, : self._n_columns]

    def _back_project(self, rows: Tensor) -> Tensor:
        half = torch.fft.rfft(rows, n=self._period)
        above = half[:, self._first_folded : (self._period + 1) // 2]
        spectrum = torch.cat([half, above.flip(1).conj()], 1).mul_(self._transfer.conj())
        spectrum[:, 1:] *= 2  # negative frequencies are the conjugates of positive ones
        return self._nufft.adjoint(spectrum.view(1, -1)).real

    @property
    def _first_folded(self) -> int:
        """Index of the lowest frequency onto which one above half a cycle per column is folded."""
        return self._period - self._transfer.shape[1] + 1
