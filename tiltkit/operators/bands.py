"""Bands of image coordinates, by eigenvalue or by spatial frequency, and sums over each band."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from tiltkit.operators.hartley import frequencies, hartley

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

__all__ = ["Bands"]

# Most bands, and fewest coordinates of each: an average of 256 squares of Gaussian numbers has a
# standard error of 9 %.
_MOST_BANDS, _FEWEST_COORDINATES = 16, 256
# Fewest coordinates of the band of lowest frequencies. It is only one of many, so that a standard
# error of 18 % is enough.
_FEWEST_INNERMOST = 64


@dataclass(frozen=True, slots=True)
class Bands:
    """Partition of the coordinates of a particle into bands; one band for all without labels.

    The error of a denoised image differs between coarse and fine detail, and so does the gain of
    most measurements. One average over all coordinates would be wrong for both.

    Attributes:
        count: Number of bands.
        labels: Band of each coordinate, integers from 0 to ``count - 1``, in a shape that
            broadcasts to that of a particle.
        axes: Image axes whose Hartley coefficients are labelled; empty where the coordinates
            themselves are.
    """

    count: int = 1
    labels: Tensor | None = None
    axes: tuple[int, ...] = ()

    @classmethod
    def by_eigenvalue(cls, eigenvalues: Tensor) -> Bands:
        """Bands of equally many coordinates in rising order of ``eigenvalues`` (...), all >= 0.

        Coordinates with eigenvalue 0, which are not measured, join the first band.
        """
        measured = eigenvalues[eigenvalues > 0]
        count = min(max(measured.numel() // _FEWEST_COORDINATES, 1), _MOST_BANDS)
        if count == 1:
            return cls()
        edges = measured.sort().values[[measured.numel() * i // count for i in range(1, count)]]
        return cls(count, torch.bucketize(eigenvalues, torch.unique(edges)))

    @classmethod
    def shells(cls, shape: tuple[int, ...], device: torch.device) -> Bands:
        """Bands of images (channel, *space) by spatial frequency, see `octaves`.

        They suit measurements that no transform diagonalises: most determine coarse detail better
        than fine detail.
        """
        space = shape[1:]
        if not space:
            return cls()
        bands = cls.octaves(frequencies(space).to(device))
        return replace(bands, axes=tuple(range(-len(space), 0))) if bands.count > 1 else bands

    @classmethod
    def octaves(cls, frequency: Tensor) -> Bands:
        """Bands of half an octave each, for coordinates with spatial frequencies (*space).

        The scale is logarithmic because the power spectrum of images falls as a power of the
        frequency.
        """
        ordered = frequency.flatten().sort().values
        count = len(ordered)
        inside = (int(count / 2 ** (frequency.ndim * i / 2)) for i in range(1, _MOST_BANDS))
        edges = torch.unique(ordered[[k for k in inside if k >= _FEWEST_INNERMOST]])
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

    def broadcast(self, values: Sequence[float]) -> Tensor | float:
        """The value of its band at every labelled coordinate, float32; the value for one band.

        Args:
            values: One value for each band.
        """
        if self.labels is None:
            return values[0]
        table = torch.tensor(list(values), dtype=torch.float32, device=self.labels.device)
        return table[self.labels]

    def scale(self, x: Tensor, factors: Tensor | float) -> Tensor:
        """Particles (particle, ...) with every labelled coordinate multiplied by its factor.

        Args:
            x: Particles.
            factors: As `broadcast` returns them.
        """
        if not self.axes or isinstance(factors, float):
            return factors * x
        return hartley(factors.to(x) * hartley(x, self.axes), self.axes)
