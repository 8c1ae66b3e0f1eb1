"""Groups of coordinates that a measurement sees about equally well, and averages over them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

__all__ = ["Bands"]

# Bands at most, and coordinates of each at least, so that an average over one is certain.
_MOST, _LEAST = 16, 256


@dataclass(frozen=True, slots=True)
class Bands:
    """Which band each of a tilt's coordinates belongs to; one band for all without labels.

    What a prior leaves open differs between coarse and fine detail, and a blur sees the coarse
    better: one number for all would be wrong for both.

    Attributes:
        count: Number of bands.
        labels: (...) of the coordinates of a particle, or what broadcasts to it.
    """

    count: int = 1
    labels: Tensor | None = None

    @classmethod
    def of(cls, eigenvalues: Tensor) -> Bands:
        """Bands of equally many coordinates by their eigenvalues; zeros are in the first."""
        seen = eigenvalues[eigenvalues > 0]
        count = min(max(seen.numel() // _LEAST, 1), _MOST)
        if count == 1:
            return cls()
        edges = seen.sort().values[[seen.numel() * i // count for i in range(1, count)]]
        return cls(count, torch.bucketize(eigenvalues, torch.unique(edges)))

    def sums(self, values: Tensor) -> Tensor:
        """Sums (particle, band) in float64 over coordinates (particle, ...)."""
        flat = values.flatten(1).double()
        if self.labels is None:
            return flat.sum(1, keepdim=True)
        labels = self.labels.expand_as(values[0]).flatten()
        return flat.new_zeros((len(flat), self.count)).index_add_(1, labels, flat)

    def spread_out(self, values: Sequence[float]) -> Tensor | float:
        """The value of its band at every coordinate."""
        if self.labels is None:
            return values[0]
        table = torch.tensor(list(values), dtype=torch.float32, device=self.labels.device)
        return table[self.labels]
