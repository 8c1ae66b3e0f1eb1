"""DICOM files of an oblique scan, read by pydicom, compared with NIfTI, checked by dciodvfy."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import ismrmrd
import nibabel
import numpy as np
import pydicom
import pytest
from pydantic import ValidationError
from scipy.spatial.transform import Rotation
from tiltkit_mri.dicom_writer import DicomOptions, write_dicom

from tiltkit import reconstruct
from tiltkit.cli import main
from tiltkit.errors import InputError, Kind
from tiltkit.io.nifti import NiftiOptions, write_nifti

OBLIQUE = Rotation.from_euler("xyz", [20, -35, 50], degrees=True).as_matrix()
CENTRES = np.array([12.0, -34.0, 56.0]) + np.outer([0.0, 7.0], OBLIQUE[:, 2])
PERSON = (
    "<subjectInformation><patientName>Doe^Jane</patientName><patientWeight_kg>61</patientWeight_kg>"
    "<patientID>MRN-4711</patientID><patientBirthdate>1961-02-03</patientBirthdate>"
    "</subjectInformation><studyInformation><studyDate>2020-05-06</studyDate>"
    "<referringPhysicianName>Roe^Richard</referringPhysicianName></studyInformation>"
    "<measurementInformation><patientPosition>HFS</patientPosition>"
    "<protocolName>Jane</protocolName></measurementInformation>"
    "<acquisitionSystemInformation><systemFieldStrength_T>strong</systemFieldStrength_T>"
    "<institutionName>Springfield</institutionName></acquisitionSystemInformation>"
)
SECRETS = (b"Doe", b"Jane", b"MRN", b"1961", b"2020", b"Roe", b"Springfield", b"raw.h5")
SEQUENCE = "<sequenceParameters><TR>500</TR><TE>4.5</TE><TE>9</TE></sequenceParameters>"


@pytest.fixture(scope="module")
def raw_data(simulate: Any, sampling: Any, header: Any) -> Callable[..., Path]:
    """Writes ISMRMRD raw data of two oblique slices of two contrasts; ``turns`` are theirs."""

    def make(path: Path, turns: Any = (OBLIQUE, OBLIQUE), person: str = PERSON) -> Path:
        scan = simulate()
        xml = header((64, 56), (64, 56)).replace("<encoding>", f"{person}<encoding>", 1)
        with ismrmrd.Dataset(str(path)) as file:
            file.write_xml_header(xml.replace("</encoding>", f"</encoding>{SEQUENCE}"))
            for number in range(4):
                data = (scan.noisy(0.01, number) * (number + 1) * 1e-6).astype(np.complex64)
                for column in np.flatnonzero(sampling(56)):
                    line = ismrmrd.Acquisition.from_array(np.ascontiguousarray(data[..., column]))
                    line.center_sample, line.idx.kspace_encode_step_1 = 32, column
                    line.idx.contrast, line.idx.slice = divmod(number, 2)
                    line.position[:] = CENTRES[number % 2]
                    line.read_dir[:], line.phase_dir[:], line.slice_dir[:] = turns[number % 2].T
                    file.append_acquisition(line)
        return path

    return make


@pytest.fixture(scope="module")
def result(tmp_path_factory: Any, raw_data: Callable[..., Path]) -> Path:
    """Two oblique slices of two contrasts, 64 x 56 pixels of 2 mm, from ISMRMRD raw data."""
    folder = tmp_path_factory.mktemp("dicom")
    raw_data(folder / "raw.h5")
    settings = {"sampler.levels": 5, "sampler.collect": 1}
    out = folder / "o.h5"
    reconstruct(
        "mri-recon", folder / "raw.h5", output=out, prior="gaussian", samples=3, settings=settings
    )
    return out


@pytest.fixture
def copy(result: Path, tmp_path: Path) -> Path:
    """A copy of the result that a test may change."""
    return shutil.copy(result, tmp_path / "copy.h5")


@pytest.fixture
def export(result: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Writes DICOM and reads it: files by folder and name."""

    def make(keep: str = "", source: Path = result) -> dict[str, Any]:
        out = tmp_path / (keep or "out")
        out.mkdir()
        options = DicomOptions(keep=keep) if keep else DicomOptions()
        make.told = write_dicom(source, out, options)  # type: ignore[attr-defined]
        return {
            path.relative_to(out).as_posix(): pydicom.dcmread(path)
            for path in sorted(out.rglob("*.dcm"))
        }

    return make


def values(file: Any) -> np.ndarray:
    return pydicom.pixels.apply_modality_lut(file.pixel_array, file)


def place(file: Any, row: int, column: int) -> np.ndarray:
    """Coordinates (LPS) of a pixel: equation C.7.6.2.1-1 of DICOM."""
    along_row, along_column = np.reshape(np.array(file.ImageOrientationPatient, float), (2, 3))
    height, width = map(float, file.PixelSpacing)
    first = np.array(file.ImagePositionPatient, float)
    return first + along_row * width * column + along_column * height * row


