"""A mixture of Gaussians over small patches as a prior: learned in minutes, any image size.

Zoran and Weiss (2011) call the idea EPLL. Here every overlapping patch gets its exact posterior
mean under the mixture, and the image is the average of its patches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from tiltkit.errors import InputError
from tiltkit.priors.arrays import read_arrays
from tiltkit.priors.denoiser import DenoiserPrior
from tiltkit.priors.weights import write_tensors

if TYPE_CHECKING:
    from tiltkit.hookspecs import PriorEntry

__all__ = ["PatchMixture", "PatchOptions", "patches_prior", "save_patches"]

# Patches denoised side by side, times components: bounds the memory of temporaries.
_SIDE_BY_SIDE = 2**18
# Components with a smaller part in a patch are left out of its mean.
_NEGLIGIBLE = 1e-4


@dataclass(frozen=True, slots=True)
class PatchMixture:
    """A Gaussian mixture over patches; ``d`` is channels * side^2.

    Attributes:
        weights: (component,), summing to 1.
        means: (component, d).
        variances: (component, d), eigenvalues of the covariances.
        axes: (component, d, d), their eigenvectors as columns.
        channels: Image channels.
        side: Side of a patch in pixels.
    """

    weights: Tensor
    means: Tensor
    variances: Tensor
    axes: Tensor
    channels: int
    side: int

    def posterior_mean(self, patches: Tensor, sigma: float) -> Tensor:
        """Posterior mean of clean patches given noisy ones (n, d).

        Components with almost no responsibility for a patch are left out; most have one or two.
        """
        share = self._responsibilities(patches, sigma)
        share = torch.where(share > _NEGLIGIBLE, share, 0)
        share = share / share.sum(1, keepdim=True)
        gain = self.variances / (self.variances + sigma**2)
        out = torch.zeros_like(patches)
        for k in range(len(self.weights)):
            rows = share[:, k].nonzero().squeeze(1)
            if len(rows):
                wiener = (self.axes[k] * gain[k]) @ self.axes[k].T
                clean = self.means[k] + (patches[rows] - self.means[k]) @ wiener
                out = out.index_add(0, rows, share[rows, k, None] * clean)
        return out

    def _responsibilities(self, patches: Tensor, sigma: float) -> Tensor:
        """Probability of every component (n, component) given noisy patches."""
        total = self.variances + sigma**2
        white = self.axes / total.sqrt()[:, None]  # (component, d, d)
        centre = torch.einsum("kd,kde->ke", self.means, white)
        columns = white.permute(1, 0, 2).flatten(1)  # one product for all components
        z = torch.addmm(-centre.flatten(), patches, columns).view(-1, *centre.shape)
        distance = torch.linalg.vector_norm(z, dim=2).square()
        log = self.weights.log() - 0.5 * total.log().sum(1)
        return torch.softmax(log - 0.5 * distance, dim=1)

    def to(self, device: torch.device) -> PatchMixture:
        """The same mixture on another device."""
        return replace(
            self,
            weights=self.weights.to(device),
            means=self.means.to(device),
            variances=self.variances.to(device),
            axes=self.axes.to(device),
        )

    def denoise(self, x: Tensor, sigma: float, stride: int = 1) -> Tensor:
        """Average of the posterior means of all patches of images (batch, channel, h, w)."""
        side, (height, width) = self.side, x.shape[-2:]
        # Mirrored edges: every pixel is in as many patches as any other, and the stride fits.
        extra = [-(n + side - 2) % stride for n in (height, width)]
        border = (side - 1, side - 1 + extra[1], side - 1, side - 1 + extra[0])
        mode = "reflect" if min(height, width) > side + stride else "replicate"
        padded = F.pad(x, border, mode=mode)
        columns = F.unfold(padded, side, stride=stride)  # (batch, d, patches)
        flat = columns.mT.reshape(-1, columns.shape[1])
        step = max(1, _SIDE_BY_SIDE // len(self.weights))
        clean = torch.cat([self.posterior_mean(part, sigma) for part in torch.split(flat, step)])
        columns = clean.view(len(x), -1, clean.shape[1]).mT
        size = padded.shape[-2:]
        total = F.fold(columns, size, side, stride=stride)
        count = F.fold(torch.ones_like(columns[:1]), size, side, stride=stride)
        mean = total / count.clamp(min=1)
        return mean[..., side - 1 : side - 1 + height, side - 1 : side - 1 + width]


class PatchOptions(BaseModel):
    """Settings of the patch mixture prior."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: Path = Field(description="safetensors file that 'tiltkit prior fit-patches' wrote")
    stride: int = Field(1, ge=1, le=4, description="pixels between patches; 2 is four times as fast"
                        " and a little worse")  # fmt: skip


def patches_prior(options: PatchOptions, entry: PriorEntry) -> DenoiserPrior:
    """The patch mixture in a file; an approximate denoiser, exact on patches only.

    Raises:
        InputError: The file holds no patch mixture.
    """
    mixture = load_patches(options.file)

    return DenoiserPrior(
        denoise=_Denoiser(mixture, options.stride),
        channels=mixture.channels,
        sigma_range=(0.01, 5.0),
        value_range="that of the images it was fitted to",
        to_device=lambda device: _Denoiser(mixture.to(device), options.stride),
    )


patches_prior.Options = PatchOptions  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class _Denoiser:
    """The mixture with its stride."""

    mixture: PatchMixture
    stride: int

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        return self.mixture.denoise(x.float(), sigma, self.stride).to(x.dtype)


def save_patches(path: Path, mixture: PatchMixture, notes: Mapping[str, str]) -> None:
    """Write a mixture with notes on its origin."""
    tensors = {
        "weights": mixture.weights, "means": mixture.means, "variances": mixture.variances,
        "axes": mixture.axes, "shape": torch.tensor([mixture.channels, mixture.side]),
    }  # fmt: skip
    write_tensors(path, {name: t.contiguous() for name, t in tensors.items()}, notes)


def load_patches(path: Path) -> PatchMixture:
    """Read what `save_patches` wrote."""
    arrays = read_arrays(path)
    names = ("weights", "means", "variances", "axes", "shape")
    if any(name not in arrays for name in names):
        raise InputError(
            f"{path} holds no patch mixture.", "fit one: tiltkit prior fit-patches IMAGES -o FILE."
        )
    channels, side = (int(n) for n in arrays["shape"])
    tensors = {name: torch.from_numpy(np.asarray(arrays[name], np.float32)) for name in names[:4]}
    return PatchMixture(channels=channels, side=side, **tensors)
