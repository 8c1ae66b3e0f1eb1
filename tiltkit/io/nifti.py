"""Writer of NIfTI files: mean, standard deviation, quantiles, samples, and a JSON sidecar."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from gzip import GzipFile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from tiltkit.errors import UsageError
from tiltkit.io.grid import Grid, make_grid
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

__all__ = [
    "Images", "NiftiOptions", "check_nifti", "further_images", "nifti_affine", "remarks", "save",
    "sidecar", "stored_images", "write_nifti",
]  # fmt: skip

# From LPS, the coordinates of DICOM and ISMRMRD, to RAS, those of NIfTI.
_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
# Codes of NIfTI: coordinates of the scanner; coordinates that only such files share.
_SCANNER, _ALIGNED = 1, 2
# Level of compression: higher ones are several times slower and hardly smaller for noise.
_COMPRESSION = 1


class NiftiOptions(BaseModel):
    """Options of the writer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    samples: bool = Field(False, description="write the samples, too, on the last axis")


@dataclass(frozen=True, slots=True)
class Images:
    """Images of all slices of a result, read one at a time.

    Attributes:
        name: Name for files, such as ``"std"``.
        text: Description, in a few words.
        draws: Functions from the number of a slice to its image: one, or one per sample.
        dtype: Type of the values.
        units: Unit of the values; None for that of the result.
    """

    name: str
    text: str
    draws: Sequence[Callable[[int], NDArray[Any]]]
    dtype: type[np.generic] = np.float32
    units: str | None = None