def test_contrasts_are_series_and_values_are_those_of_the_result(
    result: Path, export: Callable[..., Any]
) -> None:
    files = export()
    assert list(files) == [
        f"posterior-{kind}-contrast-{contrast}/000{number}.dcm"
        for kind in ("mean", "std") for contrast in (0, 1) for number in (1, 2)
    ]  # fmt: skip
    assert export.told == []  # type: ignore[attr-defined]
    with h5py.File(result) as file:
        mean, spread = file["entry/data/data"][()], file["entry/data/std"][()]
    for kind, images in (("mean", mean), ("std", spread)):
        for index in range(4):
            found = files[f"posterior-{kind}-contrast-{index // 2}/000{index % 2 + 1}.dcm"]
            np.testing.assert_allclose(
                values(found), images[index], atol=0.501 * float(found.RescaleSlope)
            )
            assert found.pixel_array.dtype == np.uint16
        assert float(found.RescaleSlope) == pytest.approx(images[2:].max() / 65535)
    series = {file.SeriesInstanceUID for file in files.values()}
    assert (len(series), len({file.SOPInstanceUID for file in files.values()})) == (4, 8)
    assert len({file.StudyInstanceUID for file in files.values()}) == 1
    second = files["posterior-mean-contrast-1/0001.dcm"]
    assert (second.EchoNumbers, second.EchoTime, second.RepetitionTime) == (2, 9, 500)
    assert "MagneticFieldStrength" not in second  # the header has no number
    assert second.ImageType[0] == "DERIVED"
    assert "Not for diagnosis" in second.DerivationDescription
    assert "arbitrary units" in second.DerivationDescription


def test_dicom_and_nifti_put_every_pixel_at_the_same_place_in_the_patient(
    result: Path, export: Callable[..., Any], tmp_path: Path
) -> None:
    files = export()
    write_nifti(result, tmp_path / "o.nii.gz", NiftiOptions())
    image = nibabel.load(tmp_path / "o.nii.gz")
    volumes, to_voxel = image.get_fdata(), np.linalg.inv(image.affine)
    for contrast in (0, 1):
        for number in (0, 1):
            file = files[f"posterior-mean-contrast-{contrast}/000{number + 1}.dcm"]
            np.testing.assert_allclose(place(file, 32, 28), CENTRES[number], atol=1e-3)
            step = place(file, 33, 28) - place(file, 32, 28)
            np.testing.assert_allclose(step, 2 * OBLIQUE[:, 0], atol=1e-4)
            for row, column in ((0, 0), (20, 41), (63, 5)):
                x, y, z = place(file, row, column)
                voxel = (to_voxel @ [-x, -y, z, 1])[:3]
                np.testing.assert_allclose(voxel, np.rint(voxel), atol=1e-3)
                i, j, k = np.rint(voxel).astype(int)
                assert volumes[i, j, k, contrast] == pytest.approx(
                    values(file)[row, column], abs=0.51 * float(file.RescaleSlope)
                )


@pytest.mark.skipif(shutil.which("dcm2niix") is None, reason="dcm2niix is not installed")
def test_dcm2niix_converts_the_dicom_files_to_the_nifti_file(
    result: Path, export: Callable[..., Any], tmp_path: Path
) -> None:
    export()
    write_nifti(result, tmp_path / "o.nii.gz", NiftiOptions())
    ours = nibabel.load(tmp_path / "o.nii.gz")
    folder = tmp_path / "out/posterior-mean-contrast-1"
    command = ["dcm2niix", "-f", "theirs", "-o", tmp_path, folder]
    subprocess.run(command, check=True, capture_output=True)
    [path] = tmp_path.glob("theirs*.nii")
    theirs = nibabel.load(path)
    voxels = np.indices(theirs.shape).reshape(3, -1)
    step = np.linalg.inv(ours.affine) @ theirs.affine
    places = step[:3, :3] @ voxels + step[:3, 3:]
    i, j, k = np.rint(places).astype(int)
    assert np.abs(places - [i, j, k]).max() < 1e-2
    found, expected = theirs.get_fdata()[tuple(voxels)], ours.get_fdata()[i, j, k, 1]
    np.testing.assert_allclose(found, expected, atol=expected.max() / 65535)


def test_nothing_that_identifies_the_patient_is_copied_unless_allowed(
    export: Callable[..., Any], tmp_path: Path
) -> None:
    file = next(iter(export().values()))
    assert (file.PatientIdentityRemoved, file.PatientName, file.StudyDate) == (
        "YES", "anonymous^", ""
    )  # fmt: skip
    for path in (tmp_path / "out").rglob("*.dcm"):
        # Identifiers are hashes: one in ten results has the digits of a year in one of them.
        text = re.sub(rb"2\.25\.\d+", b"", path.read_bytes())
        assert not [secret for secret in SECRETS if secret in text]
    allowed = next(iter(export("PatientID+StudyDate+PatientWeight").values()))
    assert (allowed.PatientID, allowed.StudyDate, allowed.PatientWeight) == (
        "MRN-4711", "20200506", 61
    )  # fmt: skip
    assert "PatientIdentityRemoved" not in allowed
    assert allowed.PatientName == "anonymous^"
    with pytest.raises(ValidationError, match="PatientAge"):
        DicomOptions(keep="PatientAge")


