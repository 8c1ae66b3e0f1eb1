"""Unpack CT slices from the packages that carry them and draw phantoms: one folder per subject.

    python prepare_images.py packages images

Values are attenuation relative to water, ``(HU + 1000) / 1000``, never negative. Slices of heads
and chests come at several pixel sizes, by means over pixels, as from detectors of another pitch.
"""

from __future__ import annotations

import argparse
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, cast

import nrrd
import numpy as np
import pydicom
from numpy.random import Generator, default_rng
from numpy.typing import NDArray
from pydicom.pixels import apply_modality_lut
from scipy.ndimage import gaussian_filter
from skimage.draw import ellipse, polygon
from skimage.transform import resize

Array = NDArray[np.float32]

SIDE = 256


def main() -> None:
    """Write ``images/SUBJECT/NAME.npy``, float32 (slice, row, column)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packages", type=Path)
    parser.add_argument("images", type=Path)
    args = parser.parse_args()
    packages: Path = args.packages
    heads = packages / "dcm_qa_ct/In"
    write(args.images / "ge_head", dicom(sorted((heads / "GE").glob("*.dcm"))),
          sides=(512, 440, 384, 320, 256))  # fmt: skip
    phantom = [path for path in sorted((heads / "Philips").rglob("I*")) if is_slice(path)]
    write(args.images / "head_phantom", dicom(phantom[::6]), sides=(512, 256))
    for i in (1, 2):
        chest = packages / f"pyradiomics_bhklab-3.1.4/data/lung{i}_image.nrrd"
        write(args.images / f"chest{i}", volume(chest)[::2], sides=(512, 256))
    write(args.images / "cranium", cranium(packages / "Cranium.inv3")[::4], sides=(256,))
    rng = default_rng(0)
    write(args.images / "shapes", np.stack([shapes(rng) for _ in range(70)]), sides=(SIDE,))
    write(args.images / "porous", np.stack([porous(rng) for _ in range(45)]), sides=(SIDE,))


def write(folder: Path, slices: Array, sides: Sequence[int]) -> None:
    """Write all slices once per wanted side length."""
    folder.mkdir(parents=True, exist_ok=True)
    for side in sides:
        shape = (len(slices), side, side)
        sized = slices if slices.shape == shape else resize(slices, shape, anti_aliasing=True)
        np.save(folder / f"{side}.npy", sized.astype(np.float32))


def attenuation(hounsfield: NDArray[np.generic]) -> Array:
    """Relative to water; what lies outside of the scanner's field of view becomes air."""
    value: Array = np.clip((hounsfield.astype(np.float32) + 1000) / 1000, 0, None)
    return value


def dicom(paths: Sequence[Path]) -> Array:
    """Slices of DICOM files."""
    files = [pydicom.dcmread(path) for path in paths]
    return np.stack([attenuation(apply_modality_lut(file.pixel_array, file)) for file in files])


def is_slice(path: Path) -> bool:
    """True for a slice of the standard or the bone reconstruction at 1 mm."""
    try:
        file = pydicom.dcmread(path, stop_before_pixels=True)
    except pydicom.errors.InvalidDicomError:
        return False
    return "BRAIN" in str(file.get("SeriesDescription")) and file.get("Rows") == 512


def volume(path: Path) -> Array:
    """Slices (z, y, x) of a volume in Hounsfield units."""
    values, _ = nrrd.read(str(path))
    return attenuation(values.transpose(2, 1, 0))


def cranium(path: Path) -> Array:
    """Slices of InVesalius' example, 256 x 256; only measured on, never trained on."""
    with tarfile.open(path) as archive:
        name = next(name for name in archive.getnames() if name.endswith("matrix.dat"))
        content = cast("IO[bytes]", archive.extractfile(name)).read()
    values = np.frombuffer(content, np.int16).reshape(108, 256, 256)
    return attenuation(values)


def shapes(rng: Generator) -> Array:
    """A phantom of ellipses and polygons of even attenuation, drawn fourfold and averaged."""
    n = 4 * SIDE
    image = np.zeros((n, n), np.float32)
    body = ellipse(n / 2, n / 2, rng.uniform(0.3, 0.48) * n, rng.uniform(0.3, 0.48) * n, (n, n),
                   rotation=rng.uniform(-np.pi, np.pi))  # fmt: skip
    image[body] = 1
    for where in pieces(rng, n, int(rng.integers(5, 40))):
        image[where] = rng.choice([0, rng.uniform(0, 0.5), rng.uniform(0.5, 1.3), 2.2])
    if rng.random() < 0.5:  # edges as soft as a blurred detector makes them
        image = gaussian_filter(image, rng.uniform(1, 5))
    return image.reshape(SIDE, 4, SIDE, 4).mean((1, 3))


def pieces(rng: Generator, n: int, count: int) -> Iterator[tuple[NDArray[np.intp], ...]]:
    """Pixels of ellipses and polygons anywhere in an image of n x n."""
    for _ in range(count):
        y, x = rng.uniform(0.15, 0.85, 2) * n
        size = np.exp(rng.uniform(np.log(0.006), np.log(0.2))) * n
        if rng.random() < 0.7:
            yield ellipse(y, x, size * rng.uniform(0.2, 1), size, (n, n),
                          rotation=rng.uniform(-np.pi, np.pi))  # fmt: skip
        else:
            angle = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 7))))
            yield polygon(y + size * np.sin(angle), x + size * np.cos(angle), (n, n))


def porous(rng: Generator) -> Array:
    """Two or three phases that meet along level sets of smooth noise, in a round sample."""
    n = 2 * SIDE
    sizes = np.exp(rng.uniform(np.log(2), np.log(16), 2))
    field = sum(gaussian_filter(rng.standard_normal((n, n)), s, mode="wrap") * s for s in sizes)
    first, second = np.quantile(field, np.sort(rng.uniform(0.2, 0.95, 2)))
    values = rng.uniform(0, 1.5, 3)
    image = np.select([field < first, field < second], values[:2], values[2])
    if rng.random() < 0.5:
        y, x = np.mgrid[:n, :n] - (n - 1) / 2
        image = np.where(np.hypot(y, x) < rng.uniform(0.35, 0.49) * n, image, 0)
    image = gaussian_filter(image, rng.uniform(0.5, 2)).astype(np.float32)
    return image.reshape(SIDE, 2, SIDE, 2).mean((1, 3))


if __name__ == "__main__":
    main()
