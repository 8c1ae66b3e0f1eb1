"""Make colin27.npz, eight axial slices of a real head, from Debian's mricron-data package."""

from __future__ import annotations

import argparse
import gzip
import struct
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

MEMBER = "./usr/share/mricron/templates/ch2.nii.gz"
HEIGHTS = (46, 58, 68, 78, 88, 100, 112, 126)  # voxels above the lowest slice, 1 mm each


def ar_members(blob: bytes) -> Iterator[tuple[str, bytes]]:
    """Go through the members of an `ar` archive, which is what a Debian package is."""
    at = 8  # after the magic line
    while at + 60 <= len(blob):
        size = int(blob[at + 48 : at + 58])
        yield blob[at : at + 16].decode().strip().rstrip("/"), blob[at + 60 : at + 60 + size]
        at += 60 + size + size % 2


def unpack(package: Path) -> bytes:
    """Read the NIfTI file out of the package."""
    data = next(b for name, b in ar_members(package.read_bytes()) if name.startswith("data.tar"))
    with tarfile.open(fileobj=BytesIO(data)) as archive:
        file = archive.extractfile(MEMBER)
        if file is None:
            raise SystemExit(f"{MEMBER} is no regular file")
        return gzip.decompress(file.read())


def volume_of(nifti: bytes) -> NDArray[np.uint8]:
    """Read a volume of bytes (right, anterior, superior); this one is stored in just that order."""
    shape = struct.unpack("<3h", nifti[42:48])
    kind, start = struct.unpack("<h", nifti[70:72])[0], int(struct.unpack("<f", nifti[108:112])[0])
    if shape != (181, 217, 181) or kind != 2:
        raise SystemExit(f"not the expected volume of bytes: shape {shape}, data type {kind}")
    count = int(np.prod(shape))
    return np.frombuffer(nifti, np.uint8, count, start).reshape(shape, order="F")


def main() -> None:
    """Write the slices, nose up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("package", type=Path, help="mricron-data_*.deb")
    here = Path(__file__).parent
    parser.add_argument("out", type=Path, nargs="?", default=here / "colin27.npz")
    args = parser.parse_args()
    volume = volume_of(unpack(args.package))
    slices = np.stack([volume[:, ::-1, z].T for z in HEIGHTS])
    np.savez_compressed(
        args.out, image=slices, height=np.array(HEIGHTS), spacing_mm=np.array([1.0, 1.0])
    )
    print(f"{args.out.name}: {slices.shape} {slices.dtype}, {args.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
