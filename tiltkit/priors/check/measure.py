"""All measurements of a prior, by noise level."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Generator, Tensor

from tiltkit.errors import PluginError, UsageError
from tiltkit.priors.check import laws
from tiltkit.priors.check.ancestral import ancestral, denoised
from tiltkit.priors.check.baselines import BASELINES, best_weight
from tiltkit.priors.check.material import Material
from tiltkit.priors.check.record import Example, Level, Report
from tiltkit.protocols import Prior

__all__ = ["check_prior", "levels_of"]

# Noise levels of the project's tables.
LEVELS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
# The laws are tested on the middle of this many images, at most this large.
_LAW_IMAGES, _LAW_PIXELS = 2, 96
# Levels of the martingale test: from sigma to this share of it.
_LOWER = 0.6
# Levels of the ladder from noise to unconditional samples.
_LADDER = 60


def levels_of(prior: Prior, wanted: Sequence[float] | None = None) -> list[float]:
    """Noise levels to test: those given, or the usual ones within the prior's range.

    Raises:
        UsageError: A wanted level is outside the prior's range.
    """
    low, high = prior.sigma_range
    levels = [s for s in wanted or LEVELS if low * 0.999 <= s <= high * 1.001]
    if wanted and len(levels) < len(wanted):
        outside = next(s for s in wanted if s not in levels)
        raise UsageError(
            f"Noise level {outside:g} is outside of the prior's range.",
            f"choose levels from {low:g} to {high:g}.",
        )
    if len(levels) < 3 and not wanted:
        levels = np.geomspace(low, high, 6).tolist()
    return sorted(levels)


@torch.no_grad()
def check_prior(
    name: str,
    prior: Prior,
    material: Material,
    sigmas: Sequence[float],
    *,
    facts: Mapping[str, str],
    samples: int,
    seed: int,
    device: torch.device,
    announce: Callable[[str], None] = lambda _text: None,
) -> Report:
    """Measure a prior.

    Args:
        name: Name of the prior.
        prior: The prior, on the device.
        material: Clean images.
        sigmas: Noise levels.
        facts: Facts about the prior, for the report.
        samples: Number of unconditional samples.
        seed: Seed of all random numbers; the same seed gives the same figures.
        device: Device to compute on.
        announce: Called with a line of progress before each step.

    Raises:
        PluginError: The prior gives values that are not finite.
    """
    # A stream of its own: test images may have been drawn from the prior with the same seed.
    stream = np.random.SeedSequence((seed, 1)).generate_state(1)
    generator = torch.Generator().manual_seed(int(stream[0]))
    images = [image.to(device) for image in material.images]
    levels = []
    for sigma in sigmas:
        announce(f"noise {sigma:g}")
        levels.append(_level(prior, images, sigma, generator))
    middle = sigmas[len(sigmas) // 2]
    announce(f"{samples} unconditional samples")
    # About the images' size, on a grid that every network takes.
    space = [max(16, min(n, 256) // 16 * 16) for n in _sides(prior, images[0])]
    shape = (samples, images[0].shape[1], *space)
    drawn = _drawn(prior, shape, generator, device)
    return Report(
        name=name,
        facts=facts,
        origin=material.origin,
        real=material.real,
        levels=levels,
        ends={sigma: _gain(prior, images[0], sigma, generator) for sigma in prior.sigma_range},
        growth={
            sigma: laws.growth(prior, images[0], sigma, generator)
            for sigma in sorted({*sigmas, prior.sigma_range[1]})
        },
        takes_noise_level=laws.takes_noise_level(
            prior, _noisy(images[0], middle, generator), middle
        ),
        image_peak=_peak(torch.cat([_length(image).flatten() for image in images])),
        sample_peak=_peak(_length(drawn)),
        example=_example(prior, images[len(images) // 2], middle, generator),
        samples=drawn.cpu(),
    )


def _level(prior: Prior, images: Sequence[Tensor], sigma: float, generator: Generator) -> Level:
    noisy = [_noisy(image, sigma, generator) for image in images]
    clean = [_finite(denoised(prior, x, sigma), sigma) for x in noisy]
    found = {name: best_weight(name, noisy, images, sigma) for name in BASELINES}
    middles = [_middle(prior, image) for image in images[:_LAW_IMAGES]]
    views = [_noisy(image, sigma, generator) for image in middles]
    expected = [laws.predicted_error(prior, x, sigma, generator) for x in views]
    actual = [
        float((denoised(prior, x, sigma) - image).square().mean())
        for x, image in zip(views, middles, strict=True)
    ]
    low = max(sigma * _LOWER, prior.sigma_range[0])
    drifts = [
        laws.drift(prior, x, sigma, low, error, generator)
        for x, error in zip(views, expected, strict=True)
        if low < sigma
    ]
    return Level(
        sigma=sigma,
        noisy=_psnr(noisy, images),
        psnr=_psnr(clean, images),
        baselines={name: _psnr(out, images) for name, (_, out) in found.items()},
        weights={name: weight for name, (weight, _) in found.items()},
        error_ratio=sum(actual) / sum(expected) if sum(expected) > 0 else math.inf,
        drift=float(np.mean(drifts)) if drifts else math.nan,
        asymmetry=float(np.mean([laws.asymmetry(prior, x, sigma, generator) for x in views])),
    )


def _example(prior: Prior, image: Tensor, sigma: float, generator: Generator) -> Example:
    noisy = _noisy(image, sigma, generator)
    return Example(sigma, *(x[0].cpu() for x in (image, noisy, denoised(prior, noisy, sigma))))


def _gain(prior: Prior, image: Tensor, sigma: float, generator: Generator) -> float:
    noisy = _noisy(image, sigma, generator)
    return _psnr([denoised(prior, noisy, sigma)], [image]) - _psnr([noisy], [image])


def _drawn(
    prior: Prior, shape: Sequence[int], generator: Generator, device: torch.device
) -> Tensor:
    """Unconditional samples one by one: memory is that of one image."""
    one = (1, *shape[1:])
    if not shape[0]:
        return torch.empty(tuple(shape))
    return torch.cat([
        ancestral(prior, one, steps=_LADDER, generator=generator, device=str(device))
        for _ in range(shape[0])
    ])  # fmt: skip


def _sides(prior: Prior, image: Tensor) -> tuple[int, ...]:
    """Sides of images that the prior takes: its own where it has a fixed size."""
    means = getattr(prior, "means", None)
    return tuple((image if means is None else means).shape[-2:])


def _middle(prior: Prior, image: Tensor) -> Tensor:
    """The middle of an image, on which products with the Jacobian are cheaper."""
    if hasattr(prior, "means"):
        return image
    rows, columns = (slice(max(0, (n - _LAW_PIXELS) // 2), None) for n in image.shape[-2:])
    return image[..., rows, columns][..., :_LAW_PIXELS, :_LAW_PIXELS]


def _noisy(image: Tensor, sigma: float, generator: Generator) -> Tensor:
    return image + sigma * torch.randn(image.shape, generator=generator).to(image)


def _psnr(found: Sequence[Tensor], truth: Sequence[Tensor]) -> float:
    """Mean over images, for peak 1; of complex images (two channels) the error's length counts."""
    values = []
    for x, clean in zip(found, truth, strict=True):
        share = 2 if x.shape[1] == 2 else 1
        values.append(-10 * math.log10(share * float((x - clean).square().mean())))
    return float(np.mean(values))


def _length(x: Tensor) -> Tensor:
    """Length of pixels over channels (batch, h, w)."""
    return x.square().sum(1).sqrt()


def _peak(values: Tensor) -> float:
    return float(np.quantile(values.cpu().numpy(), 0.995)) if values.numel() else math.nan


def _finite(x: Tensor, sigma: float) -> Tensor:
    if not x.isfinite().all():
        raise PluginError(
            f"The prior gives values that are not finite at noise {sigma:g}.",
            "check its options and that the images are in its value range.",
        )
    return x
