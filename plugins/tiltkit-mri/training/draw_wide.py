"""Drawn images of many kinds, for a prior that must not depend on anatomy.

    python draw_wide.py images/drawn --count 900 --seed 0

Each file is one magnitude image (row, column) whose bright pixels are about 1: ellipses with
shading, test objects with rods, grids and combs, bars, letters, overlapping leaves, smooth random
fields, and bodies of piecewise tissue. Edges are drawn at twice the size and averaged.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.random import Generator, default_rng
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter
from skimage.measure import block_reduce

from tiltkit.priors.scale import image_scale

Array = NDArray[np.float64]

SIDE = 192
FINE = 2 * SIDE


def main() -> None:
    """Write ``FOLDER/KIND-NUMBER.npy``, float32."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=900)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    for number in range(args.count):
        rng = default_rng((args.seed, number))
        kind = KINDS[number % len(KINDS)]
        image = block_reduce(kind(rng), (2, 2), np.mean)
        np.save(args.folder / f"{kind.__name__}-{number:04}.npy", finished(image, rng))


def finished(image: Array, rng: Generator) -> NDArray[np.float32]:
    """Coil shading, a little blur and noise in some images; bright pixels about 1."""
    if rng.random() < 0.5:
        image = image * (1 + rng.uniform(0.1, 0.8) * field(rng, SIDE, 4.0).clip(-1.2, 1.5))
    if rng.random() < 0.3:
        image = gaussian_filter(image, rng.uniform(0.3, 1.2))
    image = np.abs(image)
    image = image / image_scale(image.astype(np.float32), 99.0)
    if rng.random() < 0.3:
        noise = rng.normal(size=(2, *image.shape)) * np.exp(
            rng.uniform(np.log(0.003), np.log(0.04))
        )
        image = np.hypot(image + noise[0], noise[1])
    return (image * np.exp(rng.uniform(-0.25, 0.15))).astype(np.float32)


def field(rng: Generator, side: int, power: float) -> Array:
    """A Gaussian random field of mean 0 and deviation 1 whose amplitude falls with f^-power/2."""
    y, x = np.meshgrid(np.fft.fftfreq(side), np.fft.rfftfreq(side), indexing="ij")
    f = np.hypot(y, x)
    f[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.normal(size=(side, side))) * f ** (-power / 2)
    out = np.fft.irfft2(spectrum, (side, side))
    return (out - out.mean()) / out.std()


def grid() -> tuple[Array, Array]:
    """Coordinates from -1 to 1."""
    y, x = np.meshgrid(*2 * [np.linspace(-1, 1, FINE)], indexing="ij")
    return y, x


def inside(rng: Generator, centre: float, smallest: float, largest: float) -> NDArray[np.bool_]:
    """An ellipse, rectangle or wavy blob at a random place."""
    y, x = grid()
    y, x = y - rng.uniform(-centre, centre), x - rng.uniform(-centre, centre)
    turn = rng.uniform(0, np.pi)
    y, x = y * np.cos(turn) - x * np.sin(turn), y * np.sin(turn) + x * np.cos(turn)
    a, b = np.exp(rng.uniform(np.log(smallest), np.log(largest), 2))
    y, x = y / a, x / b
    shape = rng.random()
    if shape < 0.5:
        return np.hypot(y, x) < 1
    if shape < 0.75:
        return np.maximum(abs(y), abs(x)) < 0.85
    angle = np.arctan2(y, x)
    wave = sum(rng.normal() * 0.12 * np.cos(k * angle + rng.uniform(0, 6)) for k in range(2, 7))
    return np.hypot(y, x) < 0.9 + wave


def ellipses(rng: Generator) -> Array:
    """Overlapping ellipses whose values add up or replace each other."""
    image = np.zeros((FINE, FINE))
    replaces = rng.random() < 0.5
    for _ in range(rng.integers(3, 25)):
        where, value = inside(rng, 0.7, 0.02, 0.9), rng.uniform(-0.5, 1)
        image[where] = abs(value) if replaces else image[where] + value
    return image.clip(0)


def test_object(rng: Generator) -> Array:
    """A bottle or box with rods, a grid, a comb, wedges and holes."""
    y, x = grid()
    a, b = rng.uniform(0.5, 0.95, 2)
    body = np.hypot(y / a, x / b) < 1 if rng.random() < 0.6 else (abs(y) < a) & (abs(x) < b)
    image = body * 1.0
    for _ in range(rng.integers(2, 7)):
        top, left = rng.uniform(-0.7, 0.3, 2)
        height, width = rng.uniform(0.15, 0.7, 2)
        part = (y > top) & (y < top + height) & (x > left) & (x < left + width) & body
        period = np.exp(rng.uniform(np.log(0.02), np.log(0.2)))
        gap = rng.uniform(0.2, 0.6)
        u, v = (y - top) / period, (x - left) / period
        pattern = (
            np.hypot(u % 1 - 0.5, v % 1 - 0.5) < gap / 1.5,  # rods
            (u % 1 < gap / 2) | (v % 1 < gap / 2),  # grid
            u % 1 < gap,  # comb
            v % 1 < gap,
            (y - top) / height < (x - left) / width,  # wedge
            np.ones_like(body),
        )[rng.integers(6)]
        image[part & pattern] = rng.choice([0, 0, rng.uniform(0, 1.3)])
    return image


