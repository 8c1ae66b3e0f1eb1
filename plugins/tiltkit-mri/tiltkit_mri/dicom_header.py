"""Values of an ISMRMRD header as attributes of DICOM: sequence, and, if allowed, the patient."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal

from tiltkit_mri.header import NAMESPACE

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

__all__ = ["Allowed", "allowed_values", "echo_time", "sequence_values"]

# Fields that can identify a patient or an examination, which are copied on request alone.
Allowed = Literal[
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "PatientWeight", "StudyDate",
    "StudyTime", "StudyID", "StudyInstanceUID", "StudyDescription", "AccessionNumber",
    "ReferringPhysicianName", "FrameOfReferenceUID", "ProtocolName", "InstitutionName",
    "StationName",
]  # fmt: skip
_PLACES: Mapping[str, str] = {
    "PatientName": "subjectInformation/patientName",
    "PatientID": "subjectInformation/patientID",
    "PatientBirthDate": "subjectInformation/patientBirthdate",
    "PatientSex": "subjectInformation/patientGender",
    "PatientWeight": "subjectInformation/patientWeight_kg",
    "StudyDate": "studyInformation/studyDate",
    "StudyTime": "studyInformation/studyTime",
    "StudyID": "studyInformation/studyID",
    "StudyInstanceUID": "studyInformation/studyInstanceUID",
    "StudyDescription": "studyInformation/studyDescription",
    "AccessionNumber": "studyInformation/accessionNumber",
    "ReferringPhysicianName": "studyInformation/referringPhysicianName",
    "FrameOfReferenceUID": "measurementInformation/frameOfReferenceUID",
    "ProtocolName": "measurementInformation/protocolName",
    "InstitutionName": "acquisitionSystemInformation/institutionName",
    "StationName": "acquisitionSystemInformation/stationName",
}
# Facts of the sequence, which identify nobody.
_SEQUENCE: Mapping[str, str] = {
    "MagneticFieldStrength": "acquisitionSystemInformation/systemFieldStrength_T",
    "RepetitionTime": "sequenceParameters/TR",
    "InversionTime": "sequenceParameters/TI",
    "FlipAngle": "sequenceParameters/flipAngle_deg",
    "EchoTime": "sequenceParameters/TE",
}
_ORIENTATIONS = ("HFP", "HFS", "HFDR", "HFDL", "FFDR", "FFDL", "FFP", "FFS")


def allowed_values(header: Element | None, names: Iterable[str]) -> dict[str, str]:
    """Values of the named fields by DICOM keyword, as far as the header has them."""
    found = {name: _first(header, _PLACES[name]) for name in names}
    for name, value in found.items():
        if name.endswith(("Date", "Time")):  # 2012-01-31 and 12:34:56.7 in XML
            found[name] = re.sub("[-:]", "", value)
    return {name: value for name, value in found.items() if value}


def sequence_values(header: Element | None) -> dict[str, str]:
    """Field strength, times in ms, flip angle and position of the patient by DICOM keyword."""
    found = {name: _decimal(_first(header, place)) for name, place in _SEQUENCE.items()}
    orientation = _first(header, "measurementInformation/patientPosition")
    found["PatientPosition"] = orientation if orientation in _ORIENTATIONS else ""
    return {name: value for name, value in found.items() if value}


def echo_time(header: Element | None, contrast: int) -> str:
    """Echo time in ms of one of several contrasts; empty where the header has no such list."""
    times = _texts(header, "sequenceParameters/TE")
    return _decimal(times[contrast]) if 1 < len(times) > contrast else ""


def _decimal(text: str) -> str:
    """A number in the 16 characters that DICOM has for it; empty for other texts."""
    try:
        value = float(text)
    except ValueError:
        return ""
    return f"{value:.9g}" if math.isfinite(value) else ""


def _first(header: Element | None, place: str) -> str:
    return next(iter(_texts(header, place)), "")


def _texts(header: Element | None, place: str) -> list[str]:
    """Texts of all elements at a place; none where the document cannot be read."""
    if header is None:
        return []
    found = header.findall("/".join(f"m:{part}" for part in place.split("/")), NAMESPACE)
    return [(one.text or "").strip() for one in found]
