"""Attributes of a DICOM file: examination, sequence, place and description of one slice."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID, uuid5

import numpy as np

from tiltkit.errors import InputError
from tiltkit.io.places import Places
from tiltkit_mri.dicom_header import echo_time, sequence_values

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from numpy.typing import NDArray
    from pydicom import Dataset

__all__ = ["Series", "Source", "describe_places", "make_dataset"]

# Identifiers are hashes of a result in this name space.
_SPACE = UUID("6f2a9b1e-6f0b-5d0c-9d6e-2f8b7f6a4c11")


@dataclass(frozen=True, slots=True)
class Source:
    """What all files of a result have in common.

    Attributes:
        scan: Digest of the scan's raw data.
        digest: Digest of the result.
        header: Header of the scan; None where it has none that can be read.
        kept: Allowed fields of the header by DICOM keyword.
        places: Positions of the slices.
        method: How the images were made, for people.
        warnings: Warnings of each slice.
    """

    scan: str
    digest: str
    header: Element | None
    kept: dict[str, str]
    places: Places
    method: str
    warnings: Sequence[str]


@dataclass(frozen=True, slots=True)
class Series:
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


def make_dataset(source: Source, series: Series, index: int) -> Dataset:
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
    comments = ["Not for diagnosis.", source.warnings[index], *describe_places(source.places)]
    made.ImageComments = " ".join(filter(None, comments))[:10240]
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated = made.BitsStored = 16
    made.HighBit, made.PixelRepresentation = 15, 0
    made.BurnedInAnnotation, made.LossyImageCompression = "NO", "00"
    return made


def _set_examination(made: Dataset, source: Source) -> None:
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
    assign(made, values | source.kept)
    if not source.kept:
        made.PatientIdentityRemoved = "YES"
        made.DeidentificationMethod = "No field of the scan's header that identifies was copied."
    made.PositionReferenceIndicator = made.Laterality = ""
    made.Modality, made.Manufacturer = "MR", "tiltkit"
    made.SoftwareVersions = source.method.partition(":")[0]


def assign(made: Dataset, values: dict[str, str]) -> None:
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


def _set_sequence(made: Dataset, source: Source, volume: str) -> None:
    """What was measured, as far as the header states it."""
    made.ScanningSequence, made.SequenceVariant, made.ScanOptions = "RM", "NONE", ""
    made.MRAcquisitionType, made.EchoTrainLength = "2D", None
    assign(
        made, {"PatientPosition": "", "RepetitionTime": "", "EchoTime": ""}
        | sequence_values(source.header)
    )  # fmt: skip
    if counted := re.search(r"(?:contrast|echo) (\d+)", volume):
        made.EchoNumbers = int(counted[1]) + 1
        if time := echo_time(source.header, int(counted[1])):
            assign(made, {"EchoTime": time})


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


def describe_places(places: Places) -> list[str]:
    """What the positions in the files do not tell."""
    if places.patient:
        return []
    found = ["The position in the patient is not known: the DICOM files state axial slices."]
    if len(places.first) > 1 and "slice distance" in places.unknown:
        found.append("The slice distance is not known: it is 1 mm in the DICOM files.")
    return found
