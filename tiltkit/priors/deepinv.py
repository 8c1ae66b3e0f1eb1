"""Any denoiser of deepinv as a prior, by the name of its class."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from tiltkit.config import suggest
from tiltkit.errors import UsageError
from tiltkit.priors.external import ExternalOptions, external_prior, load_weights

if TYPE_CHECKING:
    from tiltkit.hookspecs import PriorEntry
    from tiltkit.priors.denoiser import DenoiserPrior

__all__ = ["DeepinvOptions", "deepinv_prior"]

# Noise range of networks that state none: that of deepinv's own training.
_SIGMA_RANGE = (0.01, 0.5)
_TEST_SIDE = 32  # pixels of the test image: large enough for networks that halve it five times


class DeepinvOptions(ExternalOptions):
    """Settings of deepinv's denoisers, whose images have values 0 to 1."""

    denoiser: str = Field("TVDenoiser", description="name of the class in deepinv.models")
    weights: Path | None = Field(None, description="safetensors file of a network's weights")
    arguments: dict[str, Any] = Field(
        default_factory=dict, description="arguments of the class, such as {in_channels = 1}"
    )
    strength: float = Field(
        1.0, gt=0, description="factor on the noise level that the denoiser is given"
    )


def deepinv_prior(options: DeepinvOptions, entry: PriorEntry) -> DenoiserPrior:
    """The denoiser as a prior; nothing is downloaded.

    Raises:
        UsageError: No such denoiser, wrong arguments, or a network without weights.
        InputError: The weights do not fit.
    """
    model = _model(options)
    if options.weights is not None:
        load_weights(model, options.weights)
    elif any(p.numel() for p in model.parameters() if p.requires_grad):
        raise UsageError(
            f"deepinv's {options.denoiser} is a network, and no weights are given.",
            "set -s weights=FILE.safetensors; 'tiltkit prior convert' makes such a file.",
        )
    blind = _is_noise_blind(model, options)
    return external_prior(
        model,
        lambda net, z, sigma: net(z, sigma * options.strength),
        options,
        channels=_channels(model, options),
        own_range=(0.0, 1.0),
        sigma_range=_SIGMA_RANGE,
        note="; it ignores the noise level, so its score is a guess" if blind else "",
    )


deepinv_prior.Options = DeepinvOptions  # type: ignore[attr-defined]


def _model(options: DeepinvOptions) -> nn.Module:
    """The model, with whatever weights it starts with."""
    from deepinv import models

    name = options.denoiser
    known = [
        key
        for key, value in vars(models).items()
        if inspect.isclass(value) and issubclass(value, models.Denoiser)
    ]
    if name not in known:
        raise UsageError(f"deepinv has no denoiser {name!r}.", suggest(name, known))
    kind = getattr(models, name)
    arguments = dict(options.arguments)
    if "pretrained" in inspect.signature(kind.__init__).parameters:
        arguments["pretrained"] = None  # its default downloads
    try:
        # What a network starts with is drawn from torch's global state, and then replaced.
        with torch.random.fork_rng(devices=[]):
            model: nn.Module = kind(**arguments)
    except (TypeError, ValueError, ImportError, RuntimeError, AssertionError) as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise UsageError(
            f"deepinv's {name} cannot be constructed with {options.arguments}: {reason}.",
            "correct 'arguments'; they are those of the class in deepinv's documentation.",
        ) from error
    return model


def _channels(model: nn.Module, options: DeepinvOptions) -> int:
    """Image channels of a network, as its arguments say; 0 where they do not."""
    for name in ("in_channels", "img_channels", "in_nc", "in_chans", "channels"):
        parameters = inspect.signature(type(model).__init__).parameters
        if name in parameters:
            value = options.arguments.get(name, parameters[name].default)
            return value if isinstance(value, int) else 0
    return 0


def _is_noise_blind(model: nn.Module, options: DeepinvOptions) -> bool:
    """True where the output does not depend on the noise level, tested on one small image."""
    channels = 1 if options.per_channel else _channels(model, options) or 1
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, channels, _TEST_SIDE, _TEST_SIDE, generator=generator)
    with torch.inference_mode():
        low, high = (_try(model, image, sigma) for sigma in (0.05, 0.2))
    return torch.equal(low, high)


def _try(model: nn.Module, image: Tensor, sigma: float) -> Tensor:
    try:
        out: Tensor = model.eval()(image, sigma)
    except (RuntimeError, ValueError, TypeError, ImportError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UsageError(
            f"deepinv's {type(model).__name__} failed on a small image: {reason}.",
            "check that it is a denoiser of Gaussian noise, and its arguments.",
        ) from error
    return out
