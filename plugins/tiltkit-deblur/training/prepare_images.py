"""Unpack fluorescence images from the packages that carry them and draw some: a folder per subject.

    python prepare_images.py packages images

Each image loses its dark level and is made smaller by means over pixels, because microscopes blur:
what remains is about as sharp as an image without blur. Its bright end becomes 1.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.random import Generator, default_rng
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage.io import imread
from skimage.measure import block_reduce

from tiltkit.priors.scale import image_scale

Array = NDArray[np.float32]

SIDE = 256
# Folder of CellProfiler's examples, pattern of its files, by how much they are made smaller.
EXAMPLES = (
    ("ExampleHuman", "*.tif", (2, 3)),
    ("ExampleFly", "*.TIF", (3, 4, 6)),
    ("ExampleColocalization", "*.png", (3, 5)),
    ("ExampleTrackObjects", "*.tif", (2,)),
    ("ExampleSpeckles", "*.tif", (2, 3)),
    ("ExamplePercentPositive", "*.tif", (2, 3)),
    ("ExampleIlluminationCorrection", "AS_09047*.TIF", (4, 6)),
    ("ExampleCometAssay", "*.tif", (3, 5)),
)


def main() -> None:
    """Write ``images/SUBJECT/NAME.npy``, float32 (row, column)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packages", type=Path)
    parser.add_argument("images", type=Path)
    args = parser.parse_args()
    for name, pattern, factors in EXAMPLES:
        folder = args.packages / "cellprofiler-examples" / name
        paths = sorted(folder.rglob(pattern))[:24]
        write(args.images / name, [image for path in paths for image in real(path, factors)])
    worm = args.packages / "sdeconv/data/celegans.tif"
    write(args.images / "celegans", real(worm, (2,)))
    rng = default_rng(0)
    write(args.images / "drawn", [drawn(rng) for _ in range(150)])


def write(folder: Path, images: Sequence[Array]) -> None:
    """Write the images of one subject."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, image in enumerate(images):
        np.save(folder / f"{index:03}.npy", scaled(image))


def scaled(image: Array) -> Array:
    """The image without its dark level, divided by its `image_scale`."""
    image = np.clip(image - np.percentile(image, 0.5), 0, None)
    return (image / image_scale(image)).astype(np.float32)


def real(path: Path, factors: Sequence[int]) -> list[Array]:
    """One channel of a file at several sizes."""
    image = imread(path).astype(np.float32)
    if image.ndim == 3:
        image = image.max(-1) if image.shape[-1] <= 4 else image[0]
    sizes = [block_reduce(image, f, np.mean) for f in factors]
    return [size for size in sizes if min(size.shape) >= 96]


def drawn(rng: Generator) -> Array:
    """Shells, blobs, threads and points, as sharp as pixels allow, on an uneven background."""
    n = 2 * SIDE
    image = np.zeros((n, n), np.float32)
    for _ in range(int(rng.integers(1, 7))):
        image += rng.uniform(0.2, 1.5) * cell(rng, n)
    if rng.random() < 0.5:
        image += rng.uniform(0.3, 2) * threads(rng, n, int(rng.integers(5, 40)))
    if rng.random() < 0.4:
        image += rng.uniform(0.3, 2) * points(rng, n, int(rng.integers(10, 300)))
    image += rng.uniform(0, 0.15) * smooth(rng, n, 60).clip(0)
    return image.reshape(SIDE, 2, SIDE, 2).mean((1, 3))


def cell(rng: Generator, n: int) -> Array:
    """A cell: a lobed outline, bright at its rim, inside, or in granules, perhaps with spines."""
    y, x = np.mgrid[:n, :n].astype(np.float32)
    y, x = y - rng.uniform(0.15, 0.85) * n, x - rng.uniform(0.15, 0.85) * n
    angle, radius = np.arctan2(y, x), np.hypot(y, x)
    size = np.exp(rng.uniform(np.log(0.04), np.log(0.35))) * n
    outline = 1 + 0.15 * smooth(rng, n, 40)
    for k in range(2, 5):
        outline += rng.uniform(0, 0.12) * np.cos(k * angle + rng.uniform(0, 7))
    if rng.random() < 0.3:
        outline += rng.uniform(0.05, 0.25) * np.cos(rng.integers(10, 40) * angle).clip(0) ** 2
    depth = radius / (size * outline)
    rim = np.exp(-(((depth - 1) * size / np.exp(rng.uniform(0.3, 2.3))) ** 2))
    inside = 1 / (1 + np.exp(np.clip((depth - 1) * size / 1.5, -30, 30)))
    grain = smooth(rng, n, float(np.exp(rng.uniform(0.7, 3))))
    texture = [np.ones_like(grain), (0.5 + 0.4 * grain).clip(0), (grain - 1).clip(0)]
    share = rng.dirichlet([0.7, 0.7])
    return (share[0] * rim + share[1] * inside * texture[rng.integers(3)]).astype(np.float32)


def threads(rng: Generator, n: int, count: int) -> Array:
    """Smoothly bent curves a few pixels wide."""
    steps = 2 * n
    turn = gaussian_filter(rng.standard_normal((count, steps)), (0, 30)) * rng.uniform(0.02, 0.5)
    angle = rng.uniform(0, 2 * np.pi, (count, 1)) + turn.cumsum(1)
    y = rng.uniform(0, n, (count, 1)) + np.sin(angle).cumsum(1)
    x = rng.uniform(0, n, (count, 1)) + np.cos(angle).cumsum(1)
    bins, _, _ = np.histogram2d(y.ravel(), x.ravel(), n, [[0, n], [0, n]])
    width = rng.uniform(0.8, 2.5)
    return (gaussian_filter(bins, width) * width * 2.5).astype(np.float32)


def points(rng: Generator, n: int, count: int) -> Array:
    """Beads and puncta."""
    image = np.zeros((n, n), np.float32)
    rows, columns = rng.integers(0, n, (2, count))
    width = rng.uniform(0.8, 3)
    image[rows, columns] = rng.uniform(0.3, 1, count)
    return gaussian_filter(image, width) * np.float32(2 * np.pi * width**2)


def smooth(rng: Generator, n: int, width: float) -> Array:
    """Smooth noise of unit variance."""
    noise = gaussian_filter(rng.standard_normal((n, n)), width, mode="wrap")
    return (noise / noise.std()).astype(np.float32)


if __name__ == "__main__":
    main()
