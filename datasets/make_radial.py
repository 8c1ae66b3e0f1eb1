"""Make a radial or spiral MRI scan (ISMRMRD) and its truth from real anatomy.

The head of colin27.npz gets a smooth phase and is seen by simulated coils. Every sample is an
explicit sum over all pixels; white noise is added. Needs the package ismrmrd.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import h5py
import ismrmrd
import numpy as np
from make_scan import UNIT, coil_maps, head
from numpy.typing import NDArray

Complex = NDArray[np.complex128]
HEADER = """<?xml version="1.0"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
 <experimentalConditions><H1resonanceFrequency_Hz>128000000</H1resonanceFrequency_Hz>
 </experimentalConditions>
 <encoding>
  <encodedSpace><matrixSize><x>{n}</x><y>{n}</y><z>1</z></matrixSize>
   <fieldOfView_mm><x>{fov}</x><y>{fov}</y><z>5</z></fieldOfView_mm></encodedSpace>
  <reconSpace><matrixSize><x>{n}</x><y>{n}</y><z>1</z></matrixSize>
   <fieldOfView_mm><x>{fov}</x><y>{fov}</y><z>5</z></fieldOfView_mm></reconSpace>
  <encodingLimits/>
  <trajectory>{kind}</trajectory>
 </encoding>
</ismrmrdHeader>
"""
# Field of view in mm.
_FOV = 218


def square(image: Complex, size: int) -> Complex:
    """The image (size, size) at a lower resolution, with air at its sides."""
    side = max(image.shape)
    before = [(side - n) // 2 for n in image.shape]
    pads = [(b, side - n - b) for b, n in zip(before, image.shape, strict=True)]
    padded = np.fft.ifftshift(np.pad(image, pads))
    kspace = np.fft.fftshift(np.fft.fft2(padded, norm="forward"))
    first = side // 2 - size // 2
    kspace = kspace[first : first + size, first : first + size]
    small: Complex = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(kspace), norm="forward"))
    return small


def radial(size: int, spokes: int) -> NDArray[np.float64]:
    """Positions (spoke, sample, 2) in cycles per pixel, at multiples of the golden angle."""
    along = (np.arange(2 * size) - size) / (2 * size)
    angle = np.arange(spokes) * math.pi * (3 - math.sqrt(5))
    directions = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    return np.einsum("sd,k->skd", directions, along)


def spiral(size: int, interleaves: int, turns: float = 12) -> NDArray[np.float64]:
    """Positions (interleaf, sample, 2) of spirals whose turns are denser towards the centre."""
    # Steps of equal length, half a cycle per field of view.
    steps = int(2 * math.pi * turns * size / 3)
    part = np.cbrt(np.linspace(0, 1, steps))
    angle = 2 * math.pi * (turns * part + np.arange(interleaves)[:, None] / interleaves)
    return 0.5 * part[:, None] ** 2 * np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def measure(image: Complex, maps: Complex, positions: NDArray[np.float64]) -> Complex:
    """Samples (readout, coil, sample) of the unitary Fourier transform."""
    pixels = [np.arange(n) - n // 2 for n in image.shape]
    readouts = []
    for readout in positions:
        down, across = (np.exp(-2j * np.pi * np.outer(k, r))
                        for k, r in zip(readout.T, pixels, strict=True))  # fmt: skip
        readouts.append(((down @ (maps * image)) * across).sum(-1))
    return np.stack(readouts) / math.sqrt(image.size)


def write(path: Path, samples: Complex, positions: NDArray[np.float64], header: str) -> None:
    """Write readouts (readout, coil, sample) with their positions (readout, sample, 2)."""
    path.unlink(missing_ok=True)
    with ismrmrd.Dataset(str(path)) as file:
        file.write_xml_header(header)
        for number, (readout, place) in enumerate(zip(samples, positions, strict=True)):
            one = ismrmrd.Acquisition.from_array(
                np.ascontiguousarray(readout, np.complex64), place.astype(np.float32)
            )
            one.idx.kspace_encode_step_1 = number
            one.center_sample = int(np.hypot(*place.T).argmin())
            one.read_dir[:], one.phase_dir[:], one.slice_dir[:] = (1, 0, 0), (0, 1, 0), (0, 0, 1)
            file.append_acquisition(one)


def main() -> None:
    """Write the scan and, where asked for, the truth."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scan", type=Path)
    parser.add_argument("--truth", type=Path, help="file for the true magnitudes")
    parser.add_argument("--slice", type=int, default=3, help="of the eight there are")
    parser.add_argument("--size", type=int, default=128, help="rows and columns")
    parser.add_argument("--coils", type=int, default=8)
    parser.add_argument("--spokes", type=int, default=40)
    parser.add_argument("--interleaves", type=int, help="a spiral with so many")
    parser.add_argument("--noise", type=float, default=0.02, help="per component, of the head's 1")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if not 16 <= args.size <= _FOV - 1:
        parser.error(f"--size must be between 16 and {_FOV - 1}, the size of the head's image")
    rng = np.random.default_rng(args.seed)
    image = square(next(head([args.slice], rng)), args.size)
    maps = coil_maps(args.coils, image.shape, rng)
    kind = "spiral" if args.interleaves else "radial"
    positions = (
        spiral(args.size, args.interleaves) if args.interleaves else radial(args.size, args.spokes)
    )
    samples = measure(image, maps, positions)
    samples += args.noise * (rng.normal(size=(*samples.shape, 2)) @ np.array([1, 1j]))
    args.scan.parent.mkdir(parents=True, exist_ok=True)
    header = HEADER.format(n=args.size, fov=_FOV, kind=kind)
    write(args.scan, samples * UNIT, positions, header)
    print(f"{args.scan}: {len(samples)} readouts of {samples.shape[2]} samples, {args.coils} coils")
    if args.truth:
        with h5py.File(args.truth, "w") as file:
            file["truth"] = np.abs(image)[None].astype(np.float32) * UNIT
        print(f"{args.truth}: {args.size} x {args.size} truth")


if __name__ == "__main__":
    main()
