"""Draw training images: slices of a head; random geometry, contrast, shading, phase and noise."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional as F  # noqa: N812
from torch.utils.data import IterableDataset, get_worker_info

CANVAS = 208  # pixels along the side of a drawn slice


@dataclass(frozen=True)
class Head:
    """A head on its way into training: volume (right, anterior, superior), 99th percentile 1."""

    volume: Tensor
    is_stack: bool
    weight: float


def load_heads(folder: Path) -> list[Head]:
    """Read the heads that may be trained on: those with a weight."""
    heads = []
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as z:
            if float(z["weight"]) > 0:
                volume = torch.from_numpy(z["volume"].astype(np.float32))
                heads.append(Head(volume, str(z["kind"]) == "stack", float(z["weight"])))
    return heads


def uniform(low: float, high: float, g: Generator) -> float:
    """Draw one number between two."""
    return low + (high - low) * float(torch.rand((), generator=g))


def chance(p: float, g: Generator) -> bool:
    """Say yes with probability p."""
    return bool(torch.rand((), generator=g) < p)


def smooth_field(channels: int, knots: int, g: Generator) -> Tensor:
    """Draw a smooth random field (channels, canvas, canvas) of about unit spread."""
    coarse = torch.randn(1, channels, knots, knots, generator=g)
    return F.interpolate(coarse, (CANVAS, CANVAS), mode="bicubic", align_corners=True)[0]


def rotation(axis: int, angle: float) -> Tensor:
    """Make the 3x3 rotation about a coordinate axis."""
    c, s = math.cos(angle), math.sin(angle)
    matrix = torch.eye(3)
    i, j = [k for k in range(3) if k != axis]
    matrix[i, i], matrix[i, j], matrix[j, i], matrix[j, j] = c, -s, s, c
    return matrix


def plane(head: Head, exact: bool, g: Generator) -> Tensor:
    """Draw the voxel positions (canvas, canvas, 3) of a slice.

    An exact slice meets the centres of voxels, so that interpolation does not blur it.
    """
    shape = torch.tensor(head.volume.shape, dtype=torch.float32)
    normal = 2 if head.is_stack or chance(0.6, g) else int(chance(0.5, g))
    row, column = ([1, 0], [2, 0], [2, 1])[2 - normal]
    t = torch.arange(CANVAS, dtype=torch.float32) - (CANVAS - 1) / 2
    offsets = torch.zeros(CANVAS, CANVAS, 3)
    # rows run from the top of the picture (front, or crown) downwards
    offsets[..., row], offsets[..., column] = -t[:, None], t[None, :]
    centre = (shape - 1) / 2
    reach = 0.48 if head.is_stack else 0.44
    centre[normal] += uniform(-reach, reach, g) * float(shape[normal])
    centre[row] += uniform(-20, 20, g)
    centre[column] += uniform(-20, 20, g)
    if exact:
        return offsets + torch.where(offsets[0, 0] != 0, centre.round() + 0.5, centre.round())
    if chance(0.6, g):
        warp = smooth_field(2, 6, g) * uniform(0.5, 4, g)
        offsets[..., row] += warp[0]
        offsets[..., column] += warp[1]
    scale = math.exp(uniform(math.log(0.85), math.log(1.5), g))
    offsets[..., row] *= scale * uniform(0.93, 1.07, g)
    offsets[..., column] *= scale * uniform(0.93, 1.07, g)
    turn = rotation(normal, uniform(-0.4, 0.4, g))
    if not head.is_stack:
        for axis in {0, 1, 2} - {normal}:
            turn = turn @ rotation(axis, uniform(-0.35, 0.35, g))
    if head.is_stack:
        centre[normal] = centre[normal].round()
    return offsets @ turn.T + centre


def cut(head: Head, positions: Tensor) -> Tensor:
    """Interpolate the head at voxel positions (canvas, canvas, 3); zero outside."""
    shape = torch.tensor(head.volume.shape, dtype=torch.float32)
    grid = (2 * positions + 1) / shape - 1
    # grid_sample wants the last axis of the volume first
    out = F.grid_sample(head.volume[None, None], grid.flip(-1)[None, None], align_corners=False)
    return out[0, 0, 0]


def recontrast(magnitude: Tensor, g: Generator) -> Tensor:
    """Change the contrast: a power, or a curve that rises and falls as between T1 and T2."""
    if chance(0.25, g):
        return magnitude
    if chance(0.6, g):
        return magnitude ** math.exp(uniform(-0.5, 0.5, g))
    knots = torch.rand(7, generator=g)
    knots[0] = 0.0  # air stays dark
    knots[1] *= 0.7  # and its noise low
    position = (magnitude.clamp(0, 1.3) / 1.3 * 6).clamp(max=5.999)
    low = position.long()
    return torch.lerp(knots[low], knots[low + 1], position - low)


def phase(g: Generator) -> Tensor:
    """Draw a smooth phase (canvas, canvas): a constant, a ramp and a slow field."""
    field = torch.full((CANVAS, CANVAS), uniform(-math.pi, math.pi, g))
    if chance(0.15, g):
        return field
    t = torch.linspace(-1, 1, CANVAS)
    field = field + t[:, None] * uniform(-2, 2, g) + t[None, :] * uniform(-2, 2, g)
    return field + smooth_field(1, 5, g)[0] * uniform(0, 0.8, g)


def noise(g: Generator) -> Tensor:
    """Draw a scan's own noise, complex (canvas, canvas).

    It is uneven, as parallel imaging makes it, and for every other scan smooth to a degree, as
    interpolation to finer voxels or a filter of k-space leaves it.
    """
    level = math.exp(uniform(math.log(0.003), math.log(0.06), g))
    uneven = torch.exp(smooth_field(1, 4, g)[0] * uniform(0, 0.4, g))
    grain = torch.view_as_complex(torch.randn(CANVAS, CANVAS, 2, generator=g))
    if chance(0.5, g):
        grain = smoothed(grain, [uniform(0, 0.8, g) for _ in range(2)])
    return level * uneven * grain


def smoothed(grain: Tensor, widths: Sequence[float]) -> Tensor:
    """Blur white noise by a Gaussian of some pixels along either axis; its variance stays."""
    frequency = 2 * math.pi * torch.fft.fftfreq(CANVAS)
    rows, columns = (torch.exp(-0.5 * (w * frequency) ** 2) for w in widths)
    window = rows[:, None] * columns
    window = window / window.square().mean().sqrt()
    return torch.fft.ifft2(torch.fft.fft2(grain) * window)


def truncate(image: Tensor, g: Generator) -> Tensor:
    """Leave out the outer k-space, as a scan of lower resolution does: the edges ring."""
    keep = [int(CANVAS * uniform(0.65, 0.95, g)) // 2 for _ in range(2)]
    k = torch.fft.fftshift(torch.fft.fft2(image))
    mask = torch.zeros_like(k.real)
    c = CANVAS // 2
    mask[c - keep[0] : c + keep[0], c - keep[1] : c + keep[1]] = 1
    return torch.fft.ifft2(torch.fft.ifftshift(k * mask))


def draw_slice(head: Head, g: Generator) -> Tensor:
    """Draw one complex slice as (2, canvas, canvas): re, im."""
    magnitude = cut(head, plane(head, chance(0.5, g), g)).clamp(min=0)
    magnitude = recontrast(magnitude, g)
    if chance(0.6, g):
        magnitude = magnitude * torch.exp(smooth_field(1, 4, g)[0] * uniform(0, 0.3, g))
    bright = magnitude[magnitude > 0.1]
    top = float(bright.kthvalue(max(1, int(0.99 * len(bright))))[0]) if len(bright) > 500 else 1.0
    # A sample on its way to the data can be far too bright. A network that never saw such images
    # may answer with anything; here it learns to go on in proportion.
    low, high = (1.3, 10.0) if chance(0.1, g) else (0.7, 1.3)
    magnitude = magnitude / max(top, 0.2) * math.exp(uniform(math.log(low), math.log(high), g))
    # Real scans keep some noise. A prior that never saw any takes it for an error and is too sure.
    if chance(0.35, g):
        magnitude = (magnitude + noise(g)).abs()  # as in heads that come as magnitudes
    image = torch.polar(magnitude, phase(g))
    if chance(0.35, g):
        image = image + noise(g)
    if chance(0.25, g):
        image = truncate(image, g)
    out = torch.stack([image.real, image.imag])
    if chance(0.5, g):
        out = out.flip(-1)
    return torch.rot90(out, int(torch.randint(4, (), generator=g)), (1, 2))


def crops(image: Tensor, size: int, count: int, g: Generator) -> list[Tensor]:
    """Cut random squares; an empty one is drawn once more."""
    out = []
    for _ in range(count):
        for _attempt in range(2):
            y, x = (int(torch.randint(CANVAS - size + 1, (), generator=g)) for _ in range(2))
            crop = image[:, y : y + size, x : x + size]
            if crop.abs().mean() > 0.08:
                break
        out.append(crop)
    return out


class SliceStream(IterableDataset[Tensor]):
    """Endless batches (batch, 2, size, size): many small crops or, at equal cost, few large."""

    def __init__(self, folder: Path, seed: int, slices: int = 4, large: float = 0.35) -> None:
        self.folder, self.seed, self.slices, self.large = folder, seed, slices, large

    def __iter__(self) -> Iterator[Tensor]:
        worker = get_worker_info()
        g = torch.Generator().manual_seed(self.seed * 1000 + (worker.id if worker else 0))
        heads = load_heads(self.folder)
        weights = torch.tensor([h.weight for h in heads])

        def one() -> Tensor:
            return draw_slice(heads[int(torch.multinomial(weights, 1, generator=g))], g)

        while True:
            if chance(self.large, g):
                yield torch.stack([crops(one(), 192, 1, g)[0] for _ in range(self.slices)])
            else:
                yield torch.stack([c for _ in range(self.slices) for c in crops(one(), 96, 4, g)])
