"""Make macaque.npz, four axial slices of a macaque's brain, from Debian's mricron-data package."""

from __future__ import annotations

import argparse
import gzip
import tarfile
from io import BytesIO
from pathlib import Path

import numpy as np
from make_colin27 import ar_members
from nibabel import Nifti1Image, as_closest_canonical
from numpy.typing import NDArray

MEMBER = "./usr/share/mricron/templates/inia19-t1-brain.nii.gz"
HEIGHTS = (52, 62, 72, 82)  # voxels above the lowest slice, 0.5 mm each
MARGIN = 12


def volume_of(package: Path) -> NDArray[np.float32]:
    """Read the volume (right, anterior, superior) out of the package."""
    data = next(b for name, b in ar_members(package.read_bytes()) if name.startswith("data.tar"))
    with tarfile.open(fileobj=BytesIO(data)) as archive:
        file = archive.extractfile(MEMBER)
        if file is None:
            raise SystemExit(f"{MEMBER} is no regular file")
        image = as_closest_canonical(Nifti1Image.from_bytes(gzip.decompress(file.read())))
    return np.asarray(image.dataobj, np.float32).squeeze()


def main() -> None:
    """Write the slices, nose up, with a margin of air."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("package", type=Path, help="mricron-data_*.deb")
    here = Path(__file__).parent
    parser.add_argument("out", type=Path, nargs="?", default=here / "macaque.npz")
    args = parser.parse_args()
    volume = volume_of(args.package)
    slices = np.stack([volume[:, ::-1, z].T for z in HEIGHTS])
    filled = (slices > 0.1 * slices.max()).any(0)
    rows, columns = (np.flatnonzero(filled.any(axis)) for axis in (1, 0))
    slices = slices[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    slices = np.pad(slices, ((0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN)))
    slices = np.clip(255 * slices / np.percentile(volume[volume > 0], 99.9), 0, 255)
    np.savez_compressed(
        args.out,
        image=slices.round().astype(np.uint8),
        height=np.array(HEIGHTS),
        spacing_mm=np.array([0.5, 0.5]),
    )
    print(f"{args.out.name}: {slices.shape}, {args.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
