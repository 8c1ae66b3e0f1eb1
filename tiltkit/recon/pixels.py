"""Inverse of `Problem.to_image` where every pixel of an image is that of a particle, scaled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from tiltkit.problem import Problem

__all__ = ["PixelMap", "find_pixel_map"]


@dataclass(frozen=True, slots=True)
class PixelMap:
    """Images whose pixels are values of particles times a factor, plus an offset.

    Attributes:
        at: Position of every pixel (*image) in a particle (channel, *space), an index per axis.
        factor: Factors (*image), float64.
        offset: Offsets (*image), float64.
    """

    at: tuple[Tensor, ...]
    factor: Tensor
    offset: Tensor

    def particle(self, image: Tensor, around: Tensor) -> Tensor:
        """The particle (channel, *space) of an image (*image).

        Args:
            image: The image in the user's units.
            around: Particle whose values are taken beyond the image, such as in a cropped margin.
        """
        found = around.clone()
        found[self.at] = ((image - self.offset) / self.factor).to(found)
        return found


def find_pixel_map(problem: Problem, like: Tensor) -> PixelMap | None:
    """The map of a problem; None where `Problem.to_image` is no choice of scaled values.

    Magnitudes of complex images, for example, cannot be undone.

    Args:
        problem: The problem.
        like: A tensor with type and device of particles.
    """

    def shown(x: Tensor) -> Tensor:
        return problem.to_image(x.to(like)[None])[0].double()

    offset = shown(torch.zeros(problem.shape))
    factor = shown(torch.ones(problem.shape)) - offset
    if not bool((factor != 0).all()):
        return None
    axes = torch.meshgrid(*map(torch.arange, problem.shape), indexing="ij")
    found = [((shown(axis) - offset) / factor).round().long() for axis in axes]
    at = tuple(f.clamp(0, n - 1) for f, n in zip(found, problem.shape, strict=True))
    chosen = torch.zeros(problem.shape, dtype=torch.bool, device=like.device)
    chosen[at] = True
    x = torch.rand(problem.shape, generator=torch.Generator().manual_seed(0)).to(like)
    atol = 1e-6 * float(factor.abs().max())
    right = all(
        torch.allclose(shown(sign * x), offset + factor * sign * x[at].double(), 1e-4, atol)
        for sign in (1, -1)
    )
    return PixelMap(at, factor, offset) if right and int(chosen.sum()) == at[0].numel() else None
