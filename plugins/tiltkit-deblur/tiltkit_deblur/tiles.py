"""Tiles of an image, sampled with the same random numbers at the same pixel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, cast

from tiltkit.errors import UsageError
from tiltkit.priors.wrapper import PriorWrapper

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from tiltkit.protocols import Prior

__all__ = ["Rolled", "Tile", "cover"]

Window = tuple[slice, ...]


@dataclass(frozen=True, slots=True)
class Tile:
    """A part of an image that is sampled by itself.

    Attributes:
        window: Part of the image that its result fills; all windows partition the image.
        extent: The window and its margins; of equal size for all tiles of an image.
    """

    window: Window
    extent: Window


def cover(shape: Sequence[int], margin: Sequence[int], pad: Sequence[int], most: int) -> list[Tile]:
    """Tiles of an image, as few as possible.

    Args:
        shape: Shape of the image.
        margin: Margin of a tile, per axis.
        pad: Pixels of the grid beyond the margin, per axis.
        most: Pixels that the grid of a tile may have.

    Raises:
        UsageError: Even the smallest tiles have more.
    """
    parts = [1] * len(shape)
    while _grid(shape, margin, pad, parts) > most:
        options = []
        for axis, n in enumerate(shape):
            # Tiles smaller than their margins would cost more than they save.
            if -(-n // (parts[axis] + 1)) >= max(margin[axis], 1):
                more = [*parts[:axis], parts[axis] + 1, *parts[axis + 1 :]]
                options.append((_grid(shape, margin, pad, more) * math.prod(more), more))
        if not options:
            raise UsageError(
                f"The smallest tiles need {_grid(shape, margin, pad, parts)} pixels at once, but"
                f" memory is enough for {most}.",
                "raise memory_gb, or ask for fewer samples.",
            )
        parts = min(options)[1]
    tiles = [Tile((), ())]
    for n, k, m in zip(shape, parts, margin, strict=True):
        edges = [i * n // k for i in range(k + 1)]
        length = _extent(n, k, m)
        along = [
            (slice(a, b), slice(start, start + length))
            for a, b in pairwise(edges)
            for start in [min(max(a - m, 0), n - length)]
        ]
        tiles = [Tile((*t.window, w), (*t.extent, s)) for t in tiles for w, s in along]
    return tiles


@dataclass(frozen=True, slots=True)
class Rolled(PriorWrapper):
    """A prior for particles that are stored rolled by some pixels along their last axes.

    Tiles of one image are sampled with the same random numbers. Rolled by the position of their
    tile, a pixel of the image has the same random number in every tile that contains it, so that
    samples of neighbours fit together without a seam, and without blending, which would reduce
    the spread. Numbers repeat from tile to tile: this does not affect intervals of pixels, but it
    does affect sums over several tiles.

    Attributes:
        prior: The prior for particles in place.
        by: Pixels to roll by, one per spatial axis.
    """

    by: tuple[int, ...]

    def score(self, x: Tensor, sigma: float) -> Tensor:
        """Score of rolled particles, rolled alike."""
        return self.roll(self.prior.score(self.unroll(x), sigma))

    def unwrapped(self, images: Tensor) -> Tensor:
        """Particles in place."""
        return self.unroll(images)

    def to(self, device: torch.device) -> Rolled:
        """The same prior on another device."""
        return Rolled(self.prior.to(device), self.by)

    def prior_if_moved(self) -> Prior:
        """The prior itself where nothing is rolled."""
        return cast("Prior", self) if any(self.by) else self.prior

    def roll(self, x: Tensor) -> Tensor:
        """From in place to rolled."""
        return x.roll(self.by, tuple(range(-len(self.by), 0)))

    def unroll(self, x: Tensor) -> Tensor:
        """From rolled to in place."""
        return x.roll([-n for n in self.by], tuple(range(-len(self.by), 0)))


def _extent(n: int, parts: int, margin: int) -> int:
    """Pixels of each of the parts of an axis, margins included."""
    return min(n, -(-n // parts) + 2 * margin) if parts > 1 else n


def _grid(
    shape: Sequence[int], margin: Sequence[int], pad: Sequence[int], parts: Sequence[int]
) -> int:
    """Pixels of the grid of a tile."""
    sizes = zip(shape, margin, pad, parts, strict=True)
    return math.prod(_extent(n, k, m) + 2 * p for n, m, p, k in sizes)
