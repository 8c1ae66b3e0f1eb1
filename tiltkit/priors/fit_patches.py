"""Fit a patch mixture to images by expectation and maximisation: a minute or two."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from tiltkit.errors import InputError
from tiltkit.priors.patches import PatchMixture

__all__ = ["Fit", "fit_patches", "patches_of"]

# Smallest variance along an axis: of images with values of about 1.
_FLOOR = 1e-6
_CHUNK = 8192


@dataclass(frozen=True, slots=True)
class Fit:
    """A mixture on its way.

    Attributes:
        mixture: As it is now.
        log_likelihood: Mean per patch, of the mixture before this step.
    """

    mixture: PatchMixture
    log_likelihood: float


def patches_of(images: Sequence[Tensor], side: int, count: int, generator: Generator) -> Tensor:
    """Random patches (count, channel * side^2), as many of every image (channel, h, w).

    Raises:
        InputError: An image is smaller than a patch, or has other channels than the first.
    """
    share = -(-count // len(images))
    out = []
    for image in images:
        if len(image) != len(images[0]):
            raise InputError(
                f"An image has {len(image)} channels, the first one {len(images[0])}.",
                "fit images of one kind: all complex, or all real.",
            )
        rows, columns = (n - side + 1 for n in image.shape[-2:])
        if rows < 1 or columns < 1:
            raise InputError(
                f"An image has {image.shape[-2]} x {image.shape[-1]} pixels, a patch {side}.",
                "choose smaller patches with --side.",
            )
        at = torch.randint(rows * columns, (share,), generator=generator).tolist()
        out += [image[:, k // columns :, k % columns :][:, :side, :side].flatten() for k in at]
    return torch.stack(out)[:count]


def fit_patches(
    patches: Tensor, *, channels: int, side: int, components: int, steps: int, generator: Generator
) -> Iterator[Fit]:
    """Steps of expectation and maximisation, from responsibilities of randomly chosen patches.

    Args:
        patches: (n, channels * side^2).
        channels: Image channels.
        side: Of a patch in pixels.
        components: Gaussians of the mixture; fewer than patches.
        steps: How many steps.
        generator: Chooses the patches to begin with.

    Raises:
        InputError: Too few patches, or all are the same.
    """
    variance = float(patches.var(0).sum())
    if len(patches) < 2 * components or not variance > _FLOOR:
        raise InputError(
            f"{len(patches)} patches of variance {variance:.2g} cannot be fitted by {components}"
            " Gaussians.",
            "give more images, or fewer --components.",
        )
    share = _start(patches, components, generator)
    mixture = _maximise(patches, share, channels, side)
    for _ in range(steps):
        share, log_likelihood = _expect(mixture, patches)
        mixture = _maximise(patches, share, channels, side)
        yield Fit(mixture, log_likelihood)


def _start(patches: Tensor, components: int, generator: Generator) -> Tensor:
    """Each patch belongs to the nearest of a random few, by shape rather than by brightness."""
    shape = patches - patches.mean(1, keepdim=True)
    shape = torch.cat([shape, patches.mean(1, keepdim=True)], dim=1)
    seeds = shape[torch.randperm(len(shape), generator=generator)[:components]]
    nearest = torch.cdist(shape, seeds).argmin(1)
    return torch.nn.functional.one_hot(nearest, components).to(patches)


def _expect(mixture: PatchMixture, patches: Tensor) -> tuple[Tensor, float]:
    """Responsibilities (n, component) and the mean log-likelihood."""
    logs = []
    constant = patches.shape[1] * torch.log(torch.tensor(2 * torch.pi)) / 2
    for part in torch.split(patches, _CHUNK):
        centred = part[None] - mixture.means[:, None]
        distance = (torch.bmm(centred, mixture.axes).square() / mixture.variances[:, None]).sum(2)
        log = mixture.weights.log() - 0.5 * mixture.variances.log().sum(1)
        logs.append((log[:, None] - 0.5 * distance).T - constant)
    log = torch.cat(logs)
    return log.softmax(1), float(log.logsumexp(1).mean())


def _maximise(patches: Tensor, share: Tensor, channels: int, side: int) -> PatchMixture:
    """The mixture that fits patches best, given how much of each belongs to which component."""
    total = share.sum(0).clamp(min=1e-6)
    means = share.T @ patches / total[:, None]
    whole = torch.cov(patches.T)
    covariances = []
    for k in range(share.shape[1]):
        centred = patches - means[k]
        scatter = (centred * share[:, k, None]).T @ centred
        # A little of the whole: components with few patches keep a covariance that can be used.
        covariances.append((scatter + whole) / (total[k] + 1))
    variances, axes = torch.linalg.eigh(torch.stack(covariances).double())
    return PatchMixture(
        (total / total.sum()).float(),
        means.float(),
        variances.clamp(min=_FLOOR).float(),
        axes.float(),
        channels,
        side,
    )
