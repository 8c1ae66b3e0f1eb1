"""Denoisers as priors: Tweedie's formula gives the score."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from tiltkit.priors.fetch import weights_file
from tiltkit.priors.tiling import tiled
from tiltkit.priors.total_variation import chambolle
from tiltkit.priors.weights import load_network, load_profile

if TYPE_CHECKING:
    from tiltkit.hookspecs import PriorEntry
    from tiltkit.priors.network import ScoreUNet
    from tiltkit.priors.profile import Profile

# Names of torch's own checks; they are private, so a version without one must do.
_CPU_UNITS = ("amx_tile", "avx512_bf16")

# Pixels by which tiles overlap: about the receptive field of the default network.
_OVERLAP = 48

__all__ = [
    "DenoiserPrior", "FileOptions", "NetworkOptions", "TvOptions", "file_prior",
    "is_low", "network_prior", "prior_of", "tv_prior",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class DenoiserPrior:
    """The score of a denoiser ``D``: ``(D(x, sigma) - x) / sigma^2`` (Tweedie's formula).

    Attributes:
        denoise: Posterior mean of a clean image given ``x = clean + sigma * noise``; takes images
            (batch, channel, *space) and one noise level.
        channels: Channels of the images; 0 when any number is fine.
        sigma_range: Smallest and largest noise level of the denoiser's training.
        value_range: Range of image values, as text for people.
        to_device: Makes the denoiser for another device; None when it follows its input.
        profile: Distance of images from the training images; None where there is no profile.
        fallback: Name of a prior for images that this one does not describe; empty for none.
    """

    denoise: Callable[[Tensor, float], Tensor]
    channels: int
    sigma_range: tuple[float, float]
    value_range: str
    to_device: Callable[[torch.device], Callable[[Tensor, float], Tensor]] | None = None
    profile: Callable[[Tensor], Tensor] | None = None
    fallback: str = ""

    def score(self, x: Tensor, sigma: float) -> Tensor:
        """Score at noise level ``sigma``, shaped as ``x``."""
        return (self.denoise(x, sigma) - x) / sigma**2

    def to(self, device: torch.device) -> DenoiserPrior:
        """The same prior on another device."""
        return self if self.to_device is None else replace(self, denoise=self.to_device(device))

    def training_distance(self, images: Tensor) -> Tensor | None:
        """See `tiltkit.protocols.TrainingDistance`."""
        return None if self.profile is None else self.profile(images)


class NetworkOptions(BaseModel):
    """Settings of network priors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="number type inside the network; auto is bfloat16 where hardware supports it",
    )
    compile: bool = Field(
        False,
        description="compile the network, on GPUs with CUDA graphs: a minute at the start, less"
        " time per call where kernels are small",
    )
    tile: int | None = Field(
        None, ge=256, description="side in pixels of the tiles that large images are denoised in,"
        " so that memory does not grow with the image"
    )  # fmt: skip


def network_prior(options: NetworkOptions, entry: PriorEntry) -> DenoiserPrior:
    """The network whose weights the plugin ships, checked against the entry's digest."""
    with weights_file(entry) as weights:
        network, metadata = load_network(weights)
        profile = load_profile(weights)
    prior = prior_of(network, metadata, options, profile)
    return replace(prior, fallback=entry.fallback)


class FileOptions(NetworkOptions):
    """Settings of a network in a file of the user."""

    weights: Path = Field(description="safetensors file that 'tiltkit train' wrote")
    sha256: str = Field("", description="digest that the file must have; any when empty")


def file_prior(options: FileOptions, _entry: PriorEntry) -> DenoiserPrior:
    """The network in a file that `tiltkit train` wrote."""
    network, metadata = load_network(options.weights, options.sha256 or None)
    return prior_of(network, metadata, options, load_profile(options.weights))


