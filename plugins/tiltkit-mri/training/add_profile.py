"""Say in the weights file what the training heads look like to the network, so that runs can warn.

    python add_profile.py WEIGHTS heads OUT [--check heads/colin27.npz ...]

The weights stay as they are. Of every head, axial, coronal and sagittal slices as they are, and
slices drawn as in training.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from augment import Head, draw_slice
from evaluate_prior import smooth_phase
from torch import Generator, Tensor

from tiltkit.priors.network import ScoreUNet
from tiltkit.priors.profile import LEVEL, profile_of
from tiltkit.priors.weights import load_network, save_network

# Of the value range: about as much noise as scans keep.
_NOISE = (0.003, 0.02)


def read(path: Path) -> tuple[Head, bool]:
    """A head, and whether the prior was trained on it."""
    with np.load(path) as z:
        volume = torch.from_numpy(z["volume"].astype(np.float32))
        return Head(volume, str(z["kind"]) == "stack", 1.0), float(z["weight"]) > 0


def planes(head: Head) -> list[int]:
    """Axes that slices may lie across: thick slices only as they were measured."""
    return [2] if head.is_stack or min(head.volume.shape) == 1 else [2, 1, 0]


def plain_slices(head: Head, count: int, g: Generator) -> list[Tensor]:
    """Slices (1, 2, h, w) as they are, the 99th percentile of the head 1, with phase and noise."""
    out = []
    for axis in planes(head):
        n = head.volume.shape[axis]
        for k in torch.linspace(0.3 * n, 0.85 * n, count).int().clamp(max=n - 1).unique().tolist():
            magnitude = head.volume.select(axis, k).T.flip(0).clamp(min=0)
            bright = magnitude[magnitude > 0.1]
            if len(bright) < 2000:
                continue
            z = torch.polar(magnitude / bright.quantile(0.99), smooth_phase(magnitude.shape, g))
            x = torch.view_as_real(z).permute(2, 0, 1)
            low, high = _NOISE
            noise = low * (high / low) ** float(torch.rand((), generator=g))
            out.append((x + noise * torch.randn(x.shape, generator=g))[None])
    return out


def features(net: ScoreUNet, images: list[Tensor]) -> Tensor:
    """Features (image, feature)."""
    with torch.inference_mode():
        return torch.cat([net.features(x, LEVEL) for x in images])


def main() -> None:
    """Compute the profile from the heads that were trained on; check it on others."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("heads", type=Path, help="folder of prepare_heads.py")
    parser.add_argument("out", type=Path)
    parser.add_argument("--slices", type=int, default=14, help="per head and direction")
    parser.add_argument("--drawn", type=int, default=40, help="per head, as in training")
    parser.add_argument("--check", type=Path, nargs="*", default=[])
    args = parser.parse_args()
    torch.set_num_threads(1)
    net, notes = load_network(args.weights)
    g = torch.Generator().manual_seed(0)
    subjects, drawn = [], []
    for path in sorted(args.heads.glob("*.npz")):
        head, trained = read(path)
        if trained and min(head.volume.shape) > 1:
            subjects.append(features(net, plain_slices(head, args.slices, g)))
            drawn.append(features(net, [draw_slice(head, g)[None] for _ in range(args.drawn)]))
            print(f"{path.stem}: {len(subjects[-1])} slices", flush=True)
    net.profile = profile_of(subjects, augmented=drawn)
    for path in args.check:
        found = net.profile.distance(features(net, plain_slices(read(path)[0], args.slices, g)))
        print(f"{path.stem}: {int((found > 1).sum())} of {len(found)} slices beyond the limit,"
              f" median {found.median():.2f}, largest {found.max():.2f}")  # fmt: skip
    rest = {name: note for name, note in notes.items() if name not in ("architecture", "config")}
    save_network(args.out, net, rest)


if __name__ == "__main__":
    main()
