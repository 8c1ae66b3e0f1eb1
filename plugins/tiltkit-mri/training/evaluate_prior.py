"""Measure the brain prior as a denoiser on held-out heads, beside the best total variation."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor, nn

from tiltkit.priors.total_variation import total_variation
from tiltkit.priors.weights import load_network

SIGMAS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
Denoiser = Callable[[Tensor, float], Tensor]


def held_out_slices(path: Path, count: int, generator: Generator) -> list[Tensor]:
    """Cut axial slices (1, 2, h, w): exact voxels, 99th percentile of the head 1, smooth phase."""
    with np.load(path) as z:
        volume = torch.from_numpy(z["volume"].astype(np.float32))
    depth = volume.shape[2]
    out = []
    for k in torch.linspace(0.25 * depth, 0.85 * depth, count).round().int().tolist():
        magnitude = volume[:, :, k].T.flip(0)
        magnitude = magnitude / magnitude[magnitude > 0.1].quantile(0.99)
        out.append(
            torch.view_as_real(
                torch.polar(magnitude, smooth_phase(magnitude.shape, generator))
            ).permute(2, 0, 1)[None]
        )
    return out


def smooth_phase(shape: Sequence[int], g: Generator) -> Tensor:
    """Draw a constant, a ramp and one slow wave (h, w), in radians."""
    y, x = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in shape), indexing="ij")
    c = 2 * torch.rand(6, generator=g) - 1
    return (
        math.pi * c[0]
        + 2 * c[1] * y
        + 2 * c[2] * x
        + 0.6 * torch.sin(2 * c[3] * x + 3 * c[4] * y + 3 * c[5])
    )


def network_denoiser(net: nn.Module) -> Denoiser:
    """Wrap a network in bf16, as samplers run it."""

    def denoise(x: Tensor, sigma: float) -> Tensor:
        device = next(net.parameters()).device
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16):
            out: Tensor = net(x.to(device), sigma)
        return out.cpu()

    return denoise


def squared_errors(
    denoise: Denoiser, slices: Sequence[Tensor], sigma: float, seed: int
) -> list[float]:
    """Mean over pixels of |estimate - truth|^2 (re and im together) for each slice."""
    g = torch.Generator().manual_seed(seed)
    noisy = [s + sigma * torch.randn(s.shape, generator=g) for s in slices]
    return [
        float((denoise(x, sigma) - s).square().sum(1).mean())
        for x, s in zip(noisy, slices, strict=True)
    ]


def psnr(errors: Sequence[float]) -> float:
    """Mean of the slices' PSNR for peak 1."""
    return float(np.mean([-10 * math.log10(e) for e in errors]))


def best_total_variation(slices: Sequence[Tensor], sigma: float, seed: int) -> float:
    """PSNR of total variation with the weight that turns out best on these very slices."""
    factors = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.4, 1.7)
    return max(
        psnr(
            squared_errors(
                lambda x, s, f=f: total_variation(x, f * s, steps=100), slices, sigma, seed
            )
        )
        for f in factors
    )


def main() -> None:
    """Print one table: a row per head and method, a column per noise level."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("heads", type=Path, nargs="+", help=".npz files of prepare_heads.py")
    parser.add_argument("--slices", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-tv", action="store_true")
    parser.add_argument(
        "--own-noise", type=float, default=0.0, help="noise of the clean images, as scans have it"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    net, _ = load_network(args.weights)
    print(f"| head | method | {' | '.join(f'{s:g}' for s in SIGMAS)} |")
    print("|---" * (len(SIGMAS) + 2) + "|")
    for head in args.heads:
        g = torch.Generator().manual_seed(args.seed)
        slices = held_out_slices(head, args.slices, g)
        slices = [s + args.own_noise * torch.randn(s.shape, generator=g) for s in slices]
        rows = {
            "network": [
                psnr(squared_errors(network_denoiser(net), slices, s, args.seed)) for s in SIGMAS
            ]
        }
        if not args.no_tv:
            rows["TV, best weight"] = [best_total_variation(slices, s, args.seed) for s in SIGMAS]
        for method, values in rows.items():
            print(
                f"| {head.stem} | {method} | " + " | ".join(f"{v:.2f}" for v in values) + " |",
                flush=True,
            )


if __name__ == "__main__":
    main()
