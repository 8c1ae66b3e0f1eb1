"""Writer of NIfTI files: mean, standard deviation, quantiles, samples, and a JSON sidecar."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from tiltkit.errors import InputError, UsageError
from tiltkit.io.places import Places, read_places
from tiltkit.io.reading import (
    open_result,
    read_provenance,
    read_slice_diagnostics,
    read_title,
    read_units,
)
from tiltkit.posterior.verdict import stored_verdict, worst_verdict
from tiltkit.posterior.warnings import group_warnings

if TYPE_CHECKING:
    import h5py
    from numpy.typing import NDArray

__all__ = ["Grid", "NiftiOptions", "make_grid", "nifti_affine", "write_nifti"]

# From LPS, the coordinates of DICOM and ISMRMRD, to RAS, those of NIfTI.
_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
# Codes of NIfTI: coordinates of the scanner; coordinates that only such files share.
_SCANNER, _ALIGNED = 1, 2
# Most planes of a volume, those between the slices included.
_MOST_PLANES = 2048
# Slices may be off their common grid by so much of a voxel.
_TOLERANCE = 0.05


class NiftiOptions(BaseModel):
    """Options of the writer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    samples: bool = Field(False, description="write the samples, too, on the last axis")


@dataclass(frozen=True, slots=True)
class Grid:
    """Volumes on one grid, made of slices.

    Attributes:
        affine: Matrix (4, 4) from (column, row, plane) to coordinates in mm.
        shape: Columns, rows, planes and volumes.
        plane: Plane of each slice.
        volume: Volume of each slice.
        names: Names of the volumes; empty for a single one.
    """

    affine: NDArray[np.float64]
    shape: tuple[int, int, int, int]
    plane: NDArray[np.intp]
    volume: NDArray[np.intp]
    names: tuple[str, ...]

    def fill(self, slices: NDArray[np.float32]) -> NDArray[np.float32]:
        """Volumes (column, row, plane, volume) of images (slice, row, column).

        Images of volumes have one more axis, for planes, in front of that of rows. NaN where no
        slice is.
        """
        if slices.ndim > 3:
            return np.ascontiguousarray(slices.T)
        volumes = np.full(self.shape, np.nan, np.float32)
        columns, rows = self.shape[:2]
        volumes[:, :, self.plane, self.volume] = slices.reshape(-1, rows, columns).T
        return volumes

    @property
    def gaps(self) -> bool:
        """Whether planes without a slice are between the slices."""
        return self.shape[2] * self.shape[3] > len(self.plane)


def write_nifti(result: Path, output: Path, options: NiftiOptions) -> list[str]:
    """Write ``NAME.nii.gz`` with the posterior mean, and further files beside it.

    They are ``NAME.std.nii.gz``, ``NAME.q05.nii.gz`` and ``NAME.q95.nii.gz`` with the ends of the
    90 % interval, ``NAME.json`` with a description, and, if they are asked for,
    ``NAME.samples.nii.gz``. Axes are (column, row, plane), then repetitions, contrasts or times,
    then samples. Values are float32 in the units of the result. The affine matrix is that of the
    patient (RAS) where the scan has a geometry, else that of the result's axes.

    Args:
        result: A result file.
        output: File for the mean; its name ends with ``.nii.gz``.
        options: Whether to write samples.

    Returns:
        Sentences for the user: what is not known, or filled.

    Raises:
        UsageError: The name has another end.
        InputError: The result cannot be read, or its slices lie on no common grid.
        OSError: A file cannot be written.
    """
    if not output.name.endswith(".nii.gz"):
        raise UsageError(
            f"{output.name} does not end with .nii.gz.", "choose a name like scan.nii.gz with -o."
        )
    stem = output.name.removesuffix(".nii.gz")
    places = read_places(result)
    grid = make_grid(places, result)
    names = []
    for name, text, image in stored_images(result, grid, samples=options.samples):
        end = "" if name == "mean" else f".{name}"
        path = output.with_name(f"{stem}{end}.nii.gz")
        save(path, image, grid, places, text)
        names.append((path.name, text))
    about = sidecar(result, grid, places) | {"Files": dict(names)}
    with output.with_name(f"{stem}.json").open("w", encoding="utf-8") as file:
        json.dump(about, file, indent=2, ensure_ascii=False)
    return remarks(grid, places)


