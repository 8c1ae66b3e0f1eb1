"""Coil maps of an object that is wider than the field of view.

The object folds over along the phase encoding: a pixel near the edge of the field of view holds two
parts of it, with the sensitivities of two positions. There ESPIRiT has two eigenvalues near 1
(Uecker et al., Magn. Reson. Med. 2014, on extended maps), and its two eigenvectors span the same
plane as the sensitivities of the two positions. From the columns beside the fold, which hold one
part only, the sensitivities are continued into these planes from both sides. So the image gets
columns beyond the field of view, and shows the object once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from tiltkit_mri.fourier import ifft
from tiltkit_mri.images import to_complex, to_real

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Band", "combine_parts", "find_band", "fold", "largest_part", "low_resolution", "unfold_maps",
]  # fmt: skip

# A pixel may hold two parts where its second eigenvalue is above the first of these, and does hold
# them where it is above the second; it is 1 there without noise.
_SECOND, _SURE = 0.7, 0.9
# Energy of the second part in a column, as a share of that of the image. In sure pixels the
# strongest column has at most 3e-5 in scans of whole objects (with small kernels, else 4e-6), and
# 1e-4 to 1e-3 where 5 % of a head or more fold over and there are 12 lines or more.
_STRONG, _WEAK = 6e-5, 3e-6
# Energy of the second part in all columns that is too large for one set of maps, in the same unit.
_UNEXPLAINED = 8e-4
# Energy of the second part in a column, over that of noise.
_OVER_NOISE = 30.0
# A fold is one run of columns, so many of them with two parts, and at most such a share of all.
_FILLED, _WIDEST = 0.9, 0.67
# Rows left out at each end, as a share: the object may fill the readout, and ends abruptly then.
_ROW_EDGES = 0.125
# An object that only reaches both edges overlaps in the resolution of the calibration lines: over
# so many of its pixels and so many of the image's. Fewer lines than these make no wider bands.
_BLUR, _MARGIN, _BLUR_LINES = 2.4, 2, 12
# Columns over which the slope of the maps is measured.
_SLOPE = 4


@dataclass(frozen=True, slots=True)
class Band:
    """Neighbouring columns of the field of view in which the object folds over.

    Attributes:
        first: The first column; the band may go on at column 0.
        width: Number of columns; 0 where two parts overlap, but not as in a fold.
        rows: Rows and columns of the band with two parts, bool (ny, width).
    """

    first: int
    width: int
    rows: Tensor


def find_band(
    values: Tensor, vectors: Tensor, calibration: Tensor, noise_level: float
) -> Band | None:
    """Columns with two parts of the object; None where every pixel holds one part.

    Args:
        values: Second eigenvalue of ESPIRiT (ny, nx).
        vectors: Its eigenvector (coil, ny, nx).
        calibration: Centre of k-space (coil, rows, columns), complex.
        noise_level: Standard deviation of the noise per real component of ``calibration``.
    """
    ny, nx = values.shape
    image, noise = low_resolution(calibration, (ny, nx), noise_level)
    part = torch.einsum("cyx,cyx->yx", vectors.conj(), image).abs().square()
    total = image.abs().square().sum()
    edge = round(_ROW_EDGES * ny)

    def share_above(value: float) -> Tensor:
        """Share of the energy that pixels with such an eigenvalue hold, by column; 0 of noise."""
        pixels = values > value
        pixels[:edge] = pixels[ny - edge :] = False
        energy = (part * pixels).sum(0)
        return energy / total * (energy > _OVER_NOISE * noise * pixels.sum(0))

    sure = share_above(_SURE)
    strong, weak = sure > _STRONG, share_above(_SECOND) > _WEAK
    nothing = Band(0, 0, values[:, :0] > _SECOND)
    if not bool(strong.any()):
        return nothing if float(sure.sum()) > _UNEXPLAINED else None
    weak |= strong
    first, width = _shortest_arc(strong.tolist(), weak.tolist())
    lines = max(calibration.shape[2], _BLUR_LINES)
    if width <= _BLUR * nx / lines + _MARGIN:
        return None
    columns = (first + torch.arange(width, device=values.device)) % nx
    if width > _WIDEST * nx or float(weak[columns].double().mean()) < _FILLED:
        return nothing
    return Band(first, width, values[:, columns] > _SECOND)


def unfold_maps(maps: Tensor, second: Tensor, band: Band) -> tuple[Tensor, Tensor]:
    """Maps of the whole object, one image column after the other.

    Args:
        maps: First eigenvectors (coil, ny, nx), of smooth phase.
        second: Second eigenvectors (coil, ny, nx).
        band: Columns with two parts.

    Returns:
        Maps (coil, ny, nx + band), 0 where the object is not, and the column of the field of view
        of each of their columns.
    """
    nx = maps.shape[-1]
    at = (band.first + torch.arange(nx + band.width, device=maps.device)) % nx
    start, stop = _intervals(band.rows)
    wide = maps[..., at].clone()

    def continue_to(column: int, step: int) -> None:
        """Replace folded pixels of a column by the continuation of the columns before it."""
        offset = column if column < band.width else column - nx
        folded = (start <= offset) & (offset < stop)
        near, far = wide[..., column - step], wide[..., column - step * (1 + _SLOPE)]
        expected = _rows_averaged(near + (near - far) / _SLOPE)
        plane = torch.stack([maps[..., at[column]], second[..., at[column]]])
        inside = torch.einsum("kcy,cy->ky", plane.conj(), expected)
        found = torch.einsum("kcy,ky->cy", plane, inside)
        found = found / torch.linalg.vector_norm(found, dim=0).clamp_min(1e-12)
        wide[..., column] = torch.where(folded, found, wide[..., column])

    for column in reversed(range(band.width)):
        continue_to(column, -1)
    for column in range(nx, nx + band.width):
        continue_to(column, 1)
    places = torch.arange(nx + band.width, device=maps.device)
    object_ = (places >= start[:, None]) & (places < nx + stop[:, None])
    return wide * object_, at


def fold(images: Tensor, columns: int, at: Tensor | None) -> Tensor:
    """Sum of the columns (..., width) that appear at the same place (..., columns).

    Args:
        images: Images; on the same device as ``at``.
        columns: Columns of the field of view.
        at: Column of the field of view of each column; None where they are the same.
    """
    if at is None:
        return images
    return images.new_zeros(*images.shape[:-1], columns).index_add(-1, at, images)


def combine_parts(maps: Tensor, columns: int, at: Tensor, x: Tensor) -> Tensor:
    """Image on the field of view, whose magnitude is that over all coils, folded as in the scan.

    With one part in each pixel this is the image itself. In a folded pixel the magnitude is that of
    ``s1 x1 + s2 x2``, the sum of the parts with their maps.

    Args:
        maps: Maps (coil, ny, width).
        columns: Columns of the field of view.
        at: Column of the field of view of each column of the maps.
        x: Images (n, 2, ny, width).

    Returns:
        Images (n, 2, ny, columns); the phase is that of ``x1 + x2``.
    """
    z = to_complex(x) * (maps != 0).any(dim=0)
    width = maps.shape[-1] - columns
    left, right = z[..., :width], z[..., columns:]
    overlap = (maps[..., :width].conj() * maps[..., columns:]).sum(0)
    power = left.abs().square() + right.abs().square() + 2 * (left.conj() * right * overlap).real
    both = torch.polar(power.clamp_min(0).sqrt(), (left + right).angle())
    image = torch.empty_like(z[..., :columns])
    image[..., at[:columns]] = torch.cat([both, z[..., width:columns]], dim=-1)
    return to_real(image)


def largest_part(values: Tensor, columns: int, at: Tensor | None) -> Tensor:
    """Values (ny, width) on the field of view (ny, columns); of two parts the larger one.

    Args:
        values: Values; NaN where the object is not.
        columns: Columns of the field of view.
        at: Column of the field of view of each column; None where they are the same.
    """
    if at is None:
        return values
    width = values.shape[-1] - columns
    both = torch.fmax(values[..., :width], values[..., columns:])
    image = torch.empty_like(values[..., :columns])
    image[..., at[:columns]] = torch.cat([both, values[..., width:columns]], dim=-1)
    return image


def low_resolution(
    calibration: Tensor, shape: tuple[int, int], noise_level: float
) -> tuple[Tensor, float]:
    """Coil images (coil, ny, nx) of calibration lines, and the mean square of their noise."""
    _, rows, columns = calibration.shape
    like = calibration.real
    # Hann windows against ringing.
    down, across = (
        torch.hann_window(n + 1, dtype=like.dtype, device=like.device)[1:] for n in (rows, columns)
    )
    window = torch.outer(down, across)
    full = calibration.new_zeros(len(calibration), *shape)
    top, left = shape[0] // 2 - rows // 2, shape[1] // 2 - columns // 2
    full[:, top : top + rows, left : left + columns] = calibration * window
    noise = 2 * noise_level**2 * float(window.square().sum()) / math.prod(shape)
    return ifft(full), noise


def _shortest_arc(needed: list[bool], allowed: list[bool]) -> tuple[int, int]:
    """First column and width of the shortest run around the circle that has all needed columns.

    It is continued over neighbours that are allowed.
    """
    n = len(needed)
    at = [i for i in range(n) if needed[i]]
    gaps = [(at[(i + 1) % len(at)] - at[i]) % n or n for i in range(len(at))]
    widest = max(range(len(at)), key=gaps.__getitem__)
    first, last = at[(widest + 1) % len(at)], at[widest]
    width = (last - first) % n + 1
    while width < n and allowed[(first - 1) % n]:
        first, width = (first - 1) % n, width + 1
    while width < n and allowed[(first + width) % n]:
        width += 1
    return first, width


def _intervals(rows: Tensor) -> tuple[Tensor, Tensor]:
    """First and one past the last column with two parts in each row (ny,).

    In a row without such pixels the interval is empty, and in the middle of that of the next row
    that has some.
    """
    width = rows.shape[1]
    has = rows.any(dim=1)
    start = rows.int().argmax(dim=1)
    stop = width - rows.flip(1).int().argmax(dim=1)
    some = has.nonzero().squeeze(1)
    every = torch.arange(len(rows), device=rows.device)
    nearest = some[(every[:, None] - some).abs().argmin(dim=1)]
    middle = ((start + stop) // 2)[nearest]
    return torch.where(has, start, middle), torch.where(has, stop, middle)


def _rows_averaged(column: Tensor) -> Tensor:
    """Sum of each row (coil, ny) and its neighbours."""
    total = column.clone()
    total[:, 1:] += column[:, :-1]
    total[:, :-1] += column[:, 1:]
    return total
