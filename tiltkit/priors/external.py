"""Networks from elsewhere as priors: their units, single channels, devices and tiles."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from tiltkit.errors import InputError, UsageError
from tiltkit.priors.denoiser import DenoiserPrior
from tiltkit.priors.tiling import tiled

__all__ = ["ExternalOptions", "load_weights", "external_prior"]

Network = TypeVar("Network", bound=nn.Module)


class ExternalOptions(BaseModel):
    """Value range and noise range of a network, and how it is applied to images."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    low: float = Field(0.0, description="image value that is the lower end of the network's range")
    high: float = Field(1.0, description="image value that is the upper end of the network's range")
    per_channel: bool = Field(
        False, description="denoise every channel by itself, as for complex images and a network"
        " with one channel"
    )  # fmt: skip
    sigma_min: float | None = Field(None, gt=0, description="smallest noise level of the network's"
                                    " training, in image units")  # fmt: skip
    sigma_max: float | None = Field(None, gt=0, description="largest noise level of the network's"
                                    " training, in image units")  # fmt: skip
    tile: int | None = Field(None, ge=32, description="side in pixels of the tiles that large "
                             "images are denoised in")  # fmt: skip
    overlap: int = Field(32, ge=0, description="pixels that neighbouring tiles share")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low must be less than high, not {self.low} and {self.high}")
        if self.tile is not None and self.overlap >= self.tile:
            raise ValueError(f"overlap must be less than the tile's {self.tile}")
        return self


def external_prior(
    network: Network,
    denoise: Callable[[Network, Tensor, float], Tensor],
    options: ExternalOptions,
    *,
    channels: int,
    own_range: tuple[float, float],
    sigma_range: tuple[float, float],
    note: str = "",
) -> DenoiserPrior:
    """A network with its own units of image values as a prior.

    Args:
        network: The network, on the CPU.
        denoise: Function of the network, noisy images (batch, channel, h, w) and a noise level
            that returns denoised images, all in the units of the network.
        options: Conversion between image values and those of the network.
        channels: Image channels of the network; 0 for any number.
        own_range: Values of the network for ``options.low`` and ``options.high``.
        sigma_range: Noise levels of its training in image units, where the options give none.
        note: Remark for people, appended to the value range.

    Raises:
        UsageError: The smallest noise level is not below the largest.
    """
    low, high = options.sigma_min or sigma_range[0], options.sigma_max or sigma_range[1]
    if not low < high:
        raise UsageError(
            f"The noise range of the network, {low:g} to {high:g}, is empty.",
            f"set both sigma_min and sigma_max; unset they are {sigma_range[0]:g} and"
            f" {sigma_range[1]:g}.",
        )
    network = network.eval().requires_grad_(requires_grad=False)
    gain = (own_range[1] - own_range[0]) / (options.high - options.low)

    def on(device: torch.device) -> Callable[[Tensor, float], Tensor]:
        moved = network.to(device)

        def clean(x: Tensor, sigma: float) -> Tensor:
            with torch.inference_mode(mode=not (x.requires_grad and torch.is_grad_enabled())):
                z = (x.float() - options.low) * gain + own_range[0]
                if options.per_channel:
                    z = denoise(moved, z.flatten(0, 1)[:, None], sigma * gain).view_as(x)
                else:
                    z = denoise(moved, z, sigma * gain)
                return ((z - own_range[0]) / gain + options.low).to(x.dtype)

        return clean if options.tile is None else tiled(clean, options.tile, options.overlap)

    return DenoiserPrior(
        denoise=on(torch.device("cpu")),
        channels=0 if options.per_channel else channels,
        sigma_range=(low, high),
        value_range=f"{options.low:g} to {options.high:g}{note}",
        to_device=on,
    )


def load_weights(network: nn.Module, path: Path) -> None:
    """Put the weights of a safetensors file into a network.

    Raises:
        InputError: No such file, none of that format, or weights of another network.
    """
    tensors = _read(path)
    own = network.state_dict()
    shapes = {name: tuple(value.shape) for name, value in tensors.items()}
    for name, value in own.items():
        if shapes.get(name) != tuple(value.shape):
            there = f"has shape {shapes[name]}" if name in shapes else "is not there"
            raise InputError(
                f"{path.name} does not fit {type(network).__name__}: {name!r} must have shape"
                f" {tuple(value.shape)}, but {there}.",
                "give the arguments that the network was trained with, or other weights.",
            )
    spare = sorted(tensors.keys() - own.keys())
    if spare:
        raise InputError(
            f"{path.name} does not fit {type(network).__name__}, which has no {spare[0]!r}.",
            "give the arguments that the network was trained with, or other weights.",
        )
    network.load_state_dict(dict(tensors))


def _read(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise InputError(f"There are no weights at {path}.", "check the name and its folder.")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path.name} is no safetensors file.",
            f"convert it: tiltkit prior convert {path.name} -o NEW.safetensors.",
        ) from error
