"""Light is never negative: any prior, told so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from tiltkit.priors.around import Around

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Nonnegative"]


@dataclass(frozen=True, slots=True)
class Nonnegative(Around):
    """A prior whose denoised images are zero or more.

    The mean of nonnegative images is nonnegative, whatever is known of them: what a denoiser gives
    below zero it gives in error. Particles themselves, which carry noise, may be negative: to
    reflect or cut them at 0 would make them too bright, at high noise levels by as much as that
    noise.

    Attributes:
        prior: Of images that may be negative.
    """

    def score(self, x: Tensor, sigma: float) -> Tensor:
        """Score of images (batch, channel, *space), shaped as ``x``."""
        denoised = torch.add(x, self.prior.score(x, sigma), alpha=sigma**2)
        return (denoised.clamp_min(0) - x) / sigma**2

    def to(self, device: torch.device) -> Nonnegative:
        """The same prior on another device."""
        return Nonnegative(self.prior.to(device))
