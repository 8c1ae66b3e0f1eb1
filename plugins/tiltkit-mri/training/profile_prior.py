"""Note in the weights what the training heads look like to the network (`tiltkit.priors.profile`).

Training cuts small pieces and warps them, so that the network learns to cope; the profile is made
of slices as scans show them: the whole head at any usual pixel size, with the training's powers of
contrast, shading, scale, phase and noise. A single slice of a brain without its skull and a blurred
average, 3 % of the training, are no such scans and are left out.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from augment import (
    CANVAS,
    Head,
    chance,
    cut,
    noise,
    phase,
    rotation,
    smooth_field,
    truncate,
    uniform,
)
from torch import Generator, Tensor

from tiltkit.digest import digest
from tiltkit.priors.network import ScoreUNet
from tiltkit.priors.profile import Look, describe, profile_of
from tiltkit.priors.weights import load_network, save_network

# The coarsest pixels, in those that just show the whole head.
COARSE = 1.6
# Pixels of the head that a slice must show, and of either side of a picture.
FEWEST, SMALLEST = 800, 64
# In training, of heads that make up the profile.
LEAST_WEIGHT = 1.0


def whole_slice(head: Head, g: Generator) -> Tensor:
    """Draw a complex slice (2, h, w) that shows the whole head."""
    while True:
        image = _placed(_scanned(_magnitude(head, g), g), g)
        if min(image.shape[-2:]) >= SMALLEST and int((image.norm(dim=0) > 0.1).sum()) > FEWEST:
            return image


def _magnitude(head: Head, g: Generator) -> Tensor:
    """Draw a cut (canvas, canvas) along the axes, or a little oblique."""
    shape = torch.tensor(head.volume.shape, dtype=torch.float32)
    normal = 2 if head.is_stack or chance(0.5, g) else int(chance(0.5, g))
    row, column = ([1, 0], [2, 0], [2, 1])[2 - normal]
    t = torch.arange(CANVAS, dtype=torch.float32) - (CANVAS - 1) / 2
    offsets = torch.zeros(CANVAS, CANVAS, 3)
    offsets[..., row], offsets[..., column] = -t[:, None], t[None, :]
    fits = max(1.0, float(max(shape[row], shape[column])) / (CANVAS - 8))
    offsets *= fits * math.exp(uniform(0, math.log(COARSE), g))
    if chance(0.5, g):
        turn = rotation(normal, uniform(-0.3, 0.3, g))
        for axis in set() if head.is_stack else {0, 1, 2} - {normal}:
            turn = turn @ rotation(axis, uniform(-0.2, 0.2, g))
        offsets = offsets @ turn.T
    centre = (shape - 1) / 2
    centre[normal] = (centre[normal] + uniform(-0.4, 0.42, g) * shape[normal]).round()
    return cut(head, offsets + centre).clamp(min=0)


def _scanned(magnitude: Tensor, g: Generator) -> Tensor:
    """Give a cut contrast, shading, scale, phase and noise: complex (canvas, canvas)."""
    if chance(0.6, g):
        magnitude = magnitude ** math.exp(uniform(-0.5, 0.5, g))
    if chance(0.6, g):
        magnitude = magnitude * torch.exp(smooth_field(1, 4, g)[0] * uniform(0, 0.3, g))
    bright = magnitude[magnitude > 0.1]
    top = float(bright.quantile(0.99)) if len(bright) > FEWEST else 1.0
    scale = math.exp(uniform(math.log(0.7), math.log(1.3), g)) / top
    image = torch.polar(magnitude * scale, phase(g))
    if chance(0.6, g):
        image = image + noise(g)
    return truncate(image, g) if chance(0.25, g) else image


def _placed(image: Tensor, g: Generator) -> Tensor:
    """Cut off most of the air; mirror and turn: (2, h, w)."""
    filled = image.abs() > 0.1
    window = []
    for axis in range(2):
        at = torch.nonzero(filled.any(1 - axis)).flatten()
        margins = torch.randint(2, 24, (2,), generator=g).tolist()
        first, last = (int(at[0]), int(at[-1])) if len(at) else (0, 0)
        window.append(slice(max(0, first - margins[0]), last + margins[1]))
    out = torch.view_as_real(image[window[0], window[1]]).permute(2, 0, 1)
    if chance(0.5, g):
        out = out.flip(-1)
    return torch.rot90(out, int(torch.randint(4, (), generator=g)), (1, 2)).contiguous()


def looks_of(path: Path, count: int, network: ScoreUNet, seed: int) -> list[Look]:
    """Profile features of the slices of one head."""
    with np.load(path) as z:
        volume = torch.from_numpy(z["volume"].astype(np.float32))
        head = Head(volume, str(z["kind"]) == "stack", 1.0)
    g = torch.Generator().manual_seed(seed)
    return [describe(network, whole_slice(head, g)[None], seed=k) for k in range(count)]


def main() -> None:
    """Write the profile into the weights, and say what held-out heads are to it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("heads", type=Path, help="folder of prepare_heads.py")
    parser.add_argument("weights", type=Path)
    parser.add_argument("--count", type=int, default=380, help="slices, shared as in training")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(1)
    network, notes = load_network(args.weights)
    weights = {path: float(np.load(path)["weight"]) for path in sorted(args.heads.glob("*.npz"))}
    weights = {path: weight for path, weight in weights.items() if not 0 < weight < LEAST_WEIGHT}
    looks = []
    for k, (path, weight) in enumerate(weights.items()):
        count = round(args.count * weight / sum(weights.values()))
        if count:
            looks.append(looks_of(path, count, network, args.seed * 1000 + k))
            print(f"{path.stem}: {count} slices", flush=True)
    own = {k: v for k, v in notes.items() if k not in ("architecture", "config")}
    profile = profile_of(looks)
    save_network(args.weights, network, own, profile, dtype=torch.float16)
    print(f"sha256 {digest(args.weights)}")
    for k, path in enumerate(path for path, weight in weights.items() if not weight):
        found = looks_of(path, 40, network, args.seed * 1000 + 500 + k)
        distances = profile.distance(*map(torch.cat, zip(*found, strict=True)))
        shares = f"median {distances.median():.2f}, beyond 1: {(distances > 1).sum()} of 40"
        print(f"{path.stem}, held out: {shares}", flush=True)


if __name__ == "__main__":
    main()
