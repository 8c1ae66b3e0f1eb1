"""A user's own network as a prior, by import path; also raw networks of the EDM kind."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from tiltkit.errors import UsageError
from tiltkit.priors.external import ExternalOptions, external_prior, load_weights

if TYPE_CHECKING:
    from tiltkit.hookspecs import PriorEntry
    from tiltkit.priors.denoiser import DenoiserPrior

__all__ = ["ModuleOptions", "module_prior"]

# Side of the image that a network is tried out on: a multiple of what networks divide by.
_PROBE = 64


class ModuleOptions(ExternalOptions):
    """Settings of a user's network, which takes images and noise levels (batch,)."""

    factory: str = Field(
        description="importable function or class that makes the network, package.module:name",
        pattern=r"^[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*$",
    )
    arguments: dict[str, Any] = Field(default_factory=dict, description="arguments of the factory")
    weights: Path | None = Field(None, description="safetensors file of the network's weights")
    output: Literal["denoised", "noise", "score", "v", "edm"] = Field(
        "denoised", description="output of the network: the clean image, noise of deviation 1, the"
        " score, v of variance-preserving images, or the raw network inside EDM's scaling"
    )  # fmt: skip
    sigma_data: float = Field(
        0.5, gt=0, description="standard deviation of images in EDM's scaling, the network's units"
    )
    own_low: float = Field(0.0, description="the network's value of 'low'")
    own_high: float = Field(1.0, description="the network's value of 'high'")
    channels: int = Field(0, ge=0, description="image channels of the network; 0 for any number")


def module_prior(options: ModuleOptions, entry: PriorEntry) -> DenoiserPrior:
    """The network as a prior.

    Raises:
        UsageError: The factory cannot be imported, fails, or makes no `torch.nn.Module`; or the
            network cannot denoise.
        InputError: The weights do not fit.
    """
    network = _network(options)
    if options.weights is not None:
        load_weights(network, options.weights)
    if not options.own_low < options.own_high:
        raise UsageError(
            f"own_low is {options.own_low:g} and own_high is {options.own_high:g}.",
            "set own_high to the larger one.",
        )
    prior = external_prior(
        network,
        lambda net, z, sigma: denoised(net, z, sigma, options.output, options.sigma_data),
        options,
        channels=options.channels,
        own_range=(options.own_low, options.own_high),
        sigma_range=(0.01, 5.0),
    )
    _try_out(prior, options)
    return prior


module_prior.Options = ModuleOptions  # type: ignore[attr-defined]


def denoised(network: nn.Module, z: Tensor, sigma: float, output: str, sigma_data: float) -> Tensor:
    """The clean image from the output of a network, all in the units of the network.

    ``v`` follows Salimans and Ho (arXiv:2202.00512) with images scaled to variance-preserving
    form, ``edm`` the scaling of Karras et al. (arXiv:2206.00364, table 1).
    """
    level = torch.full((len(z),), sigma, dtype=z.dtype, device=z.device)
    out: Tensor
    if output == "edm":
        total = math.hypot(sigma, sigma_data)
        out = network(z / total, level.log() / 4)
        return (sigma_data / total) ** 2 * z + sigma * sigma_data / total * out
    if output == "v":
        total = math.hypot(sigma, 1.0)
        out = network(z / total, level)
        return z / total**2 - sigma / total * out
    out = network(z, level)
    if output == "noise":
        return z - sigma * out
    if output == "score":
        return z + sigma**2 * out
    return out


def _try_out(prior: DenoiserPrior, options: ModuleOptions) -> None:
    """Call the network once, so that a wrong one fails now and not in the middle of a run.

    A network that only accepts other image sizes or devices passes.

    Raises:
        UsageError: The call fails, or returns another shape.
    """
    side = options.tile or _PROBE
    image = torch.zeros(1, prior.channels or 1, side, side)
    what = f"The network of {options.factory}, given an image {tuple(image.shape)},"
    hint = "it is called with images (batch, channel, h, w) and noise levels (batch,), and returns"
    hint += " as many images; 'channels' says how many channels it takes."
    try:
        found: object = prior.denoise(image, prior.sigma_range[1])
    except (RuntimeError, ValueError, AssertionError):
        return
    except Exception as error:  # foreign code
        reason = str(error).strip().split("\n")[0]
        raise UsageError(f"{what} failed: {type(error).__name__}: {reason}", hint) from error
    if not isinstance(found, Tensor) or found.shape != image.shape:
        shape = f"{tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise UsageError(f"{what} returned {shape}.", hint)


def _network(options: ModuleOptions) -> nn.Module:
    module, _, name = options.factory.partition(":")
    try:
        make = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UsageError(
            f"The factory {options.factory} cannot be imported: {error}.",
            "install its package, or put its folder into PYTHONPATH.",
        ) from error
    try:
        network = make(**options.arguments)
    except Exception as error:  # foreign code
        reason = str(error).strip().split("\n")[0]
        raise UsageError(
            f"The factory {options.factory} failed with {options.arguments}:"
            f" {type(error).__name__}: {reason}.",
            "correct 'arguments', or the factory.",
        ) from error
    if not isinstance(network, nn.Module):
        raise UsageError(
            f"The factory {options.factory} made a {type(network).__name__}.",
            "let it return a torch.nn.Module.",
        )
    return network
