"""Bands: groups of coordinates that a measurement determines about equally well, and averages."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from tiltkit.operators.hartley import frequencies, hartley

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

__all__ = ["Bands"]

# Bands at most, and coordinates of each at least, so that an average over one is certain.
_MOST, _LEAST = 16, 256
# The same of the band of lowest frequencies, which is only one of many.
_INNERMOST = 64


@dataclass(frozen=True, slots=True)
class Bands:
    """Bands of the coordinates of a particle; one band for all without labels.

    What a prior leaves open differs between coarse and fine detail, and a blur sees the coarse
    better: one number for all would be wrong for both.

    Attributes:
        count: Number of bands.
        labels: (...) of the coordinates of a particle, or what broadcasts to it.
        axes: Image axes whose Hartley coefficients are labelled; empty where labels are those of
            the coordinates themselves.
    """

    count: int = 1
    labels: Tensor | None = None
    axes: tuple[int, ...] = ()

    @classmethod
    def of(cls, eigenvalues: Tensor) -> Bands:
        """Bands of equally many coordinates by their eigenvalues; zeros are in the first."""
        seen = eigenvalues[eigenvalues > 0]
        count = min(max(seen.numel() // _LEAST, 1), _MOST)
        if count == 1:
            return cls()
        edges = seen.sort().values[[seen.numel() * i // count for i in range(1, count)]]
        return cls(count, torch.bucketize(eigenvalues, torch.unique(edges)))

    @classmethod
    def shells(cls, shape: tuple[int, ...], device: torch.device) -> Bands:
        """Bands of images (channel, *space) by spatial frequency, see `octaves`.

        For measurements that no transform makes diagonal: most determine
        coarse detail better than fine.
        """
        space = shape[1:]
        if not space:
            return cls()
        bands = cls.octaves(frequencies(space).to(device))
        return replace(bands, axes=tuple(range(-len(space), 0))) if bands.count > 1 else bands

    @classmethod
    def octaves(cls, frequency: Tensor) -> Bands:
        """Bands of half an octave each of coordinates that are spatial frequencies (*space).

        Spectra of images fall as powers of the frequency, so that what a prior leaves open of
        coarse and of fine detail differs by factors.
        """
        ordered = frequency.flatten().sort().values
        count = len(ordered)
        inside = (int(count / 2 ** (frequency.ndim * i / 2)) for i in range(1, _MOST))
        edges = torch.unique(ordered[[k for k in inside if k >= _INNERMOST]])
        if not len(edges):
            return cls()
        return cls(len(edges) + 1, torch.bucketize(frequency, edges))

    def inner(self, a: Tensor, b: Tensor) -> Tensor:
        """Inner products (particle, band) in float64 of coordinates (particle, ...)."""
        if self.axes:
            same = a is b
            a = hartley(a, self.axes)
            b = a if same else hartley(b, self.axes)
        flat = (a * b).flatten(1).double()
        if self.labels is None:
            return flat.sum(1, keepdim=True)
        labels = self.labels.expand_as(a[0]).flatten()
        return flat.new_zeros((len(flat), self.count)).index_add_(1, labels, flat)

    def sizes(self, x: Tensor) -> Tensor:
        """Number of coordinates (band,) of a particle ``x`` in each band, float64."""
        if self.labels is None:
            return torch.tensor([x.numel()], dtype=torch.float64, device=x.device)
        labels = self.labels.expand_as(x).flatten()
        return torch.bincount(labels, minlength=self.count).double()

    def spread_out(self, values: Sequence[float]) -> Tensor | float:
        """The value of its band at every labelled coordinate."""
        if self.labels is None:
            return values[0]
        table = torch.tensor(list(values), dtype=torch.float32, device=self.labels.device)
        return table[self.labels]

    def scale(self, x: Tensor, factors: Tensor | float) -> Tensor:
        """Particles with every labelled coordinate multiplied by a factor."""
        if not self.axes or isinstance(factors, float):
            return factors * x
        return hartley(factors.to(x) * hartley(x, self.axes), self.axes)
