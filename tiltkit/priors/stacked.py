"""Priors over stacks of neighbouring planes, applied to volumes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import torch

from tiltkit.errors import UsageError
from tiltkit.priors.wrapper import PriorWrapper

if TYPE_CHECKING:
    from torch import Tensor

    from tiltkit.protocols import Prior

__all__ = ["Stacked", "stacked"]

# Pixels per call of the prior, all planes counted: memory does not grow with the volume.
_PIXELS_AT_ONCE = 2**20


@dataclass(frozen=True, slots=True)
class Stacked(PriorWrapper):
    """A prior whose channels are neighbouring planes as a prior for volumes.

    Every plane is denoised as the middle one of a stack; beyond the first and the last plane the
    volume is mirrored. The result is the mean of a plane given the noisy stack, not given the whole
    noisy volume.

    Attributes:
        prior: The prior for stacks (batch, plane, h, w) of an odd number of planes.
    """

    @property
    def channels(self) -> int:
        """One: planes are an axis of the volume."""
        return 1

    def score(self, x: Tensor, sigma: float) -> Tensor:
        """Score of volumes (particle, 1, z, y, x), shaped as ``x``."""
        planes, depth = self.prior.channels, x.shape[2]
        middle = planes // 2
        around = torch.arange(depth)[:, None] + torch.arange(-middle, middle + 1)
        at = _mirrored(around, depth).to(x.device)
        rows = [(particle, z) for particle in range(len(x)) for z in range(depth)]
        step = max(1, _PIXELS_AT_ONCE // (planes * x[0, 0, 0].numel()))
        parts = []
        for first in range(0, len(rows), step):
            stacks = torch.stack([x[particle, 0, at[z]] for particle, z in rows[first:][:step]])
            parts.append(self.prior.score(stacks, sigma)[:, middle])
        return torch.cat(parts).view_as(x)

    def unwrapped(self, images: Tensor) -> Tensor:
        """The middle planes of volumes (particle, 1, z, y, x), with their neighbours."""
        depth, reach = images.shape[2], self.prior.channels // 2
        around = torch.arange(-reach, reach + 1) + depth // 2
        return images[:, 0, _mirrored(around, depth).to(images.device)]

    def to(self, device: torch.device) -> Stacked:
        """The same prior on another device."""
        return replace(self, prior=self.prior.to(device))


def _mirrored(index: Tensor, n: int) -> Tensor:
    """Plane numbers with those beyond either end mirrored at it."""
    period = max(2 * (n - 1), 1)
    index = index.remainder(period)
    return torch.minimum(index, period - index) if n > 1 else torch.zeros_like(index)


def stacked(prior: Prior) -> Prior:
    """A prior for stacks of planes as one for volumes.

    Raises:
        UsageError: The stacks have no middle plane.
    """
    if prior.channels % 2 == 0:
        raise UsageError(
            f"The prior has {prior.channels} channels: no middle plane of a stack.",
            "volumes need a prior with one channel, or with an odd number of planes for channels.",
        )
    return cast("Prior", Stacked(prior))
