"""Priors over images for volumes: every plane is an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import torch

from tiltkit.errors import UsageError
from tiltkit.priors.around import Around

if TYPE_CHECKING:
    from torch import Tensor

    from tiltkit.protocols import Prior

__all__ = ["Slicewise", "slicewise"]

# The axis of (particle, channel, z, y, x) that numbers the planes of a kind.
_ACROSS = {"xy": 2, "xz": 3, "yz": 4}
# Pixels that the prior sees at once, so that its memory does not grow with the volume.
_PIXELS_AT_ONCE = 2**18


@dataclass(frozen=True, slots=True)
class Slicewise(Around):
    """The prior of a volume whose planes are independent images of a prior for images.

    Scores of planes along several directions are averaged: their densities' geometric mean, which
    fits where voxels are about as long as they are wide ("2.5-D").

    Attributes:
        prior: For images (batch, channel, h, w).
        planes: Which planes, of ``xy``, ``xz`` and ``yz``.
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

    def shown(self, images: Tensor) -> Tensor:
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
        prior: For images.
        planes: Which planes are images: ``xy``, ``xz``, ``yz``.

    Raises:
        UsageError: No such planes.
    """
    unknown = [plane for plane in planes if plane not in _ACROSS]
    if unknown or not planes:
        raise UsageError(
            f"The planes {', '.join(unknown) or 'of the prior'} are not known.",
            f"choose among {', '.join(_ACROSS)}.",
        )
    return cast("Prior", Slicewise(prior, tuple(planes)))
