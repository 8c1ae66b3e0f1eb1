"""Richardson-Lucy deconvolution of images with unmeasured pixels and borders."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from tiltkit_deblur.convolution import Convolution

__all__ = ["richardson_lucy"]

# Smallest share of a point's light that is measured, over the largest such share; below it the
# brightness of the point is undetermined, and the image is zero.
_DETERMINED = 0.02


def richardson_lucy(
    operator: Convolution,
    y: Tensor,
    measured: Tensor,
    background: float | Tensor,
    iterations: int,
    start: Tensor | None = None,
) -> Tensor:
    """Maximum-likelihood iterations for Poisson counts, stopped early.

    Light beside the detector is treated after Bertero and Boccacci (Astron. Astrophys. 437, 2005):
    the image reaches beyond the data, and every point is divided by the share of
    its light that was measured, so that nothing rings at the borders.

    Args:
        operator: The blur, on a grid larger than the data.
        y: Counts (1, 1, *space), on the grid; anything where not measured.
        measured: True where ``y`` is measured, shaped as it.
        background: Counts that are there without an image, one number or one per pixel.
        iterations: Number of iterations.
        start: Image to start from, such as that of earlier iterations; a constant when None.

    Returns:
        The image (1, 1, *space), nonnegative.
    """
    weight = measured.to(y.dtype)
    counts = torch.where(measured, y, 0.0).clamp_min(0)
    share = operator.adjoint(weight)
    determined = share > _DETERMINED * share.max()
    level = (counts.sum() / weight.sum().clamp_min(1) - background).clamp_min(1e-6 * counts.max())
    x = torch.where(determined, level, 0.0) if start is None else start
    least = 1e-6 * counts.max().clamp_min(torch.finfo(y.dtype).tiny)
    for _ in range(iterations):
        ratio = counts / (operator.forward(x) + background).clamp_min(least)
        x = torch.where(determined, x * operator.adjoint(ratio) / share, 0.0).clamp_min(0)
    return x
