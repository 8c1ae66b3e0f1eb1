"""From the grid of k-space to the pixels of the image: field of view, matrix and pixel size."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from tiltkit.problem import Note
from tiltkit_mri.header import Header

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Grid", "adapt_header", "image_grid", "interpolation"]

# Field of views in headers are rounded: the edge of the image may be off by so many pixels.
_ROUNDING = 0.5
# A header that differs by so many columns, or this share of them, is of the same scan.
_FEW, _SHARE = 4, 0.03


@dataclass(frozen=True, slots=True)
class Grid:
    """The image of a slice on the grid of k-space; rows first.

    Attributes:
        cut: Rows and columns of the grid that cover the field of view, around the centre.
        matrix: Rows and columns of the image.
        step: Height and width of a pixel of the image, in pixels of the grid; 1 where the image is
            cut from the grid without interpolation.
        pixel_mm: Height and width of a pixel of the image in mm, or None.
    """

    cut: tuple[int, int]
    matrix: tuple[int, int]
    step: tuple[float, float] = (1.0, 1.0)
    pixel_mm: tuple[float, float] | None = None


def image_grid(header: Header, shape: tuple[int, int]) -> Grid:
    """The image that a header asks for.

    A field of view and a matrix of the image (reconSpace) fix its pixel size; where it is not that
    of the grid (phase resolution below 100 %, interpolation), the image is interpolated. Where
    the field of view of the image is larger than the encoded one, the image ends with the latter.

    Args:
        header: Its encoded matrix must be ``shape``, or None.
        shape: Rows and columns of k-space.
    """
    matrix = header.recon or shape
    if header.encoded_fov is None:
        cut = (min(matrix[0], shape[0]), min(matrix[1], shape[1]))
        return Grid(cut, cut)
    axes = [
        _axis(shape[i], matrix[i], header.encoded_fov[i], (header.recon_fov or (None, None))[i])
        for i in (0, 1)
    ]
    (rows, height, down), (columns, width, across) = axes
    pixel_mm = (
        down * header.encoded_fov[0] / shape[0],
        across * header.encoded_fov[1] / shape[1],
    )
    return Grid((rows, columns), (height, width), (down, across), pixel_mm)


def _axis(n: int, wanted: int, encoded: float, recon: float | None) -> tuple[int, int, float]:
    """Cut, size of the image and step of one axis with ``n`` points over ``encoded`` mm."""
    step = 1.0 if recon is None else recon / wanted / (encoded / n)
    if abs(step - 1) * wanted < _ROUNDING:
        return min(wanted, n), min(wanted, n), 1.0
    # An image that is wider than the grid shows nothing beyond it.
    size = min(wanted, math.floor(n / step + 1e-6))
    cut = min(n, math.ceil(size * step - 1e-6))
    # The centre of k-space's grid stays the centre of the cut.
    return cut + (n - cut) % 2, max(size, 1), step


def interpolation(n: int, size: int, step: float) -> Tensor:
    """Matrix (size, n) that evaluates a periodic signal of ``n`` samples at ``size`` positions.

    Position ``j`` is ``n // 2 + (j - size // 2) * step``. The trigonometric polynomial through the
    samples is evaluated; with ``step`` above 1 its frequencies beyond the new Nyquist limit are
    left out. A constant keeps its value.

    Args:
        n: Number of samples.
        size: Number of positions.
        step: Distance of the positions, in samples.
    """
    position = n // 2 + (torch.arange(size, dtype=torch.float64) - size // 2) * step
    distance = position[:, None] - torch.arange(n, dtype=torch.float64)
    highest = min((n - 1) // 2, math.ceil(n / (2 * step)) - 1)
    half = math.pi / n * distance
    # 1 + 2 (cos t + ... + cos(highest t)) with t = 2 half: the Dirichlet kernel.
    peak = half.sin().abs() < 1e-9
    kernel = ((2 * highest + 1) * half).sin() / half.sin().masked_fill(peak, 1)
    matrix = kernel.masked_fill(peak, 2 * highest + 1)
    if n % 2 == 0 and step <= 1:  # the Nyquist frequency, as the real signal that it stands for
        matrix += torch.cos(math.pi * distance)
    return (matrix / n).float()


def adapt_header(header: Header, shape: tuple[int, int]) -> tuple[Header, tuple[Note, ...]]:
    """Make the header fit a k-space of another size, or leave it out, with a note.

    An axis that differs by a few points keeps its pixel size. An axis with as many points as the
    image has lost its oversampling, and has the field of view of the image. Otherwise the header
    describes another scan, and nothing of it is used.

    Args:
        header: The header.
        shape: Rows and columns of k-space.
    """
    if header.encoded in (None, shape):
        return header, ()
    theirs, ours = (" x ".join(map(str, size)) for size in (header.encoded, shape))
    known = f"The header describes a k-space of {theirs}, this one is {ours}"
    rows, columns = (_adapted_fov(header, shape[axis], axis) for axis in (0, 1))
    if rows is None or columns is None:
        text = (
            f"The header is ignored, as it describes a k-space of {theirs}, this one is {ours}:"
            " pixel size, field of view and measured columns are not taken from it."
        )
        return Header(), (Note("header_ignored", text, assumed=True),)
    fov = header.encoded_fov and (rows, columns)
    text = f"{known}: its encoded field of view is taken as {rows:.4g} x {columns:.4g} mm."
    adapted = replace(header, encoded=shape, encoded_fov=fov)
    return adapted, (Note("header_adapted", text, assumed=True),)


def _adapted_fov(header: Header, n: int, axis: int) -> float | None:
    """Encoded field of view of an axis with ``n`` points in mm; None where the header is no help.

    Where the header has no field of view, a number that is never used.
    """
    assert header.encoded is not None  # noqa: S101
    size = header.encoded[axis]
    encoded = header.encoded_fov[axis] if header.encoded_fov else float(size)
    if abs(n - size) <= max(_FEW, _SHARE * size):
        return encoded * n / size
    if header.recon and header.recon_fov and n == header.recon[axis]:
        return header.recon_fov[axis]
    return None
