"""Make a multi-coil MRI scan file (fastMRI layout) and its truth from real anatomy.

The head of colin27.npz gets a smooth phase, is seen by simulated coils, sampled with twofold
readout oversampling, and undersampled along the phase encoding; white noise is added.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

Complex = NDArray[np.complex128]

# Raw data of scanners have values of about this size.
UNIT = 1e-5
HEADER = """<?xml version="1.0"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
 <encoding>
  <encodedSpace><matrixSize><x>{rows2}</x><y>{columns}</y><z>1</z></matrixSize>
   <fieldOfView_mm><x>{rows2}</x><y>{columns}</y><z>1</z></fieldOfView_mm></encodedSpace>
  <reconSpace><matrixSize><x>{rows}</x><y>{columns}</y><z>1</z></matrixSize>
   <fieldOfView_mm><x>{rows}</x><y>{columns}</y><z>1</z></fieldOfView_mm></reconSpace>
  <encodingLimits><kspace_encoding_step_1><minimum>0</minimum><maximum>{last}</maximum>
   <center>{centre}</center></kspace_encoding_step_1></encodingLimits>
 </encoding>
</ismrmrdHeader>
"""


def coil_maps(n: int, shape: tuple[int, int], rng: np.random.Generator) -> Complex:
    """Smooth sensitivities (coil, row, column) of coils around the head; squares sum to 1."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij")
    maps = []
    for k in range(n):
        angle = 2 * np.pi * (k + 0.3 * rng.random()) / n
        dy, dx = y - 1.3 * np.sin(angle), x - 1.3 * np.cos(angle)
        phase = np.arctan2(dy, dx) + 0.5 * rng.normal() * x + 0.5 * rng.normal() * y
        maps.append(np.exp(1j * phase) / (0.3 + dy**2 + dx**2))
    stacked = np.stack(maps)
    total: Complex = stacked / np.sqrt((np.abs(stacked) ** 2).sum(0))
    return total


def head(slices: list[int], rng: np.random.Generator) -> Iterator[Complex]:
    """Complex images (row, column); the 99th percentile of each head is 1."""
    with np.load(Path(__file__).with_name("colin27.npz")) as data:
        images = data["image"][slices].astype(float)
    for image in images:
        y, x = np.meshgrid(*(np.linspace(-1, 1, size) for size in image.shape), indexing="ij")
        a, b, c = rng.normal(size=3)
        phase = a * y + b * x + 0.5 * np.sin(2 * y + c) * np.cos(2 * x)
        yield image / np.percentile(image[image > 20], 99) * np.exp(1j * phase)


def mask(
    columns: int, acceleration: float, centre: int, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """A complete centre and random lines, denser towards it (columns,)."""
    distance = np.abs(np.arange(columns) - columns // 2) / (columns / 2)
    chosen = np.zeros(columns, bool)
    first = (columns - centre + 1) // 2
    chosen[first : first + centre] = True
    weight = np.where(chosen, 0, (1 - distance) ** 2 + 0.05)
    more = round(columns / acceleration) - centre
    if more > 0:
        chosen[rng.choice(columns, more, replace=False, p=weight / weight.sum())] = True
    return chosen


def kspace_of(image: Complex, maps: Complex) -> Complex:
    """k-space (coil, 2 rows, columns) of an image (row, column); centred, unitary."""
    rows = image.shape[0]
    before = rows // 2  # where the fastMRI rule will cut the image out again
    padded = np.pad(maps * image, ((0, 0), (before, rows - before), (0, 0)))
    shifted = np.fft.ifftshift(padded, axes=(1, 2))
    return np.fft.fftshift(np.fft.fft2(shifted, norm="ortho"), axes=(1, 2))


def write_scan(
    path: Path,
    images: list[Complex],
    rng: np.random.Generator,
    *,
    coils: int,
    acceleration: float,
    centre: int,
    noise: float,
    patient: str,
) -> tuple[tuple[int, ...], int]:
    """Measure images (row, column) of about 1 and write the scan.

    Args:
        path: The new file.
        images: Slices of one size.
        rng: Draws the coils, the lines and the noise.
        coils: How many there are.
        acceleration: Columns over measured columns.
        centre: Complete lines at the centre.
        noise: Standard deviation per component.
        patient: Name of the subject.

    Returns:
        Shape of the k-space (slice, coil, row, column), and how many columns were measured.
    """
    rows, columns = images[0].shape
    maps = coil_maps(coils, (rows, columns), rng)
    lines = mask(columns, acceleration, centre, rng)
    clean = np.stack([kspace_of(image, maps) for image in images])
    white = rng.normal(size=(*clean.shape, 2)) @ np.array([1, 1j]) * noise
    header = HEADER.format(
        rows=rows, rows2=2 * rows, columns=columns, last=columns - 1, centre=columns // 2
    )
    with h5py.File(path, "w") as file:
        file["kspace"] = ((clean + white) * lines * UNIT).astype(np.complex64)
        file["mask"], file["ismrmrd_header"] = lines, header
        file.attrs.update(
            acquisition="AXT1", patient_id=patient, acceleration=acceleration,
            num_low_frequency=centre,
        )  # fmt: skip
    return clean.shape, int(lines.sum())


def main() -> None:
    """Write the scan and, where asked for, the truth."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scan", type=Path)
    parser.add_argument("--truth", type=Path, help="file for the true magnitudes")
    parser.add_argument("--slices", type=int, nargs="+", default=[3], help="of the eight there are")
    parser.add_argument("--coils", type=int, default=8)
    parser.add_argument("--acceleration", type=float, default=4.0)
    parser.add_argument("--centre", type=int, default=24, help="complete lines at the centre")
    parser.add_argument("--noise", type=float, default=0.02, help="per component, of the head's 1")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    images = list(head(args.slices, rng))
    for path in filter(None, (args.scan, args.truth)):
        path.parent.mkdir(parents=True, exist_ok=True)
    shape, measured = write_scan(
        args.scan, images, rng, coils=args.coils, acceleration=args.acceleration,
        centre=args.centre, noise=args.noise, patient="colin27",
    )  # fmt: skip
    print(f"{args.scan}: {shape} k-space, {measured} of {shape[-1]} columns measured")
    if args.truth:
        with h5py.File(args.truth, "w") as file:
            file["truth"] = (np.abs(np.stack(images)) * UNIT).astype(np.float32)


if __name__ == "__main__":
    main()
