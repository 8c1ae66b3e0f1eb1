"""Train the brain prior: denoising score matching on augmented slices, for a set wall time.

On one CPU core, or on a GPU with `--device cuda` and many workers that draw slices for it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from augment import SliceStream
from evaluate_prior import SIGMAS, held_out_slices, network_denoiser, psnr, squared_errors
from torch import Generator, Tensor, nn
from torch.utils.data import DataLoader

from tiltkit.priors.network import ScoreUNet
from tiltkit.priors.weights import load_network, save_network


@dataclass
class Progress:
    """Progress of the training."""

    seconds: float = 0.0
    steps: int = 0
    crops: int = 0


def draw_sigma(count: int, large: bool, device: torch.device, g: Generator) -> Tensor:
    """Draw noise levels (count,): mostly log-normal, else log-uniform over the whole range.

    Large crops are given higher levels, where only the whole head gives the anatomical context.
    """
    centre = math.log(0.25 if large else 0.1)
    normal = centre + 1.2 * torch.randn(count, generator=g, device=device)
    share, which = torch.rand(2, count, generator=g, device=device)
    even = math.log(0.006) + (math.log(8.0) - math.log(0.006)) * share
    chosen = torch.where(which < 0.75, normal, even)
    return chosen.clamp(math.log(0.004), math.log(12.0)).exp()


def loss_of(net: ScoreUNet, clean: Tensor, g: Generator) -> Tensor:
    """Squared error of the denoised images (batch, 2, h, w), weighted as in arXiv:2206.00364."""
    sigma = draw_sigma(len(clean), clean.shape[-1] > 96, clean.device, g)
    xi = torch.randn(clean.shape, generator=g, device=clean.device)
    noisy = clean + sigma[:, None, None, None] * xi
    with torch.autocast(clean.device.type, torch.bfloat16):
        denoised = net(noisy, sigma)
    weight = (sigma**2 + net.sigma_data**2) / (sigma * net.sigma_data) ** 2
    return ((denoised - clean).square().mean((1, 2, 3)) * weight).mean()


def learning_rate(peak: float, steps: int, spent: float) -> float:
    """Warm up over 300 steps, then fall as a cosine until the budget is spent (0 <= spent <= 1)."""
    return peak * min(1.0, (steps + 1) / 300) * (0.5 + 0.5 * math.cos(math.pi * min(1.0, spent)))


@torch.no_grad()
def follow(average: nn.Module, net: nn.Module, decay: float) -> None:
    """Move the running average of the weights a little towards the weights."""
    torch._foreach_lerp_(list(average.parameters()), list(net.parameters()), 1 - decay)


def save_state(
    folder: Path,
    net: ScoreUNet,
    average: ScoreUNet,
    adam: torch.optim.Optimizer,
    progress: Progress,
) -> None:
    """Write what --resume needs, and the averaged weights by themselves."""
    state = {
        "net": net.state_dict(),
        "average": average.state_dict(),
        "adam": adam.state_dict(),
        "progress": asdict(progress),
    }
    torch.save(state, folder / "state.part")
    (folder / "state.part").replace(folder / "state.pt")
    save_network(folder / "prior.part", average, notes(progress), dtype=torch.float16)
    (folder / "prior.part").replace(folder / "prior.safetensors")


def notes(progress: Progress) -> dict[str, str]:
    """Say in the weights file what the weights are."""
    return {
        "title": "brain MRI, complex (re, im)",
        "value_range": "99th percentile of the magnitude over the head = 1",
        "training": json.dumps(asdict(progress)),
    }


def main() -> None:
    """Train until the budget is spent."""
    args = arguments()
    os.nice(args.nice)
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)  # initial weights only; every later draw has its own generator
    net = (
        load_network(args.start)[0]
        if args.start
        else ScoreUNet(widths=args.widths, blocks=args.blocks)
    )
    net = net.train().requires_grad_(True).to(args.device, memory_format=torch.channels_last)
    average = ScoreUNet(**net.config)  # type: ignore[arg-type]
    average.load_state_dict(net.state_dict())
    average.eval().requires_grad_(False).to(args.device, memory_format=torch.channels_last)
    adam = torch.optim.AdamW(net.parameters(), lr=args.rate, betas=(0.9, 0.99), weight_decay=1e-3)
    progress = Progress()
    if args.resume:
        state = torch.load(args.out / "state.pt", args.device, weights_only=True)
        net.load_state_dict(state["net"])
        average.load_state_dict(state["average"])
        adam.load_state_dict(state["adam"])
        progress = Progress(**state["progress"])
    train(net, average, adam, progress, args)
    save_state(args.out, net, average, adam, progress)
    print(f"done: {asdict(progress)}", flush=True)


def train(
    net: ScoreUNet,
    average: ScoreUNet,
    adam: torch.optim.Optimizer,
    progress: Progress,
    args: argparse.Namespace,
) -> None:
    """Run the loop: draw, step, average; now and then save and measure."""
    g = torch.Generator(args.device).manual_seed(args.seed + 7919 * progress.steps)
    batches = stream(args, args.seed + progress.steps)
    check = held_out_slices(args.check, 3, torch.Generator().manual_seed(0)) if args.check else []
    fast = torch.compile(net, dynamic=False) if args.compile else net
    began, saved, losses = time.monotonic() - progress.seconds, progress.seconds, []
    while (seconds := time.monotonic() - began) < args.seconds:
        progress.seconds = seconds
        for group in adam.param_groups:
            spent = progress.seconds / args.seconds
            group["lr"] = learning_rate(args.rate, progress.steps, spent)
        clean = next(batches).to(args.device, non_blocking=True)
        losses.append(update(fast, adam, clean, g))
        follow(average, net, min(args.average, (progress.steps + 1) / (progress.steps + 10)))
        progress.steps += 1
        progress.crops += len(clean)
        if progress.seconds - saved > args.every:
            loss = float(torch.stack(losses).mean())
            if not math.isfinite(loss):
                raise SystemExit("the training diverged: start again with a lower --rate")
            save_state(args.out, net, average, adam, progress)
            report(average, progress, loss, check)
            saved, losses = progress.seconds, []


def give_way(_worker: int) -> None:
    """Lower this process's priority."""
    os.nice(5)


