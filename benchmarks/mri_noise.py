"""Estimated over true noise level of simulated MRI scans, by kind.

    python benchmarks/mri_noise.py [--scans 80] [--each]

Every scan is a slice of datasets/colin27.npz with a smooth phase, 1 to 32 coils with correlated
noise and unequal gains, 1x to 8x acceleration, and noise of 0.5 to 10 % of the head's brightness.
Some have a receiver filter that lowers the noise at the edges of the readout, some no air along the
readout, some a spike, some a small object in a large field of view. The true level is the root mean
square over the coils, per real component, where the filter passes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from tiltkit_mri.noise import whitening
from tiltkit_mri.noise_places import find_noise

sys.path.insert(0, str(Path(__file__).parents[1] / "datasets"))
import make_scan

Complex = NDArray[np.complex128]
# Largest relative error that counts as right.
LIMIT = 0.15


@dataclass(frozen=True)
class Kind:
    """Kind of a scan: a name for the table, and its properties."""

    coils: int
    acceleration: int
    noise: float
    filtered: bool = False
    air: bool = True
    spikes: int = 0
    size: float = 1.0

    @property
    def names(self) -> Iterator[str]:
        """All kinds that the scan belongs to."""
        yield "all"
        yield f"{self.coils} coils"
        yield f"{self.acceleration}x"
        yield f"noise {self.noise:g}"
        yield "receiver filter" if self.filtered else "no filter"
        yield "air" if self.air else "no air"
        if self.spikes:
            yield "spikes"
        yield "small object" if self.size < 1 else "large object"


def simulate(kind: Kind, rng: np.random.Generator) -> tuple[Complex, NDArray[np.bool_], float]:
    """k-space (coil, row, column), its measured columns, and the true noise level."""
    image = next(make_scan.head([int(rng.integers(8))], rng))
    if kind.size < 1:
        shape = image.shape
        image = ndimage.zoom(image, kind.size, order=1)
        before = [(a - b) // 2 for a, b in zip(shape, image.shape, strict=True)]
        image = np.pad(image, [(b, a - c - b) for b, a, c in
                               zip(before, shape, image.shape, strict=True)])  # fmt: skip
    maps = make_scan.coil_maps(kind.coils, image.shape, rng)
    if kind.air:
        clean = make_scan.kspace_of(image, maps)
    else:  # the object fills the readout
        inside = slice(50, 170)
        clean = make_scan.kspace_of(image[inside], maps[:, inside])[:, ::2]
    mix = np.eye(kind.coils) + 0.3 * rng.normal(size=(kind.coils, kind.coils)) / kind.coils**0.5
    mix *= rng.uniform(0.6, 1.6, size=(kind.coils, 1))
    white = rng.normal(size=(*clean.shape, 2)) @ np.array([1, 1j])
    noise = kind.noise * np.einsum("cd,d...->c...", mix, white)
    level = kind.noise * float(np.sqrt((np.abs(mix) ** 2).sum() / kind.coils))
    data = clean + noise
    if kind.filtered:
        data = receiver_filter(data, rng)
    columns = make_scan.mask(clean.shape[2], kind.acceleration, 24, rng)
    for _ in range(kind.spikes):
        row, column = rng.integers(clean.shape[1]), rng.choice(np.flatnonzero(columns))
        data[:, row, column] += 2 * np.abs(clean).max() * np.exp(2j * np.pi * rng.random())
    return data * columns, columns, level


def receiver_filter(data: Complex, rng: np.random.Generator) -> Complex:
    """Lower the image rows (coil, row, column) at the edges of the readout."""
    rows = np.abs(np.arange(data.shape[1]) / data.shape[1] - 0.5) * 2
    width, order = rng.uniform(0.75, 0.95), rng.integers(6, 20)
    gain = 1 / np.sqrt(1 + (rows / width) ** (2 * order))
    image = np.fft.fftshift(np.fft.ifft(np.fft.ifftshift(data, axes=1), axis=1), axes=1)
    image *= gain[:, None]
    back: Complex = np.fft.fftshift(np.fft.fft(np.fft.ifftshift(image, axes=1), axis=1), axes=1)
    return back


def kinds(n: int, rng: np.random.Generator) -> Iterator[Kind]:
    """A mixture of kinds; healthy ones are about half."""
    for index in range(n):
        odd = index % 5
        yield Kind(
            coils=int(rng.choice([1, 2, 4, 8, 16, 32])),
            acceleration=int(rng.choice([1, 2, 4, 6, 8])),
            noise=float(rng.choice([0.005, 0.02, 0.05, 0.1])),
            filtered=odd == 1 or odd == 4,
            air=odd != 2,
            spikes=int(rng.integers(1, 4)) if odd >= 3 else 0,
            size=0.5 if index % 3 == 0 else 1.0,
        )


def main() -> None:
    """Print ratios by kind, and how many scans are within the limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scans", type=int, default=80)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--each", action="store_true", help="print every scan")
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    ratios: dict[str, list[float]] = {}
    for kind in kinds(args.scans, rng):
        data, columns, level = simulate(kind, rng)
        mask = torch.tensor(columns).expand(data.shape[1], -1)
        found = find_noise(torch.from_numpy(data).cfloat(), mask)
        ratio = whitening(found.covariance).noise_level / level
        for name in kind.names:
            ratios.setdefault(name, []).append(ratio)
        ratios.setdefault(found.source, []).append(ratio)
        if args.each:
            detail = {name: round(value / level, 3) for name, value in found.levels.items()}
            print(
                f"{ratio:.3f} {detail} {'' if found.agree else 'disagree '}"
                f"{'' if found.sure else 'uncertain '}{kind}"
            )
    print(f"{'kind':16} scans  median  lowest highest  within {LIMIT:.0%}")
    for name, found_ratios in sorted(ratios.items()):
        a = np.array(found_ratios)
        right = int((np.abs(a - 1) <= LIMIT).sum())
        figures = f"{np.median(a):7.3f} {a.min():7.3f} {a.max():7.3f}"
        print(f"{name:16} {len(a):5d} {figures}  {right}")


if __name__ == "__main__":
    main()