def write_nifti(result: Path, output: Path, options: NiftiOptions) -> list[str]:
    """Write ``NAME.nii.gz`` with the posterior mean, and further files beside it.

    They are ``NAME.std.nii.gz``, ``NAME.q05.nii.gz`` and ``NAME.q95.nii.gz`` with the ends of the
    90 % interval, ``NAME.json`` with a description, and, if they are asked for,
    ``NAME.samples.nii.gz``; ``NAME.phase.nii.gz`` with the phase of the mean in radians, and
    ``NAME.map-snr.nii.gz`` and so on with further images, where the result has them. Axes are
    (column, row, plane), then repetitions, contrasts or times, then samples. Values are float32, of
    complex images complex64, in the units of the result. The affine matrix is that of the patient
    (RAS) where the scan has a geometry, else that of the result's axes.

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
    check_nifti(result, output, options)
    stem = output.name.removesuffix(".nii.gz")
    places = read_places(result)
    grid = make_grid(places, result)
    names = {}
    with open_result(result) as file:
        stored = stored_images(file, samples=options.samples)
        for images in (*stored, *further_images(file, samples=options.samples)):
            end = "" if images.name == "mean" else f".{images.name}"
            path = output.with_name(f"{stem}{end}.nii.gz")
            save(path, images, grid, places)
            names[path.name] = images.text
    about = sidecar(result, grid, places) | {"Files": names}
    with output.with_name(f"{stem}.json").open("w", encoding="utf-8") as file:
        json.dump(about, file, indent=2, ensure_ascii=False)
    return remarks(grid, places)


def check_nifti(result: Path, output: Path, _options: NiftiOptions) -> None:
    """Check that `write_nifti` can write a result; the result may have no finished slices.

    Raises:
        UsageError: The name does not end with ``.nii.gz``.
        InputError: The slices lie on no common grid.
    """
    if not output.name.endswith(".nii.gz"):
        raise UsageError(
            f"{output.name} does not end with .nii.gz.", "choose a name like scan.nii.gz with -o."
        )
    make_grid(read_places(result), result)


write_nifti.Options = NiftiOptions  # type: ignore[attr-defined]
write_nifti.check = check_nifti  # type: ignore[attr-defined]


def stored_images(file: h5py.File, *, samples: bool) -> Iterator[Images]:
    """Mean, standard deviation and ends of the 90 % interval of an open result, and samples."""
    entry = file["entry"]
    drawn, quantiles = entry["samples/samples"], entry["quantiles/quantiles"]
    count = f"{len(drawn)} samples"
    yield Images("mean", f"posterior mean, {count}", [entry["data/data"].__getitem__])
    spread = entry["data/data_errors"].__getitem__
    yield Images("std", f"posterior standard deviation, {count}", [spread])
    levels = entry["quantiles/level"][()].tolist()
    for position in (0, len(levels) - 1):
        percent = round(100 * levels[position])
        text = f"{percent} % quantile of the posterior, {count}"
        yield Images(f"q{percent:02d}", text, [_draw(quantiles, position)])
    if samples:
        draws = [_draw(drawn, number) for number in range(len(drawn))]
        yield Images("samples", f"{len(drawn)} posterior samples", draws)


def further_images(file: h5py.File, *, samples: bool) -> Iterator[Images]:
    """Phase and further images of an open result; those of single samples if they are asked for.

    Complex images are complex64.
    """
    entry = file["entry"]
    if "phase" in entry:
        phase = entry["phase/phase"]
        text = "phase of the posterior mean in rad"
        yield Images("phase", text, [phase.__getitem__], units="rad")
    for name in entry.get("further", ()):
        images = entry[f"further/{name}/{name}"]
        unit = str(images.attrs["units"])
        text = f"{images.attrs['long_name']}{f' in {unit}' if unit else ''}"
        draws: list[Callable[[int], NDArray[Any]]] = [images.__getitem__]
        if images.ndim > entry["data/data"].ndim:
            draws = [_draw(images, number) for number in range(len(images) if samples else 0)]
        if draws:
            yield Images(f"map-{name}", text, draws, images.dtype.type, unit)


def _draw(dataset: h5py.Dataset, position: int) -> Callable[[int], NDArray[Any]]:
    return lambda index: np.asarray(dataset[position, index])


def save(
    path: Path, images: Images, grid: Grid, places: Places, volumes: Sequence[int] | None = None
) -> None:
    """Write one file; one slice is in memory at a time.

    Args:
        path: The file, compressed.
        images: Images of the slices; several draws are on the last axis.
        grid: The grid of the slices.
        places: Their positions.
        volumes: Volumes to write; all of them when None.
    """
    chosen = range(grid.shape[3]) if volumes is None else volumes
    # A single volume or draw has no axis, so that viewers show samples of a volume as a series.
    further = [n for n in (len(chosen), len(images.draws)) if n > 1]
    header = _header((*grid.shape[:3], *further), images, nifti_affine(grid, places), places)
    empty = np.full(grid.shape[1::-1], np.nan, images.dtype)
    # Neither time nor folder are in the file: the same result gives the same file.
    with path.open("wb") as raw, GzipFile("", "wb", _COMPRESSION, raw, mtime=0) as file:
        header.write_to(file)
        for draw in images.draws:
            for volume in chosen:
                for index in grid.slices(volume):
                    # NIfTI counts columns fastest, then rows and planes, as images in memory do.
                    image = empty if index is None else draw(index)
                    file.write(image.astype(empty.dtype.newbyteorder("<")).tobytes())


def _header(
    shape: tuple[int, ...], images: Images, affine: NDArray[np.float64], places: Places
) -> Any:
    """Header with affine matrix, units and description."""
    import nibabel

    header: Any = nibabel.Nifti1Header(endianness="<")  # type: ignore[no-untyped-call]
    header.set_data_dtype(images.dtype)
    header.set_data_shape(shape)
    code = _SCANNER if places.patient else _ALIGNED
    header.set_sform(affine, code)
    header.set_qform(affine, code)
    if not np.allclose(header.get_qform(), affine, atol=1e-3):
        header.set_qform(None, 0)  # quaternions hold no shear: the sform alone is right
    header.set_xyzt_units("unknown" if "pixel size" in places.unknown else "mm", "unknown")
    header["descrip"] = f"tiltkit: {images.text}"[:79].encode("ascii", "replace")
    return header


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
    missing = sum(grid.slices(volume).count(None) for volume in range(grid.shape[3]))
    if missing:
        found.append(f"{missing} planes of the NIfTI files have no slice in the result: NaN.")
    return found
