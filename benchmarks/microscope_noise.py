"""Estimated over true gain of simulated cameras, and the faults of images that are noticed.

    python benchmarks/microscope_noise.py [--scans 120] [--each]

Healthy images are cells, filaments, stars, text and tissue, blurred by 0.8 to 2 pixels, with 20 to
2,000 electrons at the brightest point, gains of 0.25 to 10, offsets of 0 to 400, one plane of
128 x 128 or of 512 x 512 pixels, or eight planes of 128 x 128. Each kind of preprocessing or camera
is then applied to half as many images. The table has the ratio of the gain and the notes by kind:
a healthy image should have none that says that the noise is doubtful, every other image one.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from tiltkit_deblur.noise import Camera
from tiltkit_deblur.options import DeblurOptions
from tiltkit_deblur.photometry import Photometry
from tiltkit_deblur.volume import Volume

Array = NDArray[np.float64]
# Largest relative error of the gain that counts as right.
LIMIT = 0.2
SCENES = ("cells", "filaments", "stars", "text", "tissue")


@dataclass(frozen=True)
class Shot:
    """Readings (z, y, x) of a camera, and the scene.

    Attributes:
        readings: Gain times electrons, offset and read noise.
        light: Expected electrons.
        camera: The truth.
        kind: Kind of the scene.
    """

    readings: Array
    light: Array
    camera: Camera
    kind: str


def scene(kind: str, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Light (z, y, x) before the blur, at most 1."""
    out = np.zeros(shape)
    for plane in out:
        if kind == "stars":
            n = max(8, plane.size // 400)
            at = tuple(rng.integers(0, n_axis, n) for n_axis in plane.shape)
            np.add.at(plane, at, 10 ** rng.uniform(-2, 0, n))
        elif kind == "filaments":
            for _ in range(max(3, plane.size // 2000)):
                steps = np.cumsum(rng.normal(0, 0.08, 200)) + rng.uniform(0, 6.3)
                path = np.cumsum([np.cos(steps), np.sin(steps)], axis=1)
                path += rng.uniform(0, plane.shape[0], (2, 1))
                plane[tuple(path.astype(int) % np.array(plane.shape)[:, None])] = rng.uniform(
                    0.3, 1
                )
        elif kind == "text":
            marks = np.kron(rng.random((plane.shape[0] // 4, plane.shape[1] // 4)) < 0.25,
                            np.ones((4, 4)))  # fmt: skip
            lines = (np.arange(plane.shape[0]) // 16 % 2)[:, None]
            plane[...] = marks * lines
        elif kind == "tissue":
            rough = ndimage.gaussian_filter(rng.normal(size=plane.shape), 2.5)
            plane[...] = np.clip(0.4 + 0.25 * rough / rough.std(), 0, 1)
        else:
            rough = ndimage.gaussian_filter(rng.normal(size=plane.shape), 8)
            fine = ndimage.gaussian_filter(rng.normal(size=plane.shape), 1.5)
            plane[...] = (rough > rough.std()) * (1 + 0.3 * fine / fine.std()).clip(0)
    return out


def shoot(kind: str, rng: np.random.Generator) -> Shot:
    """A healthy image."""
    shape = [(1, 128, 128), (1, 512, 512), (8, 128, 128)][rng.integers(3)]
    blur = rng.uniform(0.8, 2.0)
    light = ndimage.gaussian_filter(scene(kind, shape, rng), (0, blur, blur))
    light *= rng.choice([20.0, 200.0, 2000.0]) / light.max()
    light += rng.choice([1.0, 5.0, 20.0])
    gain = float(rng.choice([0.25, 1.0, 2.2, 10.0]))
    noise = gain * float(rng.choice([0.0, 1.5, 4.0]))
    offset = float(rng.choice([100, 400])) if noise else float(rng.choice([0, 100]))
    camera = Camera(gain, offset, noise)
    return Shot(expose(light, camera, rng), light, camera, kind)


def expose(light: Array, camera: Camera, rng: np.random.Generator) -> Array:
    """Whole numbers, as cameras give them."""
    readings = camera.gain * rng.poisson(light) + camera.offset
    return (readings + camera.read_noise * rng.normal(size=light.shape)).round().clip(0)


def upsampled(shot: Shot, _: np.random.Generator) -> Array:
    """Twice as many pixels, by cubic interpolation."""
    return ndimage.zoom(shot.readings, (1, 2, 2), order=3).round()


def smoothed(shot: Shot, _: np.random.Generator) -> Array:
    """A Gaussian filter of one pixel."""
    return ndimage.gaussian_filter(shot.readings, (0, 1, 1)).round()


def median_filtered(shot: Shot, _: np.random.Generator) -> Array:
    """A median filter of 3 x 3 pixels."""
    return ndimage.median_filter(shot.readings, (1, 3, 3))


def subtracted_and_clipped(shot: Shot, _: np.random.Generator) -> Array:
    """The median subtracted; what is below is zero."""
    return (shot.readings - np.median(shot.readings)).clip(0)


def eight_bits(shot: Shot, _: np.random.Generator) -> Array:
    """Rescaled to 0 to 255, with 0.4 % of the pixels at the upper end, as for display."""
    low, high = np.percentile(shot.readings, [0.1, 99.6])
    return (255 * (shot.readings - low) / (high - low)).clip(0, 255).round()


def cut_off(shot: Shot, _: np.random.Generator) -> Array:
    """The brightest 1 % cut off, not at a usual full scale."""
    return shot.readings.clip(None, np.percentile(shot.readings, 99))


def multiplied(shot: Shot, rng: np.random.Generator) -> Array:
    """Electrons multiplied by chance, as in an EMCCD."""
    electrons = rng.poisson(shot.light)
    gained = rng.gamma(np.maximum(electrons, 1e-9)) * 10.0
    return (gained + 100 + 5 * rng.normal(size=gained.shape)).round()


def columns(shot: Shot, rng: np.random.Generator) -> Array:
    """Columns with offsets of their own, as large as the noise of dark pixels."""
    level = 2 * shot.camera.variance(float(np.median(shot.readings))) ** 0.5
    return shot.readings + level * rng.normal(size=shot.readings.shape[-1])


def gamma(shot: Shot, _: np.random.Generator) -> Array:
    """Brightness to the power of 0.45, as cameras for display give."""
    signal = (shot.readings - shot.readings.min()) / np.ptp(shot.readings)
    return (65535 * signal**0.45).round()


FAULTS: tuple[Callable[[Shot, np.random.Generator], Array], ...] = (
    upsampled, smoothed, median_filtered, subtracted_and_clipped, eight_bits, cut_off, multiplied,
    columns, gamma,
)  # fmt: skip


# Faults that leave a gain to find.
SAME_GAIN = (subtracted_and_clipped, cut_off, multiplied, columns)


def rows(n: int, rng: np.random.Generator) -> Iterator[tuple[str, float, tuple[str, ...]]]:
    """Kind, estimated over true gain, and codes of the notes of every image."""
    for i in range(n):
        shot = shoot(SCENES[i % len(SCENES)], rng)
        ratio, codes = examine(shot.readings, shot.camera.gain)
        for kind in ("healthy", f"- {shot.kind}"):
            yield kind, ratio, codes
    for fault in FAULTS:
        for i in range(n // 2):
            shot = shoot(SCENES[i % len(SCENES)], rng)
            # An EMCCD doubles the variance; other faults leave no gain, or the same.
            gain = 20.0 if fault is multiplied else shot.camera.gain
            ratio, codes = examine(fault(shot, rng), gain)
            yield fault.__name__, ratio if fault in SAME_GAIN else np.nan, codes


def examine(readings: Array, gain: float) -> tuple[float, tuple[str, ...]]:
    """Estimated over true gain, and the codes of the notes."""
    stack = readings.astype(np.float32)
    shape = (1, 1, *stack.shape)
    volume = Volume(Path("a.tif"), "", shape, stack.dtype, lambda _t, _c, window: stack[window])
    photometry = Photometry(volume, DeblurOptions(), 0, [0])
    codes = [note.code for note in photometry.noise.notes]
    if photometry.saturated:
        codes.append("saturated")
    return photometry.camera.gain / gain, tuple(codes)


def main() -> None:
    """Print ratios and notes by kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scans", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--each", action="store_true", help="print every image")
    args = parser.parse_args()
    ratios: dict[str, list[float]] = {}
    notes: dict[str, Counter[str]] = {}
    noted: Counter[str] = Counter()
    silent: Counter[str] = Counter()
    for kind, ratio, codes in rows(args.scans, np.random.default_rng(args.seed)):
        ratios.setdefault(kind, []).append(ratio)
        notes.setdefault(kind, Counter()).update(codes)
        noted[kind] += bool(codes)
        silent[kind] += not codes and not abs(ratio - 1) <= LIMIT
        if args.each:
            print(f"{kind:24} {ratio:8.3f} {', '.join(codes)}")
    print(
        f"{'kind':24}images  median  lowest highest  within {LIMIT:.0%}  noted"
        "  wrong, not noted  notes"
    )
    for kind, found in ratios.items():
        a = np.array(found)
        right = f"{(np.abs(a - 1) <= LIMIT).mean():8.0%}"
        figures = f"{np.median(a):7.3f} {a.min():7.3f} {a.max():7.3f} {right}"
        what = ", ".join(f"{code} {count}" for code, count in notes[kind].most_common(3))
        counts = f"{noted[kind] / len(a):8.0%} {silent[kind] / len(a):8.0%}"
        print(f"{kind:24}{len(a):6d} {figures} {counts}             {what}")


if __name__ == "__main__":
    main()
