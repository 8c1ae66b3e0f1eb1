"""Stacks of five neighbouring planes for the prior of volumes: drawn ones, and real images bent.

    python prepare_volumes.py images volumes

``images`` is the folder that `prepare_images.py` wrote. Volumes that anyone may use and that are
sharp in all three directions are rare, so most are drawn: shells, blobs, threads and points, cut
into planes that are one to three pixels apart. Real images give the rest: they are bent, zoomed
and shaded a little differently in every plane, as neighbouring planes of a thick sample are.

Four of five stacks get shot noise. What microscopes call a sharp image has it, and a prior that
was trained without such images underestimates the uncertainty there.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.random import Generator, default_rng
from numpy.typing import NDArray
from prepare_images import scaled
from scipy.ndimage import gaussian_filter, map_coordinates

Array = NDArray[np.float32]

PLANES, SIDE = 5, 128
DEPTH, VOLUMES, CUTS = 24, 400, 3
BENT = 4  # stacks from every real image
# Photons at the brightest of a stack with shot noise.
PHOTONS = (8, 400)


def main() -> None:
    """Write ``volumes/SUBJECT/NAME.npy``, float32 (plane, row, column)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=Path)
    parser.add_argument("volumes", type=Path)
    args = parser.parse_args()
    rng = default_rng(0)
    for index in range(VOLUMES):
        volume = drawn(rng)
        for cut in range(CUTS):
            first = int(rng.integers(0, DEPTH - PLANES + 1))
            stack = volume[first : first + PLANES]
            if stack.max() > 0.2 * volume.max():
                write(args.volumes / f"drawn{index:03}", f"{cut}", stack, rng)
    for folder in sorted(args.images.iterdir()):
        if folder.name == "drawn":
            continue
        for path in sorted(folder.glob("*.npy")):
            image = np.load(path)
            for turn in range(BENT):
                if min(image.shape) >= SIDE:
                    stack = bent(image, rng)
                    write(args.volumes / folder.name, f"{path.stem}_{turn}", stack, rng)


def write(folder: Path, name: str, stack: Array, rng: Generator) -> None:
    """Scale a stack, let four of five be noisy, and write it."""
    stack = scaled(stack)
    if rng.random() < 0.8:
        photons = float(np.exp(rng.uniform(*np.log(PHOTONS))))
        stack = (rng.poisson(stack.astype(float) * photons) / photons).astype(np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"{name}.npy", stack)


def drawn(rng: Generator) -> Array:
    """A volume (plane, row, column) of shells, threads and points over an uneven background."""
    step = rng.uniform(1, 3)  # between planes, in pixels
    grid = np.mgrid[:DEPTH, :SIDE, :SIDE].astype(np.float32)
    grid[0] *= step
    volume = np.zeros((DEPTH, SIDE, SIDE), np.float32)
    for _ in range(int(rng.integers(1, 5))):
        volume += rng.uniform(0.2, 1.5) * cell(rng, grid, step)
    if rng.random() < 0.4:
        volume += rng.uniform(0.3, 2) * threads(rng, step)
    if rng.random() < 0.3:
        volume += rng.uniform(0.3, 2) * points(rng, step)
    volume += rng.uniform(0, 0.15) * smooth(rng, 30, step).clip(0)
    return volume