def test_a_field_that_dicom_does_not_allow_is_named(copy: Path, export: Callable[..., Any]) -> None:
    with h5py.File(copy, "r+") as file:
        xml = file["entry/scan_header/ismrmrd_header"]
        xml[()] = xml.asstr()[()].replace("1961-02-03", "spring 1961")
    with pytest.raises(InputError, match="PatientBirthDate is 'spring 1961'"):
        export("PatientBirthDate", copy)


@pytest.mark.parametrize(("format_", "complaint"), [
    ("nifti", "different directions"),
    ("bids", "different directions"),
    ("dicom,keep=PatientBirthDate", "PatientBirthDate is 'spring 1961'"),
])  # fmt: skip
def test_a_scan_that_a_format_cannot_hold_is_refused_before_sampling(
    raw_data: Callable[..., Path],
    tmp_path: Path,
    capsys: Any,
    monkeypatch: pytest.MonkeyPatch,
    format_: str,
    complaint: str,
) -> None:
    monkeypatch.setattr("tiltkit.recon.scan.sample_slice", lambda *_: pytest.fail("it sampled"))
    monkeypatch.chdir(tmp_path)
    turns = OBLIQUE, OBLIQUE[:, [2, 0, 1]]
    scan = raw_data(tmp_path / "raw.h5", turns, PERSON.replace("1961-02-03", "spring 1961"))
    for command in ("run", "check"):
        with pytest.raises(SystemExit) as stop:
            main([command, "mri-recon", str(scan), "--prior", "gaussian", "--write", format_])
        assert stop.value.code == Kind.INPUT.exit_code
        assert complaint in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["raw.h5"]


def test_writing_again_gives_the_same_files(export: Callable[..., Any], tmp_path: Path) -> None:
    export()
    first = {path.name: path.read_bytes() for path in (tmp_path / "out").rglob("*.dcm")}
    (tmp_path / "out").rename(tmp_path / "before")
    export()
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").rglob("*.dcm")} == first


def test_values_that_are_not_numbers_leave_a_series_out(
    copy: Path, export: Callable[..., Any]
) -> None:
    with h5py.File(copy, "r+") as file:
        file["entry/data/data_errors"][0] = np.nan
    assert {name.split("-")[1] for name in export(source=copy)} == {"mean"}
    assert "series std is left out" in export.told[0]  # type: ignore[attr-defined]


def test_the_phase_is_a_series_in_radians_on_request(result: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    write_dicom(result, out, DicomOptions(also="phase"))
    file = pydicom.dcmread(out / "posterior-phase-contrast-1/0002.dcm")
    with h5py.File(result) as stored:
        phase = stored["entry/phase/phase"][3]
    np.testing.assert_allclose(values(file), phase, atol=2 * np.pi / 65535)
    assert file.ImageType[2:] == ["PHASE MAP", "PHASE"]
    assert "Values are in rad" in file.DerivationDescription
    with pytest.raises(InputError, match="no image 'snr'") as error:
        write_dicom(result, out, DicomOptions(also="snr"))
    assert error.value.hint == "it has phase."


def test_slices_without_a_position_are_told_and_without_a_pixel_size_refused(
    copy: Path, export: Callable[..., Any]
) -> None:
    with h5py.File(copy, "r+") as file:
        del file["entry/scan_header/geometry"]
    made = export(source=copy)["posterior-mean-contrast-0/0002.dcm"]
    assert made.PixelSpacing == [2, 2]
    assert made.SliceThickness is None
    told = export.told  # type: ignore[attr-defined]
    assert [text.split(" is")[0] for text in told] == [
        "The position in the patient", "The slice distance"
    ]  # fmt: skip
    assert all(text in made.ImageComments for text in told)
    with h5py.File(copy, "r+") as file:
        file["entry/data/x"].attrs["units"] = "px"
    with pytest.raises(InputError, match="no pixel size in mm"):
        export("StudyID", copy)
    with h5py.File(copy, "r+") as file:
        settings = file["entry/reconstruction/configuration/data"]
        settings[()] = settings.asstr()[()].replace("mri-recon", "ct-recon")
    with pytest.raises(InputError, match="is of the task ct-recon"):
        export("StudyTime", copy)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dicom3tools are not installed")
def test_an_independent_validator_finds_no_error(result: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    write_dicom(result, tmp_path / "out", DicomOptions(keep="PatientID", also="phase"))
    for path in (tmp_path / "out").rglob("*.dcm"):
        done = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
        found = (done.stdout + done.stderr).splitlines()
        assert "MRImage" in found
        assert not [line for line in found if line.startswith("Error")]
