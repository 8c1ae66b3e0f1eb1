"""Warnings on healthy MRI scans, and faults that are named, in one table.

    python benchmarks/mri_scans.py [--number 20] [--seed 0] [--cases FOLDER] [--sample QUALITY]

Healthy scans are slices of datasets/colin27.npz, a head that no prior was trained on, with 1 to 32
coils, 2x to 6x acceleration and noise of 0.5 to 5 % of the head's brightness, in two sizes. Each
should be read without an assumption; those are printed by their codes. ``--sample QUALITY`` also
samples them, the cheapest first and with ``--runs N`` only so many, and prints the warnings of the
results. Beside them is the error over the spread, both root mean square over the head: right is
``sqrt(1 + 1 / n)`` for n samples, 1.12 for four.

Unhealthy ones are such scans with one fault each, and the files of folders whose names are in
`CASES`. A fault is named where its code is among the notes; further assumptions are printed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from tiltkit_mri.ghost import Ghost, without_ghost
from tiltkit_mri.task import MriOptions, MriRecon

import tiltkit
from tiltkit.errors import TiltkitError
from tiltkit.priors.closed_form import SmoothGaussian

sys.path.insert(0, str(Path(__file__).parents[1] / "datasets"))
import make_scan

Complex = NDArray[np.complex128]
PRIOR = SmoothGaussian(0.4, 5.0, 5.0, channels=2)
# Files of faults in other folders, and the codes of their notes; None for healthy ones. Where there
# are two codes, either names the fault.
CASES: dict[str, str | None] = {
    "axes_no_slice": "axes_assumed",
    "gre_phantom_real": None,
    "header_matrix_off_by_2": "header_adapted",
    "interpolated_recon": None,
    "mask_of_zero": "mask_ignored",
    "no_air": None,
    "pair_last_axis": "axes_assumed",
    "phase_resolution_75": None,
    "receiver_filter": "noise_filtered",
    "s_dc_at_corner": "centre_moved",
    "s_epi_ghost": "ghost_removed",
    "s_no_slice_axis": "axes_assumed",
    "s_ok": None,
    "s_partial_fourier_5_8": None,
    "s_rounding_not_zero": "columns_of_rounding",
    "s_spike": "spikes_left_out",
    "small_fov_150_2x": None,
    "spike": "spikes_left_out",
    "brain_8ch_4x": None,
    "brain_8ch_raw": None,
    "ismrmrd_grappa2": None,
    "ismrmrd_gre_phantom": None,
}


@dataclass(frozen=True)
class Kind:
    """Kind of a healthy scan; ``small`` halves both sides of the image."""

    coils: int
    acceleration: float
    noise: float
    small: bool
    slice: int


def kinds(number: int, rng: np.random.Generator) -> Iterator[Kind]:
    """A mixture of all properties."""
    for i in range(number):
        yield Kind(
            coils=[1, 2, 4, 8, 16, 32][i % 6],
            acceleration=float(rng.uniform(2, 6)),
            noise=float(np.exp(rng.uniform(np.log(0.005), np.log(0.05)))),
            small=i % 2 == 0,
            slice=int(rng.integers(8)),
        )


def scan(
    kind: Kind, rng: np.random.Generator
) -> tuple[Complex, NDArray[np.bool_], NDArray[np.float64]]:
    """k-space (coil, row, column) with data in all columns, the sampled ones, and the truth."""
    (image,) = make_scan.head([kind.slice], rng)
    if kind.small:
        image = image[:216, :180].reshape(108, 2, 90, 2).mean(axis=(1, 3))
    maps = make_scan.coil_maps(kind.coils, image.shape, rng)
    clean = make_scan.kspace_of(image, maps)
    noise = kind.noise * (rng.normal(size=(*clean.shape, 2)) @ np.array([1, 1j]))
    centre = 12 if kind.small else 24
    lines = make_scan.mask(image.shape[1], kind.acceleration, centre, rng)
    return clean + noise, lines, np.abs(image)


Datasets = dict[str, Any]
Fault = Callable[[Complex, NDArray[np.bool_], np.random.Generator], Datasets]


def stored(kspace: Complex, **more: Any) -> Datasets:
    """Datasets of a file of one slice."""
    return {"kspace": (kspace[None] * make_scan.UNIT).astype(np.complex64), **more}


def spikes(kspace: Complex, mask: NDArray[np.bool_], rng: np.random.Generator) -> Datasets:
    """One to three samples are as strong as the strongest one."""
    spiked = kspace * mask
    for _ in range(rng.integers(1, 4)):
        row, column = rng.integers(kspace.shape[1]), rng.choice(np.flatnonzero(mask))
        spiked[:, row, column] += np.abs(kspace).max() * np.exp(2j * np.pi * rng.random())
    return stored(spiked, mask=mask)


def ghost(kspace: Complex, mask: NDArray[np.bool_], rng: np.random.Generator) -> Datasets:
    """Odd columns are late by up to a sample, and have another phase."""
    late = Ghost(rng.uniform(0.3, 0.9), rng.uniform(-1, 1))
    return stored(without_ghost(kspace * mask, late), mask=mask)


def uncentred(kspace: Complex, mask: NDArray[np.bool_], _: np.random.Generator) -> Datasets:
    """A Fourier transform without fftshift."""
    return stored(np.fft.ifftshift(kspace * mask, axes=(1, 2)))


def shifted(kspace: Complex, mask: NDArray[np.bool_], rng: np.random.Generator) -> Datasets:
    """The centre lies a sixth of the rows beside the middle."""
    return stored(np.roll(kspace * mask, rng.choice([-1, 1]) * kspace.shape[1] // 6, axis=1))


def wrapped(kspace: Complex, mask: NDArray[np.bool_], _: np.random.Generator) -> Datasets:
    """The image was not shifted before its Fourier transform."""
    signs = (-1.0) ** np.arange(kspace.shape[1])
    return stored(kspace * mask * signs[:, None])


def images(kspace: Complex, _: NDArray[np.bool_], __: np.random.Generator) -> Datasets:
    """Images of coils in the place of k-space."""
    image = np.fft.ifft2(np.fft.ifftshift(kspace, axes=(1, 2)), norm="ortho")
    return stored(np.fft.fftshift(image, axes=(1, 2)))


def coils_last(kspace: Complex, mask: NDArray[np.bool_], _: np.random.Generator) -> Datasets:
    """Coils are on the last axis."""
    return {"kspace": np.moveaxis(stored(kspace * mask)["kspace"], 1, 3)}


def moved_mask(kspace: Complex, mask: NDArray[np.bool_], _: np.random.Generator) -> Datasets:
    """The mask is off by one column."""
    return stored(kspace * mask, mask=np.roll(mask, 1))


def unwritten_columns(kspace: Complex, mask: NDArray[np.bool_], _: np.random.Generator) -> Datasets:
    """The last quarter of the sampled columns was never written."""
    place = np.flatnonzero(mask)
    written = mask & (np.arange(len(mask)) < place[-len(place) // 4])
    return stored(kspace * written, mask=mask)


def half(kspace: Complex, _: NDArray[np.bool_], __: np.random.Generator) -> Datasets:
    """Columns after the calibration lines were never written; there is no mask."""
    n = kspace.shape[2]
    return stored(kspace * (np.arange(n) < n // 2 + 4))


def unwritten_coils(kspace: Complex, mask: NDArray[np.bool_], _: np.random.Generator) -> Datasets:
    """Half of the coils were never written."""
    part = kspace * mask
    part[len(part) // 2 :] = 0
    return stored(part, mask=mask)


def cut_coil(kspace: Complex, mask: NDArray[np.bool_], _: np.random.Generator) -> Datasets:
    """The last coil ends in the middle."""
    part = kspace * mask
    part[-1, :, part.shape[2] // 2 + 3 :] = 0
    return stored(part, mask=mask)


def dead_coil(kspace: Complex, mask: NDArray[np.bool_], rng: np.random.Generator) -> Datasets:
    """One coil has noise alone."""
    part = kspace.copy()
    level = float(np.median(np.abs(kspace)))
    part[1] = level * (rng.normal(size=(*part.shape[1:], 2)) @ np.array([1, 1j]))
    return stored(part * mask, mask=mask)


def noisy_coil(kspace: Complex, mask: NDArray[np.bool_], rng: np.random.Generator) -> Datasets:
    """One coil has 30 times the noise."""
    part = kspace.copy()
    level = 30 * float(np.median(np.abs(kspace)))
    part[1] += level * (rng.normal(size=(*part.shape[1:], 2)) @ np.array([1, 1j]))
    return stored(part * mask, mask=mask)


def clipped(kspace: Complex, mask: NDArray[np.bool_], rng: np.random.Generator) -> Datasets:
    """Values above a tenth to a half of the largest are clipped."""
    top = rng.uniform(0.1, 0.5) * max(np.abs(kspace.real).max(), np.abs(kspace.imag).max())
    flat = kspace.real.clip(-top, top) + 1j * kspace.imag.clip(-top, top)
    return stored(flat * mask, mask=mask)


def rounding(kspace: Complex, mask: NDArray[np.bool_], _: np.random.Generator) -> Datasets:
    """Columns that were not sampled hold rounding errors of zero."""
    return stored(kspace * np.where(mask, 1, 1e-9))


# Each fault, the code that names it, and the fewest coils that it needs.
FAULTS: tuple[tuple[Fault, str, int], ...] = (
    (spikes, "spikes_left_out", 1),
    (ghost, "ghost_removed", 4),
    (uncentred, "centre_moved", 1),
    (shifted, "off_centre", 1),
    (wrapped, "image_moved", 1),
    (images, "images_as_kspace", 1),
    (coils_last, "axes_assumed", 8),
    (moved_mask, "mask_ignored", 1),
    (unwritten_columns, "columns_empty", 1),
    (half, "half_missing", 1),
    (unwritten_coils, "coils_empty", 2),
    (cut_coil, "coils_incomplete", 2),
    (dead_coil, "coils_weak", 2),
    (noisy_coil, "coils_noisy", 2),
    (clipped, "clipped", 1),
    (rounding, "columns_of_rounding", 1),
)


def write(path: Path, datasets: Datasets) -> Path:
    """Write a file in the fastMRI layout."""
    with h5py.File(path, "w") as file:
        for name, value in datasets.items():
            file[name] = value
    return path


def notes(path: Path) -> tuple[set[str], set[str]]:
    """Codes of all notes on a scan and its first slice, and of those that are assumptions."""
    try:
        with MriRecon(MriOptions()).open(path) as opened:
            problem = opened.problem(opened.first, PRIOR, torch.device("cpu"))
            found = [*opened.notes, *problem.notes]
    except TiltkitError as error:
        return {f"refused: {error}"}, {"refused"}
    return {note.code for note in found}, {note.code for note in found if note.assumed}


def healthy(number: int, seed: int, folder: Path) -> Iterator[tuple[Kind, Path]]:
    """Write healthy scans: sampled columns alone have data, and the header states the image."""
    rng = np.random.default_rng(seed)
    for i, kind in enumerate(kinds(number, rng)):
        kspace, mask, truth = scan(kind, rng)
        rows, columns = truth.shape
        header = make_scan.HEADER.format(
            rows=rows, rows2=2 * rows, columns=columns, last=columns - 1, centre=columns // 2
        )
        datasets = stored(
            kspace * mask, mask=mask, ismrmrd_header=header, truth=truth * make_scan.UNIT
        )
        yield kind, write(folder / f"healthy{i}.h5", datasets)


def unhealthy(each: int, seed: int, folder: Path) -> Iterator[tuple[str, str, Path]]:
    """Write scans with every fault, so many of each: name of the fault, code, file."""
    for i, (fault, code, fewest) in enumerate(FAULTS):
        for j in range(each):
            rng = np.random.default_rng((seed, i, j))
            (kind,) = kinds(1, rng)
            coils = int(rng.choice([n for n in (1, 2, 4, 8, 16) if n >= fewest]))
            kind = Kind(coils, kind.acceleration, kind.noise, j % 2 == 0, kind.slice)
            kspace, mask, _ = scan(kind, rng)
            datasets = fault(kspace, mask, rng)
            yield fault.__name__, code, write(folder / f"{fault.__name__}{j}.h5", datasets)


def judge(rows: Iterable[tuple[str, str | None, Path]]) -> tuple[int, int]:
    """Print what is unexpected about scans; how many are named rightly, and how many there were.

    Args:
        rows: Name, code of the fault or None for a healthy scan, and file.
    """
    right = total = 0
    for name, code, path in rows:
        every, assumed = notes(path)
        named = not assumed if code is None else code in every
        right, total = right + named, total + 1
        if assumed - {code} or not named:
            more = ", ".join(sorted(assumed - {code})) or "nothing"
            print(f"  {name}{'' if named else f': not {code}'}, also {more}")
    return right, total


def sample(scans: list[tuple[Kind, Path]], quality: str, samples: int, seed: int) -> None:
    """Print warnings and error over spread of results, and how many had no warning."""
    print(f"\n{quality} quality, {samples} samples:")
    healthy = 0
    for kind, path in scans:
        result = tiltkit.reconstruct(
            "mri-recon", path, quality=quality, samples=samples, device="cpu", seed=seed
        )
        codes = " ".join(one.code for one in result.warnings)
        healthy += not codes
        with h5py.File(path) as file:
            truth = file["truth"][()]
        head = truth > 0.1 * truth.max()
        error, spread = (np.square(image[head]).mean() ** 0.5
                         for image in (result.mean[0] - truth, result.std[0]))  # fmt: skip
        print(f"  {codes or 'none'}, error over spread {error / spread:.2f}  {kind}", flush=True)
    print(f"{healthy} of {len(scans)} healthy scans have no warning")


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--number", type=int, default=20)
    parser.add_argument("--each", type=int, default=4, help="scans of each fault")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=Path, nargs="*", default=[], help="folders")
    parser.add_argument("--sample", choices=("draft", "standard", "high"), help="of healthy scans")
    parser.add_argument("--samples", type=int, default=4, help="posterior samples of each")
    parser.add_argument("--runs", type=int, help="healthy scans to sample, at most")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        scans = list(healthy(args.number, args.seed, Path(folder)))
        print("healthy:")
        right, total = judge((f"healthy {kind}", None, path) for kind, path in scans)
        print(f"{right} of {total} healthy scans are read without an assumption\n")
        print("faults:")
        right, total = judge(unhealthy(args.each, args.seed, Path(folder)))
        print(f"{right} of {total} faults are named rightly\n")
        files = [path for part in args.cases for path in sorted(part.glob("*.h5"))]
        known = [(path.stem, CASES[path.stem], path) for path in files if path.stem in CASES]
        right, total = judge(known)
        if total:
            print(f"{right} of {total} files of other folders are named rightly")
        scans.sort(key=lambda one: (not one[0].small, one[0].coils))
        if args.sample:
            sample(scans[: args.runs], args.sample, args.samples, args.seed)


if __name__ == "__main__":
    main()
