"""The network while it trains: loss, one step of the optimiser, the average of its weights."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from tiltkit.errors import UsageError
from tiltkit.priors.denoiser import is_low
from tiltkit.priors.network import ScoreUNet
from tiltkit.priors.weights import load_network
from tiltkit.training.batches import Batch
from tiltkit.training.recipe import TrainingOptions, TrainRecipe

__all__ = ["Learner", "loss_of", "new_network"]


def new_network(
    recipe: TrainRecipe, sigma_data: float, sigma_range: tuple[float, float]
) -> ScoreUNet:
    """A network with weights drawn from the seed, the global random state left alone.

    With `NetworkOptions.start` it begins as another network instead; of the first and the last
    layer only the channels that both have are taken.

    Raises:
        UsageError: The other network has other widths or blocks.
    """
    shape = recipe.network
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        net = ScoreUNet(recipe.channels, shape.widths, shape.blocks, sigma_data, *sigma_range)
    if shape.start:
        start, _ = load_network(shape.start)
        if (start.widths, start.blocks) != (net.widths, net.blocks):
            raise UsageError(
                f"The weights in {shape.start} are of widths {list(start.widths)} and blocks"
                f" {list(start.blocks)}, not {shape.widths} and {shape.blocks}.",
                "set network.widths and network.blocks to these.",
            )
        given = start.state_dict()
        for name, own in net.state_dict().items():
            both = tuple(map(slice, map(min, own.shape, given[name].shape)))
            own[both] = given[name][both]
    return net


class Learner:
    """Weights, their average, and the optimiser.

    Args:
        net: The network, on the CPU.
        device: Device to train on.
        options: Precision, decay of the average, compilation.
        wrap: Wrapper that averages gradients over devices; the identity for one.
    """

    def __init__(
        self,
        net: ScoreUNet,
        device: torch.device,
        options: TrainingOptions,
        wrap: Callable[[nn.Module], nn.Module] = lambda module: module,
    ) -> None:
        self.device = device
        self.low = is_low(options.precision, device)
        self.net = net.train().requires_grad_(True).to(device).to(memory_format=torch.channels_last)
        self.average = AveragedModel(self.net, multi_avg_fn=_ema_warmup(options.average))
        self.adam = torch.optim.AdamW(
            self.net.parameters(), betas=(0.9, 0.99), weight_decay=1e-3, fused=True
        )
        ready = torch.compile(self.net, dynamic=False) if options.compile else self.net
        self._forward = wrap(cast("nn.Module", ready))

    def step(self, batch: Batch, rate: float) -> Tensor:
        """Learn from one batch; the loss, still on the device."""
        noisy, target, sigma, noise = (t.to(self.device, non_blocking=True) for t in batch)
        for group in self.adam.param_groups:
            group["lr"] = rate
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.low):
            denoised = self._forward(noisy, sigma)
        loss = loss_of(denoised, target, sigma, noise, self.net.sigma_data)
        self.adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.adam.step()
        self.average.update_parameters(self.net)
        return loss.detach()

    def averaged(self) -> ScoreUNet:
        """A copy of the network with the averaged weights, ready to denoise."""
        net = cast("ScoreUNet", deepcopy(self.average.module))
        return net.eval().requires_grad_(requires_grad=False)


def loss_of(
    denoised: Tensor, target: Tensor, sigma: Tensor, noise: Tensor, sigma_data: float
) -> Tensor:
    """Mean over images of the squared error, weighted as in EDM (arXiv:2206.00364).

    Args:
        denoised: Output of the network (batch, channel, row, column).
        target: Wanted output, see `tiltkit.training.batches.pair`.
        sigma: Noise level of the input (batch,).
        noise: Noise level of the image itself (batch,); 0 for clean ones.
        sigma_data: Root mean square of the images.
    """
    weight = (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2
    # Near the noise of the image itself the target is noisy, and counts less.
    weight = weight * (1 - (noise / sigma) ** 2) ** 2
    return ((denoised - target).square().mean((1, 2, 3)) * weight).mean()


def _ema_warmup(decay: float) -> Callable[..., None]:
    """Exponential moving average whose decay rises to ``decay``: the first weights are noise."""

    def update(averaged: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        now = min(decay, (1 + int(count)) / (10 + int(count)))
        get_ema_multi_avg_fn(now)(averaged, current, count)  # type: ignore[no-untyped-call]

    return update
