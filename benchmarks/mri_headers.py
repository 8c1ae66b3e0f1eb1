"""Mutated headers and flags of MRI raw data: no crash without a message, no wrong image in silence.

Every mutation changes the XML header, the flags or the counters of a small scan that is right, in
the ISMRMRD layout or, for the XML header, in that of fastMRI. The scan must then be refused with an
error of two lines, or opened with a further note, or give the image of the scan that is right. A
mutated matrix or field of view is another request; its image is not compared.

    python benchmarks/mri_headers.py [--number 2000] [--seed 0]
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import h5py
import ismrmrd
import numpy as np
import torch
from tiltkit_mri.task import MriOptions, MriRecon

from tiltkit.errors import TiltkitError
from tiltkit.priors.closed_form import SmoothGaussian

ROWS, COLUMNS, COILS = 64, 40, 3
PRIOR = SmoothGaussian(0.4, 5.0, 5.0, channels=2)
NUMBERS = ["0", "1", "-1", "7", "41", "65536", "1e9", "nan", "", "x", "3.7"]
FIELDS = (
    "flags", "number_of_samples", "active_channels", "discard_pre", "discard_post",
    "center_sample", "encoding_space_ref", "trajectory_dimensions", "sample_time_us",
)  # fmt: skip
COUNTERS = (
    "kspace_encode_step_1", "kspace_encode_step_2", "average", "slice", "contrast", "phase",
    "repetition", "set", "segment",
)  # fmt: skip


def scan() -> tuple[np.ndarray, str]:
    """Fully sampled k-space (coil, row, column) of an ellipse with structure, and its header."""
    y, x = np.meshgrid(*(np.arange(n) / n - 0.5 for n in (ROWS, COLUMNS)), indexing="ij")
    edge = 1 / (1 + np.exp((np.hypot((y - 0.03) / 0.17, (x + 0.05) / 0.35) - 1) * 40))
    image = edge * (0.7 + 0.3 * np.cos(50 * y + 3) * np.sin(30 * x)) * np.exp(1j * (y + x * y))
    angles = 2 * np.pi * np.arange(COILS) / COILS
    maps = [np.exp(-((y - 0.5 * np.sin(a)) ** 2 + (x - 0.5 * np.cos(a)) ** 2)) for a in angles]
    coils = np.stack(maps) * image
    kspace = np.fft.fftshift(
        np.fft.fft2(np.fft.ifftshift(coils, axes=(1, 2)), norm="ortho"), axes=(1, 2)
    )
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(*kspace.shape, 2)) @ np.array([0.01, 0.01j])
    spaces = "".join(
        f"<{name}><matrixSize><x>{n}</x><y>{COLUMNS}</y><z>1</z></matrixSize><fieldOfView_mm>"
        f"<x>{2 * n}</x><y>{2 * COLUMNS}</y><z>5</z></fieldOfView_mm></{name}>"
        for name, n in (("encodedSpace", ROWS), ("reconSpace", ROWS // 2))
    )
    limits = (
        "<encodingLimits><kspace_encoding_step_1><minimum>0</minimum><maximum>39</maximum><center>"
        "20</center></kspace_encoding_step_1></encodingLimits>"
    )
    xml = (
        '<?xml version="1.0"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><encoding>'
        f"{spaces}{limits}<trajectory>cartesian</trajectory></encoding></ismrmrdHeader>"
    )
    return (kspace + noise).astype(np.complex64), xml


def write(path: Path, kspace: np.ndarray, xml: str) -> None:
    """Write a scan with the format's own library."""
    with ismrmrd.Dataset(str(path)) as file:
        file.write_xml_header(xml)
        for column in range(COLUMNS):
            line = ismrmrd.Acquisition.from_array(np.ascontiguousarray(kspace[..., column]))
            line.center_sample, line.idx.kspace_encode_step_1 = ROWS // 2, column
            line.read_dir[0] = line.phase_dir[1] = line.slice_dir[2] = 1
            file.append_acquisition(line)


