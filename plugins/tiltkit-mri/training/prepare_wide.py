"""Pictures and anatomy of open packages as training images of a prior for any content.

    python prepare_wide.py packages images

``packages`` holds the unpacked sources that the model card names (`prior_wide.md`): DICOM files
of heads, chests, an abdomen, limbs and ultrasound, and photographs. Pictures of scikit-image,
scikit-learn and Matplotlib are taken from the installed packages. Each becomes magnitude images of
several sizes, one folder per subject. What `benchmarks/unlike.py` measures on is left out, and so
are Colin27, the macaque and the shoulder.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pydicom
import skimage.data
import sklearn.datasets
from numpy.typing import NDArray
from PIL import Image
from pydicom.pixels import apply_modality_lut
from skimage.transform import rescale

from tiltkit.priors.scale import image_scale

Array = NDArray[np.float32]

SKIMAGE = (
    "astronaut", "chelsea", "coffee", "gravel", "hubble_deep_field", "immunohistochemistry",
    "moon", "page", "retina", "rocket", "text", "clock", "microaneurysms", "horse",
)  # fmt: skip
SIZES = (1.0, 0.7, 0.5, 0.35, 0.25)
SMALLEST, TILE = 80, 320
# Subject, files, every which one, sizes.
HEADS = (
    ("head_left", "dcm_qa_decubitus/In/HFDL/2_t1_fl2d_sag/*.dcm", 1, (1.0,)),
    ("head_prone", "dcm_qa_decubitus/In/HFP/2_t1_fl2d_sag/*.dcm", 1, (1.0,)),
    ("head_fat_1", "dcm_qa_uih/In/DTI_132225/t1_gre_fsp_3d_sag__*/*.dcm", 5, (0.5, 0.7)),
    ("head_fat_2", "dcm_qa_uih/In/DTI_134434/t1_gre_fsp_3d_sag__*/*.dcm", 5, (0.5, 0.7)),
    ("head_t2", "FNNDSC/data/dicom/adi_brain/36[47]4*", 2, (0.5, 0.7)),
)
BODIES = (
    ("abdomen_mr", "pydicom-data/data_store/data/MR-SIEMENS-DICOM-WithOverlays.dcm"),
    ("chest_xray", "pydicom-data/data_store/data/RG1_UNCR.dcm"),
    ("leg_xray", "pydicom-data/data_store/data/RG3_UNCR.dcm"),
    ("ultrasound_1", "pydicom-data/data_store/data/US1_UNCR.dcm"),
    ("ultrasound_2", "pydicom-data/data_store/data/gdcm-US-ALOKA-16.dcm"),
)
CT = (
    ("ct_chest", "FNNDSC/data/dicom/andrei_abdomen/data/*.dcm", 9),
    ("ct_head", "pydicom-data/data_store/data/693_UNCR.dcm", 1),
    ("ct_abdomen", "pydicom-data/data_store/data/explicit_VR-UN.dcm", 1),
)
# Lowest and highest of the Hounsfield units shown.
WINDOWS = ((-1000, 500), (-150, 250), (-1000, 1500))


def main() -> None:
    """Write ``FOLDER/SUBJECT/NUMBER.npy``, float32 (row, column)."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("packages", type=Path)
    parser.add_argument("images", type=Path)
    args = parser.parse_args()
    packages: Path = args.packages
    for name, pattern, every, factors in HEADS:
        found = [pixels(path) for path in sorted(packages.glob(pattern))[::every]]
        write(args.images / name, sizes(found, factors))
    for name, file in BODIES:
        write(args.images / name, sizes([pixels(packages / file)], SIZES))
    for name, pattern, every in CT:
        found = [pixels(path) for path in sorted(packages.glob(pattern))[::every]]
        shown = [np.clip(x, low, high) - low for x in found for low, high in WINDOWS]
        write(args.images / name, sizes(shown, (1.0, 0.5) if every == 1 else (0.5,)))
    photographs = sorted((packages / "photographs").glob("*.jpg"))
    for name, picture in [*packaged(), *((path.stem, opened(path)) for path in photographs)]:
        write(args.images / name, sizes([grey(picture)], SIZES))


def write(folder: Path, images: Iterable[Array]) -> None:
    """Write the images of one subject."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images):
        np.save(folder / f"{number:03}.npy", image)


def pixels(path: Path) -> Array:
    """The values of a DICOM file (row, column); Hounsfield units in CT."""
    dataset = pydicom.dcmread(path)
    return grey(apply_modality_lut(dataset.pixel_array, dataset))


def packaged() -> Iterator[tuple[str, NDArray[np.generic]]]:
    """Name and picture of each that the packages carry."""
    for name in SKIMAGE:
        yield name, np.asarray(getattr(skimage.data, name)())
    yield "motorcycle", np.asarray(skimage.data.stereo_motorcycle()[0])
    samples = sklearn.datasets.load_sample_images().images
    for name, picture in zip(("china", "flower"), samples, strict=True):
        yield name, picture
    yield "hopper", opened(Path(matplotlib.get_data_path()) / "sample_data/grace_hopper.jpg")


def opened(path: Path) -> NDArray[np.generic]:
    """The pixels of a picture file, at most 2000 along a side."""
    with Image.open(path) as image:
        image = image.convert("RGB")
        image.thumbnail((2000, 2000))
        return np.asarray(image)


def grey(picture: NDArray[np.generic]) -> Array:
    """One channel: the mean of the colours."""
    image = np.asarray(picture, np.float32)
    return image[..., :3].mean(-1) if image.ndim == 3 else image


def sizes(images: Iterable[Array], factors: Sequence[float]) -> Iterator[Array]:
    """Tiles of the images at several sizes, bright pixels about 1; none that is nearly empty."""
    for image in images:
        for factor in factors:
            small = image if factor == 1 else rescale(image, factor, anti_aliasing=True)
            if min(small.shape) >= SMALLEST:
                yield from tiles(small)


def tiles(image: Array) -> Iterator[Array]:
    """Nearly equal parts of an image, none larger than about `TILE`."""
    top = image_scale(np.abs(image).ravel(), 99.0)
    n, m = (max(1, round(k / TILE)) for k in image.shape)
    for rows in np.array_split(image, n, 0):
        for tile in np.array_split(rows, m, 1):
            if min(tile.shape) >= SMALLEST and (tile > 0.1 * top).mean() > 0.05:
                yield (tile / image_scale(np.abs(tile).ravel(), 99.0)).astype(np.float32)


if __name__ == "__main__":
    main()
