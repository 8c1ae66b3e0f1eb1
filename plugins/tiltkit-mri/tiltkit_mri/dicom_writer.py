"""Writer of DICOM: derived MR images of the mean and the standard deviation, one file a slice."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from tiltkit.errors import InputError
from tiltkit.io.places import Places, read_places
from tiltkit.io.reading import (
    open_result,
    read_provenance,
    read_recipe,
    read_slice_diagnostics,
    result_shape,
)
from tiltkit_mri.dicom_attributes import Series, Source, assign, describe_places, make_dataset
from tiltkit_mri.dicom_header import Allowed, allowed_values
from tiltkit_mri.header import parse_xml

if TYPE_CHECKING:
    import h5py

__all__ = ["DicomOptions", "write_dicom"]

# Largest stored value: 16 bits without sign.
_LARGEST = 2**16 - 1
# Series numbers behind those of a scanner.
_SERIES = 9001


def _split(value: Any) -> Any:
    return tuple(value.split("+")) if isinstance(value, str) else value


class DicomOptions(BaseModel):
    """Options of the writer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    keep: Annotated[tuple[Allowed, ...], BeforeValidator(_split)] = Field(
        (), description="fields of the scan's header that may be copied, such as"
        " PatientID+StudyDate; none by default"
    )  # fmt: skip
    also: Annotated[tuple[str, ...], BeforeValidator(_split)] = Field(
        (), description="further images of the result as series, such as phase+snr"
    )


def write_dicom(result: Path, output: Path, options: DicomOptions) -> list[str]:
    """Write files of MR Image Storage: ``posterior-mean/0001.dcm`` and so on.

    The standard deviation and further images are in ``posterior-std/`` and so on. Contrasts and
    repetitions are series of their own (``posterior-mean-contrast-1/0001.dcm``). Values are 16
    bits with slope and intercept, the same for a series. Identifiers are hashes of the result, so
    that writing it again gives the same files. No field of the scan's header that can identify the
    patient is copied unless it is allowed.

    Args:
        result: A result file.
        output: An empty folder.
        options: Fields that may be copied, and further images to write.

    Returns:
        Sentences for the user: what is not known, or left out.

    Raises:
        InputError: The result cannot be read, is not of MRI, has no pixel size in mm, or images
            that are not planes, or no such further image; or an allowed field has a value that
            DICOM does not allow.
        OSError: A file cannot be written.
    """
    check_dicom(result, output, options)
    places = read_places(result)
    with open_result(result) as file:
        found = _images(file)
    missing = next((name for name in options.also if name not in found), None)
    if missing is not None:
        raise InputError(
            f"{result} has no image {missing!r}.", f"it has {', '.join(list(found)[2:]) or 'none'}."
        )
    source = _read_source(result, places, options)
    number, remarks = _SERIES, describe_places(places)
    for kind in ("mean", "std", *options.also):
        path, description = found[kind]
        with open_result(result) as file:
            values, units = file[path][()], str(file[path].attrs["units"])
        if not np.isfinite(values).all():
            remarks.append(f"The series {kind} is left out: it has values that are not numbers.")
            continue
        for volume in dict.fromkeys(places.volumes):
            chosen = [i for i, name in enumerate(places.volumes) if name == volume]
            series = Series(kind, description, units, volume, number, chosen, values[chosen])
            _write(series, source, output)
            number += 1
    return remarks


def check_dicom(result: Path, _output: Path, options: DicomOptions) -> None:
    """Check that `write_dicom` can write a result; the result may have no finished slices.

    Raises:
        InputError: The result is not of MRI, has no pixel size in mm, or images that are not
            planes; or an allowed field has a value that DICOM does not allow.
    """
    from pydicom.dataset import Dataset

    task = str(dict(read_recipe(result)["task"]).get("name", ""))
    if "mri" not in task:
        raise InputError(
            f"{result.name} is of the task {task}, and the files are those of MR images.",
            "write another format, such as nifti.",
        )
    planes = len(result_shape(result)) == 3
    if not planes or "pixel size" in read_places(result).unknown:
        raise InputError(
            f"{result.name} has {'no pixel size in mm' if planes else 'images that are no planes'};"
            " DICOM images are planes with a pixel size in mm.",
            "write another format, such as nifti.",
        )
    assign(Dataset(), allowed_values(_read_header(result), options.keep))


write_dicom.Options = DicomOptions  # type: ignore[attr-defined]
write_dicom.check = check_dicom  # type: ignore[attr-defined]


def _images(file: h5py.File) -> dict[str, tuple[str, str]]:
    """Places in the file and descriptions of all real images of a result, by name."""
    entry = file["entry"]
    found = {
        "mean": ("entry/data/data", "posterior mean"),
        "std": ("entry/data/data_errors", "posterior standard deviation"),
    }
    if "phase" in entry:
        found["phase"] = ("entry/phase/phase", "phase of the posterior mean")
    for name in entry.get("further", ()):
        images = entry[f"further/{name}/{name}"]
        if images.dtype.kind == "f" and images.ndim == entry["data/data"].ndim:
            found[name] = (images.name, str(images.attrs["long_name"]))
    return found


def _read_header(result: Path) -> Any:
    """Header of the scan; None where the scan has none."""
    with open_result(result) as file:
        stored = file.get("entry/scan_header/ismrmrd_header")
        return None if stored is None else parse_xml(str(stored.asstr()[()]))


def _read_source(result: Path, places: Places, options: DicomOptions) -> Source:
    with open_result(result) as file:
        count = len(file["entry/samples/samples"])
    header = _read_header(result)
    with result.open("rb") as raw:
        digest = hashlib.file_digest(raw, "sha256").hexdigest()
    origin, recipe = read_provenance(result), read_recipe(result)
    version = str(dict(origin.get("versions", {})).get("tiltkit", ""))
    prior, sampler = (dict(recipe[part]).get("name", "") for part in ("prior", "sampler"))
    reports = [read_slice_diagnostics(result, i) for i in range(len(places.first))]
    return Source(
        scan=str(origin.get("raw_sha256", digest)),
        digest=digest,
        header=header,
        kept=allowed_values(header, options.keep),
        places=places,
        method=f"tiltkit {version}: {count} samples, prior {prior}, sampler {sampler}",
        warnings=[" ".join(map(str, report.get("warnings", ()))) for report in reports],
    )


def _write(series: Series, source: Source, output: Path) -> None:
    """Write all slices of a series."""
    from pydicom.valuerep import format_number_as_ds

    folder = output / series.folder
    folder.mkdir()
    low = min(float(series.values.min()), 0.0)
    intercept = format_number_as_ds(low)
    height = float(series.values.max()) - float(intercept)
    slope = format_number_as_ds(height / _LARGEST if height > 0 else 1.0)
    for position, index in enumerate(series.slices):
        made = make_dataset(source, series, index)
        made.InstanceNumber = position + 1
        stored = np.rint((series.values[position] - float(intercept)) / float(slope))
        made.Rows, made.Columns = stored.shape
        made.PixelData = stored.clip(0, _LARGEST).astype("<u2").tobytes()
        made["PixelData"].VR = "OW"
        made.RescaleIntercept, made.RescaleSlope, made.RescaleType = intercept, slope, "US"
        made.save_as(folder / f"{position + 1:04d}.dcm", enforce_file_format=True)