def stream(args: argparse.Namespace, seed: int) -> Iterator[Tensor]:
    """Draw batches in processes of their own that give way to the training."""
    loader = DataLoader(
        SliceStream(args.heads, seed, args.slices),
        batch_size=None,
        num_workers=args.workers,
        prefetch_factor=16 if args.workers == 1 else 4,
        worker_init_fn=give_way,
        pin_memory=args.device.type == "cuda",
    )
    return iter(loader)


def update(net: ScoreUNet, adam: torch.optim.Optimizer, clean: Tensor, g: Generator) -> Tensor:
    """Take one step of the optimiser on clean images (batch, 2, h, w) and say the loss."""
    loss = loss_of(net, clean, g)
    adam.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    adam.step()
    return loss.detach()


def report(net: ScoreUNet, progress: Progress, loss: float, check: Sequence[Tensor]) -> None:
    """Print how far the training is and how well the averaged network denoises a held-out head."""
    line = f"{progress.seconds:.0f} s, {progress.steps} steps, {progress.crops} crops"
    line += f", loss {loss:.4f}"
    for sigma in SIGMAS if check else ():
        line += f" {sigma:g}:{psnr(squared_errors(network_denoiser(net), check, sigma, 0)):.2f}"
    print(line, flush=True)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("heads", type=Path, help="folder of prepare_heads.py")
    parser.add_argument("out", type=Path, help="folder for the training state and the weights")
    parser.add_argument("--seconds", type=float, default=3300, help="budget of wall time")
    parser.add_argument("--rate", type=float, default=5e-4, help="highest learning rate")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--start", type=Path, help="weights to begin from")
    parser.add_argument("--resume", action="store_true", help="go on from the state in the folder")
    parser.add_argument(
        "--check", type=Path, help=".npz of a held-out head to measure on while training"
    )
    parser.add_argument("--every", type=float, default=180, help="seconds between savings")
    parser.add_argument(
        "--compile", action="store_true", help="needs a C++ compiler; steps 15 % faster"
    )
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw slices")
    parser.add_argument("--slices", type=int, default=4, help="slices in a batch")
    parser.add_argument("--average", type=float, default=0.9995, help="memory of the average")
    parser.add_argument("--nice", type=int, default=5)
    parser.add_argument("--widths", type=int, nargs="+", default=[32, 64, 96, 128])
    parser.add_argument("--blocks", type=int, nargs="+", default=[3, 3, 2, 1])
    return parser.parse_args()


if __name__ == "__main__":
    main()