write_nifti.Options = NiftiOptions  # type: ignore[attr-defined]


def stored_images(
    result: Path, grid: Grid, *, samples: bool
) -> Iterator[tuple[str, str, NDArray[np.float32]]]:
    """Names, descriptions and volumes of the images of a result, one in memory at a time."""
    with open_result(result) as file:
        entry = file["entry"]
        count = len(entry["samples/samples"])
        yield "mean", f"posterior mean, {count} samples", grid.fill(entry["data/data"][()])
        text = f"posterior standard deviation, {count} samples"
        yield "std", text, grid.fill(entry["data/data_errors"][()])
        levels = entry["quantiles/level"][()]
        for position in (0, -1):
            percent = round(100 * float(levels[position]))
            text = f"{percent} % quantile of the posterior, {count} samples"
            image = grid.fill(_at(entry["quantiles/quantiles"], position))
            yield f"q{percent:02d}", text, image
        if samples:
            drawn = [grid.fill(_at(entry["samples/samples"], i)) for i in range(count)]
            stacked = np.stack(drawn, axis=-1)
            # One volume has no axis of its own, so that viewers show samples as a 4-D series.
            stacked = stacked[:, :, :, 0] if stacked.shape[3] == 1 else stacked
            yield "samples", f"{count} posterior samples", stacked


def _at(dataset: h5py.Dataset, position: int) -> NDArray[np.float32]:
    found: NDArray[np.float32] = dataset[position % len(dataset)]
    return found


def save(
    path: Path, image: NDArray[np.float32], grid: Grid, places: Places, description: str
) -> None:
    """Write one file with its affine matrix, units and description."""
    import nibabel

    image = image[..., 0] if image.shape[-1] == 1 and image.ndim == 4 else image
    affine = nifti_affine(grid, places)
    code = _SCANNER if places.patient else _ALIGNED
    made: Any = nibabel.Nifti1Image(image, affine, dtype=np.float32)  # type: ignore[no-untyped-call]
    made.set_sform(affine, code)
    made.set_qform(affine, code)
    if not np.allclose(made.get_qform(), affine, atol=1e-3):
        made.set_qform(None, 0)  # quaternions hold no shear: the sform alone is right
    made.header.set_xyzt_units("unknown" if "pixel size" in places.unknown else "mm", "unknown")
    made.header["descrip"] = f"tiltkit: {description}"[:79].encode("ascii", "replace")
    made.to_filename(path)


def nifti_affine(grid: Grid, places: Places) -> NDArray[np.float64]:
    """Affine matrix of NIfTI files: to RAS coordinates of the patient where they are known."""
    return _RAS @ grid.affine if places.patient else grid.affine


def sidecar(result: Path, grid: Grid, places: Places) -> dict[str, Any]:
    """What the images are, in the words of BIDS where it has any."""
    origin = read_provenance(result)
    reports = [read_slice_diagnostics(result, i) for i in range(len(grid.plane))]
    verdict = worst_verdict([stored_verdict(report) for report in reports])
    found = group_warnings(report.get("warnings", ()) for report in reports)
    version = str(dict(origin.get("versions", {})).get("tiltkit", ""))
    about = {
        "Description": f"{read_title(result)}: posterior by tiltkit; not for diagnosis",
        "Units": read_units(result) or "arbitrary",
        "Sources": [str(origin.get("raw_file", ""))],
        "GeneratedBy": {"Name": "tiltkit", "Version": version},
        "Coordinates": "scanner, RAS" if places.patient else "axes of the result",
        "SliceNumbers": list(places.numbers),
        "Warnings": [str(one) for one, _ in found],
        "Verdict": verdict.sentence(),
    }
    if grid.names:
        about["VolumeNames"] = list(grid.names)
    if notes := remarks(grid, places):
        about["Notes"] = notes
    return about


def remarks(grid: Grid, places: Places) -> list[str]:
    """What the affine matrix and the volumes do not tell."""
    found = []
    for what in places.unknown:
        if what == "pixel size" or grid.shape[2] > 1:
            found.append(f"The {what} is not known: it is 1 in the NIfTI files.")
    if grid.gaps:
        missing = grid.shape[2] * grid.shape[3] - len(grid.plane)
        found.append(f"{missing} planes of the NIfTI files have no slice in the result: NaN.")
    return found


