"""What all priors made of another prior share: they tell of it as it does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiltkit.protocols import TrainingDistance

if TYPE_CHECKING:
    from torch import Tensor

    from tiltkit.protocols import Prior

__all__ = ["Around"]


@dataclass(frozen=True, slots=True)
class Around:
    """Base of priors that change the images of another one, not what it says of itself.

    Attributes:
        prior: The other prior.
    """

    prior: Prior

    @property
    def channels(self) -> int:
        """Those of the other prior."""
        return self.prior.channels

    @property
    def sigma_range(self) -> tuple[float, float]:
        """That of the other prior."""
        return self.prior.sigma_range

    @property
    def value_range(self) -> str:
        """That of the other prior."""
        return self.prior.value_range

    def training_distance(self, images: Tensor) -> Tensor | None:
        """To the other prior, of what it would see; see `tiltkit.protocols.Familiar`."""
        seen = self.shown(images)
        return (
            self.prior.training_distance(seen) if isinstance(self.prior, TrainingDistance) else None
        )

    def shown(self, images: Tensor) -> Tensor:
        """What stands for images, in the other prior's terms."""
        return images
