"""Priors over images for volumes: every plane is an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import torch

from tiltkit.errors import UsageError
from tiltkit.priors.wrapper import PriorWrapper

if TYPE_CHECKING:
    from torch import Tensor

    from tiltkit.protocols import Prior

__all__ = ["Slicewise", "slicewise"]

# The axis of (particle, channel, z, y, x) that numbers the planes of a kind.
_ACROSS = {"xy": 2, "xz": 3, "yz": 4}
# Pixels per call of the prior: memory does not grow with the volume.
_PIXELS_AT_ONCE = 2**18


@dataclass(frozen=True, slots=True)
class Slicewise(PriorWrapper):
    """A prior for volumes that applies a prior for images to every plane.

    Scores of planes along several directions are averaged, which is the score of the geometric mean
    of their densities ("2.5-D"); it suits voxels that are about as long as they are wide.

    Attributes:
        prior: The prior for images (batch, channel, h, w).
        planes: Directions of the planes: ``xy``, ``xz`` and ``yz``.
    """

    planes: tuple[str, ...] = ("xy",)

    def score(self, x: Tensor, sigma: float) -> Tensor:
        """Score of volumes (particle, channel, z, y, x), shaped as ``x``."""
        total = self._along(x, sigma, self.planes[0])
        for plane in self.planes[1:]:
            total = total + self._along(x, sigma, plane)
        return total / len(self.planes) if len(self.planes) > 1 else total

    def to(self, device: torch.device) -> Slicewise:
        """The same prior on another device."""
        return replace(self, prior=self.prior.to(device))

    def unwrapped(self, images: Tensor) -> Tensor:
        """The middle planes of volumes (particle, channel, z, y, x)."""
        across = _ACROSS[self.planes[0]]
        return images.select(across, images.shape[across] // 2)

    def _along(self, x: Tensor, sigma: float, plane: str) -> Tensor:
        across = _ACROSS[plane]
        stack = x.movedim(across, 1)  # (particle, plane, channel, h, w)
        images = stack.flatten(0, 1)
        at_once = max(1, _PIXELS_AT_ONCE // images[0].numel())
        scores = torch.cat([self.prior.score(part, sigma) for part in torch.split(images, at_once)])
        return scores.view(stack.shape).movedim(1, across)


def slicewise(prior: Prior, planes: Sequence[str] = ("xy",)) -> Prior:
    """A prior for images as one for volumes.

    Args:
        prior: A prior for images.
        planes: Directions of the planes: ``xy``, ``xz``, ``yz``.

    Raises:
        UsageError: Another direction, or none.
    """
    unknown = [plane for plane in planes if plane not in _ACROSS]
    if unknown or not planes:
        raise UsageError(
            f"The planes {', '.join(unknown) or 'of the prior'} are not known.",
            f"choose among {', '.join(_ACROSS)}.",
        )
    return cast("Prior", Slicewise(prior, tuple(planes)))