def prior_of(
    network: ScoreUNet,
    metadata: Mapping[str, str],
    options: NetworkOptions,
    profile: Profile | None = None,
) -> DenoiserPrior:
    """A network in evaluation mode, with its metadata and profile, as a prior."""

    def on(device: torch.device) -> Callable[[Tensor, float], Tensor]:
        low = is_low(options.precision, device)
        moved = network.to(device).to(memory_format=torch.channels_last)
        moved = _low_copy(moved) if low else moved
        ready = _compiled(moved, device) if options.compile else moved
        denoise = _inference(ready, device, low_precision=low)
        return denoise if options.tile is None else tiled(denoise, options.tile, _OVERLAP)

    return DenoiserPrior(
        denoise=on(torch.device("cpu")),
        channels=network.channels,
        sigma_range=(network.sigma_min, network.sigma_max),
        value_range=metadata.get("value_range", ""),
        to_device=on,
        # The network moves with the denoiser; the profile needs it in float32.
        profile=None if profile is None else partial(profile.training_distance, network),
    )


network_prior.Options = NetworkOptions  # type: ignore[attr-defined]
file_prior.Options = FileOptions  # type: ignore[attr-defined]


def _low_copy(network: ScoreUNet) -> ScoreUNet:
    """A copy whose layers hold their weights in bfloat16.

    Autocast would round the weights of these layers at every call, to the same values: more than a
    hundred casts. All else stays in float32, the noise embedding's frequencies among it.
    """
    copy = deepcopy(network)
    for module in copy.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            module.to(torch.bfloat16)
    return copy


def _compiled(network: nn.Module, device: torch.device) -> Callable[[Tensor, Tensor], Tensor]:
    """The network through `torch.compile`; on GPUs its kernels are replayed as CUDA graphs."""
    mode = "reduce-overhead" if device.type == "cuda" else "default"
    compiled: Callable[[Tensor, Tensor], Tensor] = torch.compile(network, mode=mode)

    def call(x: Tensor, sigma: Tensor) -> Tensor:
        # Graphs write every answer into the same memory.
        return compiled(x, sigma).clone()

    return call


def _inference(
    network: Callable[[Tensor, Tensor], Tensor], device: torch.device, *, low_precision: bool
) -> Callable[[Tensor, float], Tensor]:
    def denoise(x: Tensor, sigma: float) -> Tensor:
        with (
            # gradients where the caller needs them, as DPS does; elsewhere the faster mode
            torch.inference_mode(mode=not (x.requires_grad and torch.is_grad_enabled())),
            torch.autocast(device.type, dtype=torch.bfloat16, enabled=low_precision),
        ):
            # A tensor: compiled code would be specialised to each number.
            level = torch.full((), sigma, dtype=torch.float32, device=x.device)
            clean = network(x.float(), level)
        return clean.to(x.dtype)

    return denoise


def is_low(precision: str, device: torch.device) -> bool:
    """True where a network computes in bfloat16; ``auto`` does so where that is fast.

    That is on CPUs with AMX or AVX512-BF16, and with CUDA since Ampere.
    """
    if precision != "auto":
        return precision == "bfloat16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        checks = (getattr(torch.cpu, f"_is_{unit}_supported", None) for unit in _CPU_UNITS)
        return any(check() for check in checks if check is not None)
    return False


class TvOptions(BaseModel):
    """Settings of the total variation prior."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    strength: float = Field(
        1.0, gt=0, description="weight of the total variation, in units of the noise level"
    )
    iterations: int = Field(30, ge=1, description="iterations of Chambolle's algorithm")


def tv_prior(options: TvOptions, entry: PriorEntry) -> DenoiserPrior:
    """Total variation as a prior, through scikit-image's denoiser (Chambolle 2004), on the CPU.

    Its minimum is not a posterior mean, so the spread of samples is a rough guess: a baseline, and
    a prior for data that no trained prior fits.
    """

    def denoise(x: Tensor, sigma: float) -> Tensor:
        return chambolle(x, options.strength * sigma, iterations=options.iterations)

    return DenoiserPrior(denoise, entry.channels, (0.01, 5.0), "magnitude 0 to about 1")


tv_prior.Options = TvOptions  # type: ignore[attr-defined]
