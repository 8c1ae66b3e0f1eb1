"""Records of the check of a prior."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

__all__ = ["Example", "Level", "Report"]


@dataclass(frozen=True, slots=True)
class Level:
    """Figures at one noise level.

    Attributes:
        sigma: The noise level.
        noisy: PSNR of the noisy images in dB, for peak 1; errors of two channels are added.
        psnr: PSNR of the denoised images.
        baselines: PSNR of each baseline with its best weight in hindsight.
        weights: Best weights of the baselines, in units of the noise level.
        error_ratio: Squared error over the one that the denoiser expects of itself.
        drift: Drift of denoised images along the reverse process; see `laws.drift`.
        asymmetry: Asymmetry of the denoiser's Jacobian; see `laws.asymmetry`.
    """

    sigma: float
    noisy: float
    psnr: float
    baselines: Mapping[str, float]
    weights: Mapping[str, float]
    error_ratio: float
    drift: float
    asymmetry: float


@dataclass(frozen=True, slots=True)
class Example:
    """One image at one noise level, (channel, h, w) each."""

    sigma: float
    clean: Tensor
    noisy: Tensor
    denoised: Tensor


@dataclass(frozen=True, slots=True)
class Report:
    """All that was measured.

    Attributes:
        name: Name of the prior.
        facts: Properties of the prior, and origin of its files.
        origin: Origin of the clean images, in words.
        real: True for images of a user.
        levels: By rising noise level.
        ends: Noise range with the gain over the noisy image in dB at each end.
        growth: By noise level, gain on images that are too bright; see
            `laws.growth`.
        takes_noise_level: True where the denoised image depends on the noise level.
        image_peak: 99.5th percentile of pixel lengths of the clean images.
        sample_peak: The same of the unconditional samples.
        example: One image, denoised.
        samples: Unconditional samples (n, channel, h, w).
    """

    name: str
    facts: Mapping[str, str]
    origin: str
    real: bool
    levels: Sequence[Level]
    ends: Mapping[float, float]
    growth: Mapping[float, float]
    takes_noise_level: bool
    image_peak: float
    sample_peak: float
    example: Example
    samples: Tensor

    def figures(self) -> dict[str, Any]:
        """All figures as plain values."""
        return {
            "prior": self.name, "facts": dict(self.facts), "images": self.origin,
            "levels": [asdict(level) for level in self.levels],
            "gain_at_ends": {f"{sigma:g}": gain for sigma, gain in self.ends.items()},
            "growth": {f"{sigma:g}": figure for sigma, figure in self.growth.items()},
            "takes_noise_level": self.takes_noise_level,
            "image_peak": self.image_peak, "sample_peak": self.sample_peak,
        }  # fmt: skip
