"""Errors for files that scanners and viewers write, and that need a converter first."""

from __future__ import annotations

from pathlib import Path

from tiltkit.errors import InputError

__all__ = ["foreign_format"]

# Ends of file names, the format, and the command that converts it; none for images.
_FORMATS = (
    ((".dat",), "Siemens raw data", "siemens_to_ismrmrd -f {name} -o raw.h5"),
    ((".7",), "a GE P-file", "ge_to_ismrmrd {name} -o raw.h5"),
    ((".lab", ".raw", ".sin"), "Philips raw data", "philips_to_ismrmrd -f {name} -o raw.h5"),
    (("fid", "ser", "rawdata.job0"), "Bruker raw data", "bruker_to_ismrmrd"),
    ((".nii", ".nii.gz"), "NIfTI", ""),
    ((".dcm", ".ima"), "DICOM", ""),
    ((".png", ".jpg", ".jpeg", ".tif", ".tiff"), "a picture", ""),
)
_NIFTI = (344, (b"n+1\0", b"ni1\0"))
_DICOM = (128, (b"DICM",))


def foreign_format(path: Path) -> InputError | None:
    """Error that names the converter of a foreign format; None where the format is not known."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        head = file.read(512)
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return None
    name = path.name.lower()
    for (offset, marks), end in ((_NIFTI, ".nii"), (_DICOM, ".dcm")):
        if head[offset : offset + 4] in marks:
            name = end
    for ends, kind, command in _FORMATS:
        if not name.endswith(ends):
            continue
        if not command:
            return InputError(
                f"{path} is {kind}: images, not raw data.",
                "give the raw data of the scan (ISMRMRD or fastMRI); magnitude images do not"
                " contain what was measured.",
            )
        return InputError(
            f"{path} is {kind}, which must be converted to ISMRMRD first.",
            f"convert it with '{command.format(name=path.name)}', then give the .h5 file.",
        )
    return None
