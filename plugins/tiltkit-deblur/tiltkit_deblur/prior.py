"""Priors of fluorescence images and volumes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch

from tiltkit.priors.denoiser import NetworkOptions, network_prior
from tiltkit.priors.slicewise import slicewise
from tiltkit.priors.stacked import stacked
from tiltkit.priors.wrapper import PriorWrapper
from tiltkit_deblur.plugin import VOLUMES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from tiltkit.hookspecs import PriorEntry
    from tiltkit.protocols import Prior

__all__ = ["Microscopy", "microscopy", "volume_prior"]


@dataclass(frozen=True, slots=True)
class Microscopy(PriorWrapper):
    """Two networks: one for images, one for stacks of neighbouring planes.

    Attributes:
        prior: Prior for images (batch, 1, h, w).
        stacks: Prior for stacks of five planes (batch, 5, h, w).
    """

    stacks: Prior

    def score(self, x: Tensor, sigma: float) -> Tensor:
        """Score of images, shaped as ``x``."""
        return self.prior.score(x, sigma)

    def to(self, device: torch.device) -> Microscopy:
        """The same prior on another device."""
        return Microscopy(self.prior.to(device), self.stacks.to(device))


def microscopy(options: NetworkOptions, entry: PriorEntry) -> Microscopy:
    """The prior of images and of stacks, each network checked against its digest."""
    images, stacks = (cast("Prior", network_prior(options, one)) for one in (entry, VOLUMES))
    return Microscopy(images, stacks)


def volume_prior(prior: Prior, planes: Sequence[str]) -> Prior:
    """A prior as one for volumes: by stacks of planes if it has them, else plane by plane.

    Args:
        prior: Prior with one channel, or with neighbouring planes as channels.
        planes: Directions of planes for a prior with one channel: ``xy``, ``xz``, ``yz``.
    """
    stacks = getattr(prior, "stacks", prior)
    return stacked(stacks) if stacks.channels > 1 else slicewise(prior, planes)


microscopy.Options = NetworkOptions  # type: ignore[attr-defined]