def mutate(table: np.ndarray, xml: str, rng: np.random.Generator) -> tuple[str, str]:
    """Change one thing in place; the new header, and what was changed."""
    kind = rng.integers(4)
    if kind == 0:  # a number of the header
        found = list(re.finditer(r"<(\w+)>([\d.]+)</", xml))
        one = found[rng.integers(len(found))]
        value = str(rng.choice([*NUMBERS, str(int(one[2]) + int(rng.integers(-3, 4)))]))
        inside = xml[: one.start()]
        parent = "limits" if "encodingLimits" in inside else "geometry"
        return f"{inside}<{one[1]}>{value}{xml[one.end(2) :]}", f"{parent} {one[1]}={value}"
    if kind == 1:  # an element of the header is cut out, or the end is missing
        if rng.random() < 0.3:
            return xml[: rng.integers(len(xml))], "truncated"
        found = list(re.finditer(r"<(\w+)>(?:(?!</\1>).)*</\1>", xml))
        one = found[rng.integers(len(found))]
        return xml[: one.start()] + xml[one.end() :], f"geometry without {one[1]}"
    rows: Any = slice(None) if rng.random() < 0.4 else rng.integers(COLUMNS, size=3)
    name = str(rng.choice(FIELDS if kind == 2 else COUNTERS))
    head = table["head"] if kind == 2 else table["head"]["idx"]
    if name == "flags":
        value = 1 << int(rng.integers(32))
    else:
        value = int(rng.choice([0, 1, 2, 3, 7, 20, 33, 64, 65, 200, 65535]))
    column = head[name]
    column[rows] = value
    return xml, f"{name}={value} in {'all' if isinstance(rows, slice) else len(set(rows))} lines"


def outcome(path: Path, right: tuple[np.ndarray, set[str]] | None) -> Any:
    """Image and codes of notes of the right scan, or how a mutated one compares with it."""
    try:
        with MriRecon(MriOptions()).open(path) as opened:
            problem = opened.problem(opened.first, PRIOR, torch.device("cpu"))
            assert problem.baseline is not None
            image, codes = problem.baseline.numpy(), {note.code for note in opened.notes}
            if opened.layout.unusable:
                codes.add("unusable")
    except TiltkitError as error:
        two_lines = len(str(error).splitlines()) <= 2 and bool(error.hint)
        return "refused" if two_lines else "WRONG"
    if right is None:
        return image, codes
    if codes - right[1]:
        return "noted"
    if image.shape != right[0].shape:
        return "other size"
    return "same" if np.corrcoef(image.ravel(), right[0].ravel())[0, 1] > 0.95 else "WRONG"


def store(path: Path, table: np.ndarray, xml: str) -> None:
    """Put a changed table and header into the scan."""
    with h5py.File(path, "a") as file:
        if "dataset" in file:
            file["dataset/data"][:] = table
            file["dataset/xml"][0] = xml.encode()
        else:
            del file["ismrmrd_header"]
            file["ismrmrd_header"] = xml.encode()


def survey(number: int, seed: int, folder: Path) -> Counter[str]:
    """Mutate so many times, open, and count the outcomes; prints what is wrong."""
    kspace, xml = scan()
    paths = folder / "ismrmrd.h5", folder / "fastmri.h5"
    write(paths[0], kspace, xml)
    with h5py.File(paths[1], "w") as file:
        file["kspace"], file["ismrmrd_header"] = kspace[None], xml.encode()
    with h5py.File(paths[0], "r") as file:
        table = file["dataset/data"][:]
    right = [outcome(path, None) for path in paths]
    counts: Counter[str] = Counter()
    for i in range(number):
        rng = np.random.default_rng((seed, i))
        changed = table.copy()
        text, change = mutate(changed, xml, rng)
        layout = int(text != xml and rng.random() < 0.5)
        store(paths[layout], changed, text)
        try:
            found = outcome(paths[layout], right[layout])
        except Exception as error:  # a crash is a finding
            found = "CRASH"
            print(i, paths[layout].stem, change, found, type(error).__name__, error)
        if found in ("WRONG", "other size"):
            if change.startswith("geometry"):
                found = "other image asked for"
            else:
                print(i, paths[layout].stem, change, found)
        counts[found] += 1
    return counts


def main() -> None:
    """Print the share of every outcome."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--number", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        counts = survey(options.number, options.seed, Path(folder))
    for kind, count in counts.most_common():
        print(f"{kind:24} {count:5}  {count / options.number:.1%}")


if __name__ == "__main__":
    main()
