"""Diffusion models in the diffusers library's folders as priors: UNet2D with its scheduler."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from tiltkit.errors import InputError, UsageError
from tiltkit.priors.external import ExternalOptions, external_prior
from tiltkit.priors.network import pad_to_multiple

if TYPE_CHECKING:
    from tiltkit.hookspecs import PriorEntry
    from tiltkit.priors.denoiser import DenoiserPrior

__all__ = ["DiffusersOptions", "Schedule", "denoised", "diffusers_prior"]


class DiffusersOptions(ExternalOptions):
    """Settings of diffusers' models, whose images have values -1 to 1."""

    folder: Path = Field(description="folder of the model, with unet/ and scheduler/ or the files "
                         "of the network itself")  # fmt: skip
    prediction: Literal["auto", "epsilon", "v_prediction", "sample"] = Field(
        "auto", description="output of the network; auto takes it from the scheduler's settings"
    )


@dataclass(frozen=True, slots=True)
class Schedule:
    """Noise levels of a model's time steps.

    At time ``t`` a model is trained on ``sqrt(a_t) x_0 + sqrt(1 - a_t) noise``; divided by
    ``sqrt(a_t)`` their noise has the level ``sigma_t = sqrt((1 - a_t) / a_t)``.

    Attributes:
        log_sigmas: (steps,), rising.
        prediction: ``epsilon``, ``v_prediction`` or ``sample``.
    """

    log_sigmas: NDArray[np.float64]
    prediction: str

    @classmethod
    def of(cls, alphas_cumprod: NDArray[np.float64], prediction: str) -> Schedule:
        """The schedule of a scheduler's products of alphas (steps,)."""
        # A last product of 0 (zero terminal SNR) is pure noise: no finite level.
        alphas = alphas_cumprod[alphas_cumprod > 0]
        return cls(np.log((1 - alphas) / alphas) / 2, prediction)

    def time(self, sigma: float) -> float:
        """The time of a noise level, between time steps where it lies there."""
        steps = np.arange(len(self.log_sigmas), dtype=np.float64)
        return float(np.interp(math.log(sigma), self.log_sigmas, steps))

    @property
    def sigma_range(self) -> tuple[float, float]:
        """Smallest and largest level, in the network's units."""
        return math.exp(self.log_sigmas[0]), math.exp(self.log_sigmas[-1])


def denoised(network: nn.Module, z: Tensor, sigma: float, schedule: Schedule) -> Tensor:
    """Clean images from noisy ones (batch, channel, h, w), in the network's units."""
    total = math.hypot(1.0, sigma)
    time = torch.full((len(z),), schedule.time(sigma), dtype=z.dtype, device=z.device)
    height, width = z.shape[-2:]
    padded = pad_to_multiple(z / total, multiple_of(network))
    out: Tensor = network(padded, time).sample[..., :height, :width]
    if schedule.prediction == "epsilon":
        return z - sigma * out
    if schedule.prediction == "v_prediction":
        return z / total**2 - sigma / total * out
    return out


def multiple_of(network: nn.Module) -> int:
    """Image sides must be a multiple of this: the network halves them at every level but one."""
    config: Any = getattr(network, "config", {})
    return int(2 ** (len(config.get("block_out_channels", ())) or 1))


def diffusers_prior(options: DiffusersOptions, entry: PriorEntry) -> DenoiserPrior:
    """The model in a local folder as a prior; only safetensors are read, nothing is downloaded.

    Raises:
        InputError: The folder holds no such model.
        UsageError: The scheduler's prediction is none that is known.
    """
    network, alphas, said = _read(options.folder)
    prediction = said if options.prediction == "auto" else options.prediction
    if prediction not in ("epsilon", "v_prediction", "sample"):
        raise UsageError(
            f"The model predicts {prediction!r}.", "set prediction=epsilon, v_prediction or sample."
        )
    schedule = Schedule.of(alphas, prediction)
    scale = (options.high - options.low) / 2
    low, high = schedule.sigma_range
    return external_prior(
        network,
        lambda net, z, sigma: denoised(net, z, sigma, schedule),
        options,
        channels=int(network.config["in_channels"]),  # type: ignore[index]
        own_range=(-1.0, 1.0),
        sigma_range=(low * scale, high * scale),
    )


diffusers_prior.Options = DiffusersOptions  # type: ignore[attr-defined]


def _read(folder: Path) -> tuple[nn.Module, NDArray[np.float64], str]:
    """Network, products of alphas and prediction type of a folder."""
    unet = folder / "unet" if (folder / "unet").is_dir() else folder
    scheduler = folder / "scheduler" if (folder / "scheduler").is_dir() else folder
    for file, what in ((unet / "config.json", "network"),
                       (scheduler / "scheduler_config.json", "scheduler")):  # fmt: skip
        if not file.is_file():
            raise InputError(
                f"{folder} holds no {what}: {file.relative_to(folder)} is missing.",
                "name a folder written by a diffusers pipeline's save_pretrained.",
            )
    kind = json.loads((unet / "config.json").read_text()).get("_class_name", "UNet2DModel")
    if kind != "UNet2DModel":
        raise InputError(
            f"The network in {folder} is a {kind}, not a UNet2DModel.",
            "name an unconditional image model that works on pixels.",
        )
    from diffusers import DDPMScheduler, UNet2DModel

    try:
        network: nn.Module = UNet2DModel.from_pretrained(
            str(unet), use_safetensors=True, local_files_only=True
        )
        noise = DDPMScheduler.from_pretrained(str(scheduler), local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(
            f"The model in {folder} cannot be read: {reason}",
            "it must have its weights as safetensors; save it again with safe_serialization=True.",
        ) from error
    return network, noise.alphas_cumprod.double().numpy(), str(noise.config.prediction_type)
