"""BART's regularised reconstructions, where the program ``bart`` is installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

__all__ = ["PENALTIES", "installed", "penalised", "read", "write"]

Complex = NDArray[np.complex64]
ITERATIONS = 100
# Names and arguments of ``bart pics``, before the strength.
PENALTIES = {"l1-wavelet": ("-l1", "-r", ""), "TV": ("-R", "T:3:0:")}


def installed() -> bool:
    """The program can be run."""
    return shutil.which("bart") is not None


def penalised(penalty: str, kspace: Complex, maps: Complex, strength: float) -> Complex:
    """Image (ny, nx) with sparse wavelet coefficients or sparse differences (``bart pics``).

    Args:
        penalty: One of `PENALTIES`.
        kspace: Zero where it was not measured, (coil, ny, nx), centred.
        maps: Sensitivities (coil, ny, nx).
        strength: Weight of the l1 norm, for data that BART scales to about 1.

    Raises:
        CalledProcessError: BART failed.
    """
    with TemporaryDirectory() as folder:
        names = [str(Path(folder) / name) for name in ("kspace", "maps", "image")]
        for name, array in zip(names, (kspace, maps), strict=False):
            write(Path(name), array.transpose(1, 2, 0)[:, :, None])
        *options, prefix = PENALTIES[penalty]
        options = ["-S", *options, f"{prefix}{strength:g}", "-i", str(ITERATIONS)]
        command = ["bart", "pics", *options, *names]
        subprocess.run(command, check=True, capture_output=True)
        return read(Path(names[2]))


def write(name: Path, array: Complex) -> None:
    """Write BART's pair of files: dimensions as text, values in column-major order."""
    sizes = " ".join(map(str, array.shape))
    name.with_suffix(".hdr").write_text(f"# Dimensions\n{sizes}\n")
    array.astype(np.complex64).ravel(order="F").tofile(name.with_suffix(".cfl"))


def read(name: Path) -> Complex:
    """Array of a pair of files, without trailing axes of size 1."""
    sizes = list(map(int, name.with_suffix(".hdr").read_text().splitlines()[1].split()))
    while len(sizes) > 1 and sizes[-1] == 1:
        sizes.pop()
    values = np.fromfile(name.with_suffix(".cfl"), np.complex64)
    return values.reshape(sizes, order="F")
