"""Base class of priors that wrap another prior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiltkit.protocols import TrainingDistance

if TYPE_CHECKING:
    from torch import Tensor

    from tiltkit.protocols import Prior

__all__ = ["PriorWrapper", "fallback_of"]


def fallback_of(prior: Prior) -> str:
    """Name of the prior that is proposed where this one does not fit; empty for none."""
    return str(getattr(prior, "fallback", ""))


@dataclass(frozen=True, slots=True)
class PriorWrapper:
    """Channels, ranges, training distance and fallback of the wrapped prior.

    A subclass defines ``score`` and ``to``.

    Attributes:
        prior: The wrapped prior.
    """

    prior: Prior

    @property
    def channels(self) -> int:
        """Channels of the wrapped prior."""
        return self.prior.channels

    @property
    def sigma_range(self) -> tuple[float, float]:
        """Noise range of the wrapped prior."""
        return self.prior.sigma_range

    @property
    def value_range(self) -> str:
        """Value range of the wrapped prior."""
        return self.prior.value_range

    @property
    def fallback(self) -> str:
        """Name of the prior that is proposed where the wrapped one does not fit; may be empty."""
        return fallback_of(self.prior)

    def training_distance(self, images: Tensor) -> Tensor | None:
        """Distance from the training images; see `tiltkit.protocols.TrainingDistance`."""
        if not isinstance(self.prior, TrainingDistance):
            return None
        return self.prior.training_distance(self.unwrapped(images))

    def unwrapped(self, images: Tensor) -> Tensor:
        """Images (batch, channel, *space) as the wrapped prior takes them."""
        return images