def cell(rng: Generator, grid: Array, step: float) -> Array:
    """A lobed body, bright at its rim, inside, or in granules, perhaps with spines."""
    extent = np.array([DEPTH * step, SIDE, SIDE], np.float32)
    place = grid - (rng.uniform(0.1, 0.9, 3) * extent).astype(np.float32).reshape(3, 1, 1, 1)
    radius = np.sqrt((place**2).sum(0)) + 1e-3
    size = float(np.exp(rng.uniform(np.log(6), np.log(60))))
    outline = 1 + 0.12 * smooth(rng, 12, step)
    if rng.random() < 0.4:  # spines: bumps of a pattern over the directions
        towards = np.tensordot(rng.standard_normal((3, 3)), place / radius, 1) * rng.uniform(3, 9)
        outline += rng.uniform(0.05, 0.3) * (np.cos(towards).prod(0)).clip(0) ** 2
    away = radius - size * outline
    rim = np.exp(-((away / np.exp(rng.uniform(0, 2))) ** 2))
    inside = 1 / (1 + np.exp(np.clip(away / rng.uniform(0.6, 2), -30, 30)))
    grain = smooth(rng, float(np.exp(rng.uniform(0, 2.3))), step)
    texture = [np.ones_like(grain), (0.5 + 0.4 * grain).clip(0), (grain - 1).clip(0)]
    share = rng.dirichlet([0.7, 0.7])
    body = share[0] * rim * (1 + 0.3 * grain) + share[1] * inside * texture[rng.integers(3)]
    return body.astype(np.float32)


def threads(rng: Generator, step: float) -> Array:
    """Smoothly bent curves a few pixels wide."""
    count, steps = int(rng.integers(5, 40)), 2 * SIDE
    curve = gaussian_filter(rng.standard_normal((2, count, steps)), (0, 0, 30))
    angle, rise = (curve * rng.uniform(0.02, 0.3)).cumsum(2) + rng.uniform(-3, 3, (2, count, 1))
    level = np.cos(rise)
    along = np.stack([np.sin(rise) / step, level * np.sin(angle), level * np.cos(angle)])
    start = rng.uniform(0, 1, (3, count, 1)) * np.array([DEPTH, SIDE, SIDE]).reshape(3, 1, 1)
    points_ = (start + along.cumsum(2)).reshape(3, -1).T
    bins, _ = np.histogramdd(points_, (DEPTH, SIDE, SIDE), [(0, DEPTH), (0, SIDE), (0, SIDE)])
    return spots(bins, rng.uniform(0.7, 2), step)


def points(rng: Generator, step: float) -> Array:
    """Beads and puncta."""
    bins = np.zeros((DEPTH, SIDE, SIDE))
    count = int(rng.integers(20, 600))
    at = tuple(rng.integers(0, n, count) for n in bins.shape)
    bins[at] = rng.uniform(0.3, 1, count)
    return spots(bins, rng.uniform(0.7, 2.5), step)


def spots(bins: NDArray[np.float64], width: float, step: float) -> Array:
    """Blurred to a width in pixels, the brightest at 1."""
    volume = gaussian_filter(bins, (width / step, width, width))
    return (volume / max(float(np.percentile(volume, 99.9)), 1e-6)).clip(0, 3).astype(np.float32)


def smooth(rng: Generator, width: float, step: float) -> Array:
    """Smooth noise (plane, row, column) of unit variance."""
    noise = rng.standard_normal((DEPTH, SIDE, SIDE)).astype(np.float32)
    noise = gaussian_filter(noise, (width / step, width, width), mode="wrap")
    return noise / noise.std()


def bent(image: Array, rng: Generator) -> Array:
    """Five planes made of a piece of an image, each bent, zoomed and shaded a little further."""
    row, column = (int(rng.integers(0, n - SIDE + 1)) for n in image.shape)
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    noise = gaussian_filter(rng.standard_normal((3, SIDE, SIDE)), (0, 12, 12), mode="wrap")
    dy, dx, shade = noise / noise.std(axis=(1, 2), keepdims=True)
    curve, zoom, fade = rng.uniform(0, 1.5), rng.normal(0, 0.01), rng.uniform(0, 0.3)
    planes = []
    for z in range(-(PLANES // 2), PLANES // 2 + 1):
        at_y = row + y + z * (curve * dy + zoom * (y - SIDE / 2))
        at_x = column + x + z * (curve * dx + zoom * (x - SIDE / 2))
        order = 1 if z else 0  # the middle plane keeps its pixels
        plane = map_coordinates(image, [at_y, at_x], order=order, mode="nearest")
        planes.append(plane * np.exp(fade * z * shade))
    return np.stack(planes).astype(np.float32)


if __name__ == "__main__":
    main()