def make_grid(places: Places, result: Path) -> Grid:
    """Find the grid on which all slices lie.

    Slices of a subset leave planes between them empty. Slices at the same position are volumes of
    their own.

    Raises:
        InputError: Slices have different directions or pixel sizes, or irregular distances.
    """
    with open_result(result) as file:
        shape = file["entry/data/data"].shape
    columns, rows = shape[-1], shape[-2] if len(shape) > 2 else 1
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 3] = places.right[0], places.down[0], places.first[0]
    names = tuple(dict.fromkeys(places.volumes))
    if len(shape) > 3:
        affine[:3, 2] = places.across[0]
        number = np.arange(shape[0])
        size = (columns, rows, shape[1], shape[0])
        return Grid(affine, size, np.zeros(shape[0], int), number, names if shape[0] > 1 else ())
    _check_parallel(places, (columns, rows), result)
    plane, step = _planes(places, result)
    affine[:3, 2] = step
    affine[:3, 3] -= plane[0] * step
    volume = np.array([names.index(name) for name in places.volumes])
    if len(set(zip(plane, volume, strict=True))) < len(plane):
        # Several slices at one position: nothing states which belong together, but their order.
        volume = _repeats(plane)
        names = tuple(f"image {i}" for i in range(volume.max() + 1))
    size = (columns, rows, int(plane.max()) + 1, int(volume.max()) + 1)
    return Grid(affine, size, plane, volume, names if size[3] > 1 else ())


def _check_parallel(places: Places, shape: tuple[int, int], result: Path) -> None:
    """Refuse slices with different directions or pixel sizes: the far corners must agree."""
    corners = shape[0] * places.right, shape[1] * places.down
    limit = min(np.linalg.norm(places.right[0]), np.linalg.norm(places.down[0])) / 2
    same = [
        all(np.linalg.norm(corner[i] - corner[0]) < limit for corner in corners)
        for i in range(len(places.first))
    ]
    if not all(same):
        numbers = [n for n, here in zip(places.numbers, same, strict=True) if here]
        raise InputError(
            f"The slices of {result} have different directions or pixel sizes, and NIfTI has one"
            f" for all; slices {', '.join(map(str, numbers))} agree.",
            "choose slices that agree with --slices, or write DICOM.",
        )


def _planes(places: Places, result: Path) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Plane of each slice, counted from 0, and the step from plane to plane."""
    offsets = places.first - places.first[0]
    normal = np.cross(places.right[0], places.down[0])
    normal /= np.linalg.norm(normal)
    if places.across[0] @ normal < 0:
        normal = -normal
    distance = offsets @ normal
    thickness = float(np.linalg.norm(places.across[0]))
    gap = _common_gap(np.diff(np.unique(distance)), _TOLERANCE * thickness)
    if gap is None:
        return np.zeros(len(distance), int), normal * thickness
    number = np.rint(distance / gap)
    if distance[-1] < distance[0]:
        number, gap = -number, -gap
    step = offsets.T @ number / (number @ number)
    pixel = min(np.linalg.norm(places.right[0]), np.linalg.norm(places.down[0]), abs(gap))
    off = np.linalg.norm(offsets - number[:, None] * step, axis=1).max() / pixel
    plane = (number - number.min()).astype(int)
    if off > 2 * _TOLERANCE or plane.max() >= _MOST_PLANES:
        raise InputError(
            f"The slices of {result} have irregular distances, and NIfTI has one distance for all.",
            "choose slices at equal distances with --slices, or write DICOM.",
        )
    return plane, step


def _common_gap(gaps: NDArray[np.float64], tolerance: float) -> float | None:
    """The largest distance of which all gaps are multiples, about; None without gaps."""
    common: float | None = None
    for gap in gaps[gaps > tolerance]:
        a, b = max(common or gap, gap), min(common or gap, gap)
        while b > tolerance:
            a, b = b, abs(a - round(a / b) * b)
        common = float(a)
    return common


def _repeats(plane: NDArray[np.intp]) -> NDArray[np.intp]:
    """For each slice, the number of earlier slices in the same plane."""
    return np.array([int((plane[:i] == one).sum()) for i, one in enumerate(plane)])
