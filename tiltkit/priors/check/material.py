"""Clean images for the check of a prior: those of a user, or samples of the prior itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from tiltkit.errors import InputError
from tiltkit.priors.check.ancestral import ancestral
from tiltkit.priors.closed_form import Mixture, SmoothGaussian
from tiltkit.priors.scale import image_scale
from tiltkit.protocols import Prior

__all__ = ["Material", "exact_draws", "from_images", "from_prior"]

_SMALLEST = 16  # side in pixels; the networks halve images up to four times


@dataclass(frozen=True, slots=True)
class Material:
    """Clean images and where they come from.

    Attributes:
        images: (1, channel, h, w) each, in the prior's units.
        origin: Origin of the images in words.
        real: True for images of a user, false for samples of the prior.
    """

    images: list[Tensor]
    origin: str
    real: bool


def from_images(
    found: Sequence[NDArray[Any]],
    names: str,
    channels: int,
    count: int,
    scale: float | Literal["auto", "none"],
    generator: Generator,
) -> Material:
    """At most ``count`` of the images, evenly spread, in the prior's units.

    Real images become complex, for a prior of two channels, by a smooth random phase.

    Args:
        found: Images (channel, row, column), real or complex.
        names: Names of their files.
        channels: Channels of the prior; 0 for any number.
        count: Number of images at most.
        scale: Image values are divided by this; ``auto`` by the `image_scale` of all chosen
            images together.
        generator: Draws the phases.

    Raises:
        InputError: No images that the prior could take.
    """
    if not found:
        raise InputError(f"{names} holds no image.", "name image files.")
    chosen = [found[i] for i in np.linspace(0, len(found) - 1, min(count, len(found))).astype(int)]
    magnitude = np.concatenate([np.abs(image).ravel() for image in chosen])
    if not magnitude.max() > 0:
        raise InputError(f"All images in {names} are zero.", "name other images.")
    if scale == "auto":
        scale = image_scale(magnitude)
    divisor = 1.0 if scale == "none" else scale
    images = [_fitted(image / divisor, channels, generator) for image in chosen]
    phase = channels == 2 and any(not np.iscomplexobj(i) and len(i) == 1 for i in chosen)
    divided = "" if divisor == 1 else f", divided by {divisor:.4g}"
    with_phase = ", with a smooth random phase" if phase else ""
    return Material(images, f"{len(images)} of {len(found)} images of {names}{divided}{with_phase}",
                    real=True)  # fmt: skip


def from_prior(prior: Prior, size: int, count: int, generator: Generator) -> Material:
    """Draws from the prior itself: exact where its form is closed, annealed elsewhere."""
    draws = exact_draws(prior, size, count, generator)
    if draws is not None:
        return Material(
            list(torch.split(draws, 1)), "exact draws from the prior itself", real=False
        )
    shape = (count, prior.channels or 1, size, size)
    images = ancestral(prior, shape, steps=60, generator=generator)
    return Material(list(torch.split(images, 1)), "samples that the prior itself gave", real=False)


def exact_draws(prior: Prior, size: int, count: int, generator: Generator) -> Tensor | None:
    """Independent draws (count, channel, h, w) from a closed-form prior; None for others."""
    if isinstance(prior, SmoothGaussian):
        white = torch.randn(count, prior.channels or 1, size, size, generator=generator)
        spectrum = prior.spectrum((size, size), white.device).to(white.dtype)
        draws: Tensor = torch.fft.ifft2(torch.fft.fft2(white) * spectrum.sqrt()).real
        return draws
    if isinstance(prior, Mixture):
        which = torch.multinomial(prior.weights, count, replacement=True, generator=generator)
        means = prior.means[which]
        noise = torch.randn(means.shape, generator=generator, dtype=means.dtype)
        return means + math.sqrt(prior.variance) * noise
    return None


def _fitted(image: NDArray[np.generic], channels: int, generator: Generator) -> Tensor:
    """One image (channel, h, w) with the prior's channels, as (1, channel, h, w)."""
    if min(image.shape[-2:]) < _SMALLEST:
        raise InputError(
            f"An image has {image.shape[-2]} x {image.shape[-1]} pixels.",
            f"name images of {_SMALLEST} x {_SMALLEST} or more.",
        )
    if np.iscomplexobj(image) and len(image) == 1:
        image = np.concatenate([image.real, image.imag])
    elif channels == 2 and len(image) == 1:
        phase = _smooth_phase(image.shape[-2:], generator)
        image = np.concatenate([image * np.cos(phase), image * np.sin(phase)])
    if channels not in (0, len(image)):
        raise InputError(
            f"The images have {len(image)} channels and the prior has {channels}.",
            "name images with as many channels.",
        )
    return torch.from_numpy(np.ascontiguousarray(image, np.float32))[None]


def _smooth_phase(shape: tuple[int, ...], generator: Generator) -> NDArray[np.float32]:
    """A constant, a linear and a quadratic phase (h, w) in radians, as from coils and field."""
    a = (2 * torch.rand(6, generator=generator) - 1).tolist()
    y, x = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in shape), indexing="ij")
    phase = math.pi * a[0] + 2 * (a[1] * y + a[2] * x) + a[3] * y * y + a[4] * x * x + a[5] * x * y
    return np.asarray(phase, np.float32)