def bars(rng: Generator) -> Array:
    """Stripes and chirps at several angles, hard or soft, in a window or everywhere."""
    y, x = grid()
    image = np.full((FINE, FINE), rng.uniform(0, 0.5))
    for _ in range(rng.integers(1, 6)):
        turn, frequency = rng.uniform(0, np.pi), np.exp(rng.uniform(np.log(4), np.log(150)))
        along = y * np.cos(turn) + x * np.sin(turn) + rng.uniform(0, 0.5) * (y**2 + x**2)
        wave = np.sin(frequency * along)
        wave = (
            np.where(wave > rng.uniform(-0.5, 0.5), 1, 0) if rng.random() < 0.5 else wave / 2 + 0.5
        )
        where = inside(rng, 0.6, 0.2, 1.5)
        image[where] = (rng.uniform(0.3, 1) * wave + rng.uniform(0, 0.3))[where]
    return image


def letters(rng: Generator) -> Array:
    """Letters and numbers of several sizes on a bright or dark page."""
    page = Image.new("F", (FINE, FINE), float(rng.uniform(0, 1)))
    draw = ImageDraw.Draw(page)
    symbols = list("ABCDEFGHKLMNPRSTUVWXYZabcdefghkmnopqrstuvwxyz0123456789+-=%&")
    for _ in range(rng.integers(2, 40)):
        size = float(np.exp(rng.uniform(np.log(14), np.log(120))))
        text = "".join(rng.choice(symbols, rng.integers(1, 9)))
        place = tuple(rng.integers(-20, FINE - 20, 2).tolist())
        draw.text(place, text, float(rng.uniform(0, 1)), ImageFont.load_default(size))
    image = np.asarray(page, float)
    return image * (1 + 0.1 * field(rng, FINE, 3.0)) if rng.random() < 0.3 else image


def leaves(rng: Generator) -> Array:
    """Shapes that cover each other, sizes by a power law, each flat, shaded or with texture."""
    image = np.full((FINE, FINE), rng.uniform(0, 1))
    textures = [field(rng, FINE, p) for p in (1.5, 2.2, 3.0)]
    for _ in range(rng.integers(30, 120)):
        where = inside(rng, 1.2, 0.015, rng.uniform(0.2, 0.7))
        value = rng.uniform(0, 1)
        if rng.random() < 0.5:
            texture = np.roll(textures[rng.integers(3)], rng.integers(FINE, size=2), (0, 1))
            image[where] = value * (1 + rng.uniform(0, 0.4) * texture[where])
        else:
            image[where] = value
    return image.clip(0)


def clouds(rng: Generator) -> Array:
    """A random field of any roughness, some squashed to spots or folded to filaments."""
    one = field(rng, FINE, rng.uniform(1.6, 4.0))
    image = (
        one - one.min(),
        np.exp(rng.uniform(0.5, 1.2) * one),
        abs(one),
        1 / (1 + np.exp(-rng.uniform(2, 12) * one)),
    )[rng.integers(4)]
    return image / np.percentile(image, 99)


def tissue(rng: Generator) -> Array:
    """A body in air with skin, fat, organs or bones of nearly constant value and fine texture."""
    body = inside(rng, 0.15, 0.5, 0.95)
    for _ in range(rng.integers(0, 3)):
        body = body | inside(rng, 0.5, 0.2, 0.6)
    levels = rng.uniform(0.05, 1, rng.integers(3, 7))
    part = field(rng, FINE, rng.uniform(2.8, 4.5))
    image = levels[np.digitize(part, np.quantile(part, np.linspace(0, 1, len(levels) + 1)[1:-1]))]
    for _ in range(rng.integers(0, 8)):
        bone = inside(rng, 0.6, 0.05, 0.35)
        rim = gaussian_filter(bone.astype(float), rng.uniform(2, 6))
        image = np.where(
            rim > 0.75, rng.uniform(0.1, 1), np.where(rim > 0.25, rng.uniform(0, 0.3), image)
        )
    depth = gaussian_filter(body.astype(float), rng.uniform(3, 14))
    image = np.where(depth < rng.uniform(0.6, 0.95), rng.uniform(0.4, 1.3), image)
    image = image * (1 + rng.uniform(0, 0.25) * field(rng, FINE, rng.uniform(0.8, 2.5)))
    return np.where(body, image, 0).clip(0)


KINDS: tuple[Callable[[Generator], Array], ...] = (
    ellipses, test_object, bars, letters, leaves, clouds, tissue, leaves, tissue, test_object,
)  # fmt: skip


if __name__ == "__main__":
    main()
