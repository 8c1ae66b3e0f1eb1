"""Every format gives the numbers that its own library wrote, slice by slice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pydicom
import pytest
import scipy.io
import skimage.io
import tifffile
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from tiltkit.errors import InputError, TiltkitError
from tiltkit.io import images as readers
from tiltkit.training.images import load_subjects
from tiltkit.training.recipe import DataOptions

from .conftest import volume


def options(path: Path, **changes: object) -> DataOptions:
    return DataOptions.model_validate({"paths": [str(path)], "scale": 1.0, **changes})


def images(path: Path, **changes: object) -> np.ndarray:
    """All images of one subject (image, channel, row, column), in units of the file."""
    (subject,) = load_subjects(options(path, **changes), crop=8)
    return np.stack([image.values for image in subject.images])


def write_hdf5(path: Path, values: np.ndarray) -> Path:
    with h5py.File(path.with_suffix(".h5"), "w") as file:
        file["reconstruction"], file["number"] = values, 3
    return path.with_suffix(".h5")


def write_npz(path: Path, values: np.ndarray) -> Path:
    np.savez(path.with_suffix(".npz"), image=values, spacing=np.ones(2))
    return path.with_suffix(".npz")


def write_nifti(path: Path, values: np.ndarray) -> Path:
    target = path.with_suffix(".nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.moveaxis(values, 0, -1), np.eye(4)), target)
    return target


def write_tiff(path: Path, values: np.ndarray) -> Path:
    tifffile.imwrite(path.with_suffix(".tif"), values, photometric="minisblack")
    return path.with_suffix(".tif")


@pytest.mark.parametrize("write", [write_hdf5, write_npz, write_nifti, write_tiff])
def test_slices_of_a_volume_are_those_that_were_written(
    write: Callable[[Path, np.ndarray], Path], tmp_path: Path
) -> None:
    values = volume(1)
    np.testing.assert_array_equal(images(write(tmp_path / "scan", values))[:, 0], values)


def test_a_named_axis_counts_the_slices(tmp_path: Path) -> None:
    values = volume(1, slices=32)
    path = write_hdf5(tmp_path / "scan", values)
    np.testing.assert_array_equal(images(path, axis=2)[:, 0], np.moveaxis(values, 2, 0))


def write_dicom(folder: Path, values: np.ndarray, patient: str) -> Path:
    """One file per slice; names in reverse order of place, values with slope 2 and intercept -5."""
    folder.mkdir()
    series = generate_uid()
    for k, image in enumerate(values):
        file = pydicom.Dataset()
        file.file_meta = FileMetaDataset()
        file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        file.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
        file.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        file.SOPClassUID, file.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", generate_uid()
        file.PatientID, file.SeriesInstanceUID = patient, series
        file.ImageOrientationPatient, file.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, k]
        file.Rows, file.Columns = image.shape
        file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
        file.BitsAllocated, file.BitsStored, file.HighBit = 16, 16, 15
        file.PixelRepresentation = 0
        file.RescaleSlope, file.RescaleIntercept = 2, -5
        file.PixelData = image.astype(np.uint16).tobytes()
        # no suffix, as scanners write them
        pydicom.dcmwrite(folder / f"IM{len(values) - k:04}", file, enforce_file_format=True)
    return folder


def test_a_dicom_folder_is_one_volume_in_order_of_place_and_rescaled(tmp_path: Path) -> None:
    values = volume(1)
    path = write_dicom(tmp_path / "patient", values, "A")
    expected = 2 * values.astype(np.uint16).astype(np.float32) - 5
    np.testing.assert_array_equal(images(path)[:, 0], expected)


def test_pictures_keep_their_colours(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (20, 24, 3), np.uint8)
    skimage.io.imsave(tmp_path / "a.png", picture, check_contrast=False)
    found = images(tmp_path / "a.png", channels=3)[0]
    np.testing.assert_array_equal(found, np.moveaxis(picture, -1, 0))
    with pytest.raises(InputError, match="images with 3 channels, not 1 channel"):
        images(tmp_path / "a.png")


@pytest.mark.parametrize("axis", [0, 2])
def test_an_axis_of_slices_leaves_the_colours_of_pictures_alone(axis: int, tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (20, 24, 3), np.uint8)
    skimage.io.imsave(tmp_path / "a.png", picture, check_contrast=False)
    found = images(tmp_path / "a.png", channels=3, axis=axis)[0]
    np.testing.assert_array_equal(found, np.moveaxis(picture, -1, 0))
    with pytest.raises(InputError, match="images with 3 channels, not 1 channel"):
        images(tmp_path / "a.png", axis=axis)


def test_where_colours_are_wanted_a_tiff_keeps_them(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (20, 24, 3), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", picture, photometric="rgb")
    found = images(tmp_path / "a.tif", channels=3, axis=0)[0]
    np.testing.assert_array_equal(found, np.moveaxis(picture, -1, 0))


def test_complex_images_become_two_channels_and_their_magnitude_one(tmp_path: Path) -> None:
    values = volume(1) * np.exp(1j * volume(2) / 1000).astype(np.complex64)
    np.save(tmp_path / "a.npy", values)
    both = images(tmp_path / "a.npy", kind="complex")
    np.testing.assert_array_equal(both, np.stack([values.real, values.imag], 1))
    np.testing.assert_allclose(images(tmp_path / "a.npy")[:, 0], np.abs(values), rtol=1e-6)


def test_real_images_are_complex_only_with_made_up_phases(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", volume(1))
    with pytest.raises(InputError, match="imaginary part would be zero"):
        images(tmp_path / "a.npy", kind="complex")
    assert images(tmp_path / "a.npy", kind="complex", augment="mri").shape[1] == 2


def test_channels_have_an_axis_of_their_own(tmp_path: Path) -> None:
    values = np.stack([volume(1), volume(2)], axis=-1)
    np.save(tmp_path / "a.npy", values)
    found = images(tmp_path / "a.npy", channels=2, channel_axis=3)
    np.testing.assert_array_equal(found, np.moveaxis(values, -1, 1))
    with pytest.raises(InputError, match="of which no slices can be taken"):
        images(tmp_path / "a.npy")


def test_complex_coils_are_not_taken_for_real_and_imaginary_parts(tmp_path: Path) -> None:
    np.save(tmp_path / "coils.npy", np.stack([volume(1), volume(2)], 1) * (1 + 1j))
    with pytest.raises(InputError, match=r"2 complex channels, not one(.|\n)*combined"):
        images(tmp_path / "coils.npy", kind="complex", channel_axis=1)
    values = np.stack([volume(1), volume(2)], 1)
    np.save(tmp_path / "parts.npy", values)
    found = images(tmp_path / "parts.npy", kind="complex", channel_axis=1)
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize(("shape", "axis"), [((4, 36, 32), 0), ((36, 32, 4), 2), ((9, 12, 4), 0)])
def test_a_named_axis_counts_slices_also_where_the_format_says_colours(
    shape: tuple[int, int, int], axis: int, tmp_path: Path
) -> None:
    values = np.random.default_rng(0).integers(0, 999, shape, np.uint16)
    place = "separate" if shape[0] == 4 else "contig"
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", planarconfig=place)
    (subject,) = load_subjects(options(tmp_path / "a.tif", axis=axis), crop=1)
    found = np.stack([image.values[0] for image in subject.images])
    np.testing.assert_array_equal(found, np.moveaxis(values, axis, 0))


def test_one_axis_cannot_count_both_slices_and_channels(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.stack([volume(1), volume(2)], axis=-1))
    with pytest.raises(InputError, match="of which no slices can be taken"):
        images(tmp_path / "a.npy", channels=2, channel_axis=3, axis=-1)


def test_several_datasets_need_a_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", one=volume(1), two=volume(2))
    with pytest.raises(InputError, match=r"2 datasets that could be images(.|\n)*one, two"):
        images(tmp_path / "a.npz")
    np.testing.assert_array_equal(images(tmp_path / "a.npz", dataset="two")[:, 0], volume(2))
    with pytest.raises(InputError, match="no dataset 'three'"):
        images(tmp_path / "a.npz", dataset="three")


@pytest.mark.parametrize("name", ["a.h5", "a.npz", "a.nii", "a.tif", "a.dcm", "a.png"])
def test_a_damaged_file_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"this is no image" * 20)
    with pytest.raises(InputError, match=name):
        images(tmp_path / name)


def test_of_a_dicom_folder_the_file_without_pixels_is_named(tmp_path: Path) -> None:
    folder = write_dicom(tmp_path / "patient", volume(1), "A")
    file = pydicom.dcmread(folder / "IM0003")
    del file.PixelData, file.SeriesInstanceUID
    file.save_as(folder / "IM0003")
    with pytest.raises(InputError, match=r"IM0003 cannot be read(.|\n)*leave it out of data.paths"):
        images(folder)


@pytest.mark.parametrize("name", ["DICOMDIR", "dicomdir"])
def test_the_directory_of_a_dicom_export_is_no_image(name: str, tmp_path: Path) -> None:
    folder = write_dicom(tmp_path / "patient", volume(1), "A")
    file = pydicom.dcmread(folder / "IM0003")
    del file.PixelData, file.SeriesInstanceUID
    file.save_as(folder / name)
    assert len(images(folder)) == len(volume(1))


def test_an_old_matlab_file_says_how_to_save_it(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "a.mat", {"image": volume(1)})
    with pytest.raises(InputError, match=r"a.mat is of a MATLAB version before 7.3(.|\n)*-v7.3"):
        images(tmp_path / "a.mat")


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ImportError(name)

    path = write_nifti(tmp_path / "scan", volume(1))
    monkeypatch.setattr(readers.importlib, "import_module", absent)
    with pytest.raises(TiltkitError, match=r"nibabel, which is not installed(.|\n)*pip install"):
        images(path)
