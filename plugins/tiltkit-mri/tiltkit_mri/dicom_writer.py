"""Writer of DICOM: derived MR images of the mean and the standard deviation, one file a slice."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID, uuid5

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from tiltkit.errors import InputError
from tiltkit.io.places import Places, read_places
from tiltkit.io.reading import (
    open_result,
    read_provenance,
    read_recipe,
    read_slice_diagnostics,
)
from tiltkit_mri.dicom_header import Allowed, allowed_values, echo_time, sequence_values

if TYPE_CHECKING:
    import h5py
    from numpy.typing import NDArray
    from pydicom import Dataset

__all__ = ["DicomOptions", "write_dicom"]

# Largest stored value: 16 bits without sign.
_LARGEST = 2**16 - 1
# Series numbers behind those of a scanner.
_SERIES = 9001
# Identifiers are hashes of a result in this name space.
_SPACE = UUID("6f2a9b1e-6f0b-5d0c-9d6e-2f8b7f6a4c11")


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


@dataclass(frozen=True, slots=True)
class _Source:
    """What all files of a result have in common.

    Attributes:
        scan: Digest of the scan's raw data.
        digest: Digest of the result.
        xml: Header of the scan; may be empty.
        kept: Allowed fields of the header by DICOM keyword.
        places: Positions of the slices.
        method: How the images were made, for people.
        warnings: Warnings of each slice.
    """

    scan: str
    digest: str
    xml: str
    kept: dict[str, str]
    places: Places
    method: str
    warnings: Sequence[str]


@dataclass(frozen=True, slots=True)
class _Series:
    """Slices of one kind and volume.

    Attributes:
        kind: ``mean``, ``std`` or the name of a further image.
        description: What the images show, in a few words.
        units: Unit of the values; empty for arbitrary units.
        volume: Name of the volume, such as ``"contrast 1"``; may be empty.
        number: Number of the series.
        slices: Numbers of the slices in the result.
        values: Images (slice, row, column).
    """

    kind: str
    description: str
    units: str
    volume: str
    number: int
    slices: Sequence[int]
    values: NDArray[np.float32]

    @property
    def folder(self) -> str:
        """Name of the folder."""
        return re.sub(r"\W+", "-", f"posterior {self.kind} {self.volume}".strip())

    @property
    def text(self) -> str:
        """Description with the volume."""
        return f"{self.description}, {self.volume}" if self.volume else self.description


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
    task = str(dict(read_recipe(result)["task"]).get("name", ""))
    if "mri" not in task:
        raise InputError(
            f"{result} is of the task {task}, and the files are those of MR images.",
            "write another format, such as nifti.",
        )
    places = read_places(result)
    with open_result(result) as file:
        found = _images(file)
        planes = file["entry/data/data"].ndim == 3
    if not planes or "pixel size" in places.unknown:
        raise InputError(
            f"{result} has {'no pixel size in mm' if planes else 'images that are no planes'};"
            " DICOM images are planes with a pixel size in mm.",
            "write another format, such as nifti.",
        )
    missing = next((name for name in options.also if name not in found), None)
    if missing is not None:
        raise InputError(
            f"{result} has no image {missing!r}.", f"it has {', '.join(list(found)[2:]) or 'none'}."
        )
    source = _read_source(result, places, options)
    number, remarks = _SERIES, _unknown(places)
    for kind in ("mean", "std", *options.also):
        path, description = found[kind]
        with open_result(result) as file:
            values, units = file[path][()], str(file[path].attrs["units"])
        if not np.isfinite(values).all():
            remarks.append(f"The series {kind} is left out: it has values that are not numbers.")
            continue
        for volume in dict.fromkeys(places.volumes):
            chosen = [i for i, name in enumerate(places.volumes) if name == volume]
            series = _Series(kind, description, units, volume, number, chosen, values[chosen])
            _write(series, source, output)
            number += 1
    return remarks


write_dicom.Options = DicomOptions  # type: ignore[attr-defined]


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


def _unknown(places: Places) -> list[str]:
    """What the positions in the files do not tell."""
    if places.patient:
        return []
    found = ["The position in the patient is not known: the DICOM files state axial slices."]
    if len(places.first) > 1 and "slice distance" in places.unknown:
        found.append("The slice distance is not known: it is 1 mm in the DICOM files.")
    return found


def _read_source(result: Path, places: Places, options: DicomOptions) -> _Source:
    with open_result(result) as file:
        stored = file.get("entry/scan_header/ismrmrd_header")
        xml = "" if stored is None else str(stored.asstr()[()])
        count = len(file["entry/samples/samples"])
    with result.open("rb") as raw:
        digest = hashlib.file_digest(raw, "sha256").hexdigest()
    origin, recipe = read_provenance(result), read_recipe(result)
    version = str(dict(origin.get("versions", {})).get("tiltkit", ""))
    prior, sampler = (dict(recipe[part]).get("name", "") for part in ("prior", "sampler"))
    reports = [read_slice_diagnostics(result, i) for i in range(len(places.first))]
    return _Source(
        scan=str(origin.get("raw_sha256", digest)),
        digest=digest,
        xml=xml,
        kept=allowed_values(xml, options.keep),
        places=places,
        method=f"tiltkit {version}: {count} samples, prior {prior}, sampler {sampler}",
        warnings=[" ".join(map(str, report.get("warnings", ()))) for report in reports],
    )


def _write(series: _Series, source: _Source, output: Path) -> None:
    """Write all slices of a series."""
    from pydicom.valuerep import format_number_as_ds

    folder = output / series.folder
    folder.mkdir()
    low = min(float(series.values.min()), 0.0)
    intercept = format_number_as_ds(low)
    height = float(series.values.max()) - float(intercept)
    slope = format_number_as_ds(height / _LARGEST if height > 0 else 1.0)
    for position, index in enumerate(series.slices):
        made = _dataset(source, series, index)
        made.InstanceNumber = position + 1
        stored = np.rint((series.values[position] - float(intercept)) / float(slope))
        made.Rows, made.Columns = stored.shape
        made.PixelData = stored.clip(0, _LARGEST).astype("<u2").tobytes()
        made["PixelData"].VR = "OW"
        made.RescaleIntercept, made.RescaleSlope, made.RescaleType = intercept, slope, "US"
        made.save_as(folder / f"{position + 1:04d}.dcm", enforce_file_format=True)


def _dataset(source: _Source, series: _Series, index: int) -> Dataset:
    """All attributes of one slice but its pixels."""
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SpecificCharacterSet = "ISO_IR 192"
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = MRImageStorage
    made.SOPInstanceUID = _uid(source.digest, series.folder, index)
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    _set_examination(made, source)
    made.SeriesInstanceUID = _uid(source.digest, series.folder)
    made.SeriesNumber = series.number
    made.SeriesDescription = f"tiltkit {series.text}"[:64]
    _set_sequence(made, source, series.volume)
    _set_place(made, source.places, index)
    shown = "PHASE MAP" if series.kind == "phase" else "OTHER"
    made.ImageType = ["DERIVED", "SECONDARY", shown, series.kind.upper()[:16]]
    made.DerivationDescription = (
        f"{series.text} by {source.method}. Not for diagnosis. Values are in"
        f" {series.units or 'arbitrary units'}: stored value x rescale slope + rescale intercept."
    )[:1024]
    comments = ["Not for diagnosis.", source.warnings[index], *_unknown(source.places)]
    made.ImageComments = " ".join(filter(None, comments))[:10240]
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated = made.BitsStored = 16
    made.HighBit, made.PixelRepresentation = 15, 0
    made.BurnedInAnnotation, made.LossyImageCompression = "NO", "00"
    return made


def _set_examination(made: Dataset, source: _Source) -> None:
    """Patient, study and equipment; without allowed fields, nothing but hashes of the raw data."""
    values = {
        "PatientName": "anonymous^",
        "PatientID": f"tiltkit-{source.scan[:12]}",
        "PatientBirthDate": "",
        "PatientSex": "",
        "StudyInstanceUID": _uid(source.scan, "study"),
        "StudyDate": "",
        "StudyTime": "",
        "StudyID": "",
        "AccessionNumber": "",
        "ReferringPhysicianName": "",
        "FrameOfReferenceUID": _uid(source.scan, "frame of reference"),
    }
    _assign(made, values | source.kept)
    if not source.kept:
        made.PatientIdentityRemoved = "YES"
        made.DeidentificationMethod = "No field of the scan's header that identifies was copied."
    made.PositionReferenceIndicator = made.Laterality = ""
    made.Modality, made.Manufacturer = "MR", "tiltkit"
    made.SoftwareVersions = source.method.partition(":")[0]


def _assign(made: Dataset, values: dict[str, str]) -> None:
    """Set attributes by keyword.

    Raises:
        InputError: A value that DICOM does not allow.
    """
    import pydicom.config

    with pydicom.config.strict_reading():
        for keyword, value in values.items():
            try:
                setattr(made, keyword, value)
            except (ValueError, TypeError, OverflowError) as error:
                raise InputError(
                    f"The header's {keyword} is {value[:64]!r}, which DICOM does not allow.",
                    f"leave {keyword} out of keep.",
                ) from error


def _set_sequence(made: Dataset, source: _Source, volume: str) -> None:
    """What was measured, as far as the header states it."""
    made.ScanningSequence, made.SequenceVariant, made.ScanOptions = "RM", "NONE", ""
    made.MRAcquisitionType, made.EchoTrainLength = "2D", None
    _assign(
        made, {"PatientPosition": "", "RepetitionTime": "", "EchoTime": ""}
        | sequence_values(source.xml)
    )  # fmt: skip
    if counted := re.search(r"(?:contrast|echo) (\d+)", volume):
        made.EchoNumbers = int(counted[1]) + 1
        if time := echo_time(source.xml, int(counted[1])):
            _assign(made, {"EchoTime": time})


def _set_place(made: Dataset, places: Places, index: int) -> None:
    """Position of the first pixel, directions along a row and a column, pixel size, thickness."""
    right, down = places.right[index], places.down[index]
    width, height = float(np.linalg.norm(right)), float(np.linalg.norm(down))
    made.ImagePositionPatient = _numbers(places.first[index])
    made.ImageOrientationPatient = _numbers([*(right / width), *(down / height)])
    made.PixelSpacing = _numbers([height, width])
    thickness = float(np.linalg.norm(places.across[index]))
    made.SliceThickness = _numbers([thickness])[0] if places.patient else None


def _numbers(values: Iterable[float]) -> list[str]:
    from pydicom.valuerep import format_number_as_ds

    return [format_number_as_ds(float(value)) for value in values]


def _uid(digest: str, *names: object) -> str:
    """A unique identifier from a hash, in the form that DICOM has for UUIDs."""
    return f"2.25.{uuid5(_SPACE, ' '.join([digest, *map(str, names)])).int}"
