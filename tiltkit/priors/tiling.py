"""Denoise large images in overlapping tiles, so that memory does not grow with the image."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

__all__ = ["tiled"]

Denoise = Callable[[Tensor, float], Tensor]

# Networks that halve the image are invariant only to shifts by a grid. All tiles start on it:
# blending a network on different grids would be an ensemble, better than the network by 0.1 dB.
_GRID = 16


def tiled(denoise: Denoise, tile: int, overlap: int) -> Denoise:
    """A denoiser that is applied to at most ``tile`` x ``tile`` pixels at a time.

    Tiles are blended linearly over their overlap: errors of a network are largest at the edges of
    its input, so a pixel counts less the nearer it is to the edge of its tile.

    Args:
        denoise: Denoiser of images (batch, channel, h, w) and a noise level.
        tile: Side of a tile in pixels.
        overlap: Pixels that neighbours share, less than ``tile``.
    """

    def whole(x: Tensor, sigma: float) -> Tensor:
        height, width = x.shape[-2:]
        if height <= tile and width <= tile:
            return denoise(x, sigma)
        down, right = (_spare(n, tile) for n in (height, width))
        padded = F.pad(x, (0, right, 0, down), mode="reflect")
        total, weights = torch.zeros_like(padded), x.new_zeros(padded.shape[-2:])
        for rows in _windows(padded.shape[-2], tile, overlap):
            for columns in _windows(padded.shape[-1], tile, overlap):
                part = denoise(padded[..., rows, columns], sigma)
                ramp = _ramp(part.shape[-2], overlap)[:, None] * _ramp(part.shape[-1], overlap)
                ramp = ramp.to(part)
                total[..., rows, columns] += part * ramp
                weights[rows, columns] += ramp
        return (total / weights)[..., :height, :width]

    return whole


def _spare(length: int, tile: int) -> int:
    """Pixels to add to an axis so that its last tile starts on the grid, too."""
    return -(length - tile) % _GRID if length > tile else 0


def _windows(length: int, tile: int, overlap: int) -> Iterator[slice]:
    """Windows that cover an axis, evenly spread, starting on the grid where they overlap enough."""
    if length <= tile:
        yield slice(0, length)
        return
    grid = _GRID if overlap >= 2 * _GRID else 1
    count = math.ceil((length - overlap) / (tile - overlap))
    for k in range(count):
        first = k * (length - tile) // (count - 1) // grid * grid
        yield slice(first, first + tile)


def _ramp(length: int, overlap: int) -> Tensor:
    """Weights (length,) that rise from an edge to 1 over the overlap."""
    inside = torch.arange(1.0, length + 1)
    edge = torch.minimum(inside, inside.flip(0))
    return (edge / (min(overlap, length // 2) + 1)).clamp(max=1)
