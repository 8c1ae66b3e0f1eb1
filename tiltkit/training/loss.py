"""The loss: squared error of the denoised image, weighted as in EDM (arXiv:2206.00364)."""

from __future__ import annotations

from torch import Tensor

__all__ = ["loss_of"]


def loss_of(
    denoised: Tensor, target: Tensor, sigma: Tensor, noise: Tensor, sigma_data: float
) -> Tensor:
    """Mean over images of the weighted squared error.

    Args:
        denoised: What the network made of the input (batch, channel, row, column).
        target: What it should have made, see `tiltkit.training.batches.pair`.
        sigma: Noise level of the input (batch,).
        noise: Noise level of the image that both were made from (batch,); 0 for clean ones.
        sigma_data: Root mean square of the images.
    """
    weight = (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2
    # Near its own noise an image tells little: there its target is noisy, and counts less.
    weight = weight * (1 - (noise / sigma) ** 2) ** 2
    return ((denoised - target).square().mean((1, 2, 3)) * weight).mean()
