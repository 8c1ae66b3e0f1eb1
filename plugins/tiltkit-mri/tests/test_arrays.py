"""BART's cfl and numpy arrays, and files that need a converter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiltkit_mri import volume_array
from tiltkit_mri.arrays import Cfl, Npy
from tiltkit_mri.task import MriOptions, MriRecon

from tiltkit.errors import InputError


def noise(*shape: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.normal(size=(*shape, 2)) @ np.array([1, 1j])).astype(np.complex64)


def cfl(folder: Path, data: np.ndarray, dims: str = "") -> Path:
    path = folder / "scan.cfl"
    path.write_bytes(data.tobytes("F"))
    sizes = dims or " ".join(map(str, data.shape))
    path.with_suffix(".hdr").write_text(f"# Dimensions\n{sizes} \n# Command\nphantom\n")
    return path


def test_bart_dimensions_become_coils_and_named_images(tmp_path: Path) -> None:
    data = noise(12, 10, 1, 3, 1, 2, *[1] * 7, 4)  # two echoes, four slices
    path = cfl(tmp_path, data)
    assert Cfl.matches(path)
    assert Cfl.matches(path.with_suffix(".hdr"))
    with Cfl.open(path) as scan:
        assert (scan.n_slices, scan.n_coils, scan.shape) == (8, 3, (12, 10))
        assert scan.slice_names[3] == "echo 1, slice 1"
        expected = data[:, :, 0, :, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1].transpose(2, 0, 1)
        np.testing.assert_array_equal(scan.read(3), expected)


def test_a_bart_image_without_a_readout_has_both_phase_encodings(tmp_path: Path) -> None:
    data = noise(1, 12, 10, 3)
    with Cfl.open(cfl(tmp_path, data)) as scan:
        np.testing.assert_array_equal(scan.read(0), data[0].transpose(2, 0, 1))


BAD: dict[str, tuple[tuple[int, ...], str, str]] = {
    "truncated": ((12, 10), "12 11", "bytes, but dimensions"),
    "no dimensions": ((12, 10), "a b", "states no dimensions"),
    "maps": ((12, 10, 1, 3, 2), "", "seem to be coil maps"),
    "line": ((12, 1, 1, 3), "", "12 rows and 1 columns"),
}


@pytest.mark.parametrize("case", BAD)
def test_bart_files_that_are_no_k_space_are_refused(case: str, tmp_path: Path) -> None:
    shape, dims, message = BAD[case]
    with (
        pytest.raises(InputError, match=message) as caught,
        Cfl.open(cfl(tmp_path, noise(*shape), dims)),
    ):
        pass
    assert caught.value.hint


def test_numpy_arrays_are_read_through_the_task(tmp_path: Path, scan: Any) -> None:
    data = scan.noisy(0.02).astype(np.complex64)
    path = tmp_path / "scan.npy"
    np.save(path, data.transpose(1, 2, 0))
    assert Npy.matches(path)
    with MriRecon(MriOptions(axes="row,column,coil")).open(path) as opened:
        assert opened.kspace.layout == "npy"
        np.testing.assert_array_equal(opened.kspace.read(0), data)


def test_pickled_arrays_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "scan.npy"
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="damaged or holds Python objects"), Npy.open(path):
        pass


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("meas.dat", b"x" * 600, "siemens_to_ismrmrd -f meas.dat"),
        ("P12345.7", b"x" * 600, "ge_to_ismrmrd P12345.7"),
        ("head.nii.gz", b"x" * 600, "is NIfTI: images, not raw data"),
        ("head", b"x" * 344 + b"n+1\0", "is NIfTI: images, not raw data"),
        ("IM0001", b"x" * 128 + b"DICM", "is DICOM: images, not raw data"),
    ],
)
def test_files_of_scanners_have_an_error_that_names_the_converter(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError) as caught, MriRecon(MriOptions()).open(path):
        pass
    assert message in f"{caught.value.message} {caught.value.hint}"


def hybrid(volume: np.ndarray, axis: int) -> np.ndarray:
    """k-space transformed to image space along one axis."""
    shifted = np.fft.ifftshift(volume, axes=axis)
    return np.fft.fftshift(np.fft.ifft(shifted, axis=axis, norm="ortho"), axes=axis)


def test_complete_partitions_of_a_bart_volume_become_slices(tmp_path: Path) -> None:
    data = noise(12, 10, 8, 3)
    data[:, ::2] = 0
    with Cfl.open(cfl(tmp_path, data)) as scan:
        assert (scan.n_slices, scan.shape, scan.slice_names) == (8, (12, 10), ())
        expected = hybrid(data, 2)[:, :, 5].transpose(2, 0, 1)
        np.testing.assert_allclose(scan.read(5), expected, atol=1e-5)
        assert scan.points is None


@pytest.mark.parametrize("kept", [2**29, 8 * 10 * 8 * 3 * 5])
def test_volumes_with_points_left_out_become_slices_along_the_readout(
    tmp_path: Path, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volume_array, "_KEPT_BYTES", kept)
    mask = np.random.default_rng(1).random((10, 8)) < 0.5
    data = noise(12, 10, 8, 3, *[1] * 6, 2) * mask.reshape(10, 8, *[1] * 8)
    with Cfl.open(cfl(tmp_path, data.astype(np.complex64))) as scan:
        assert (scan.n_slices, scan.shape, scan.places) == (24, (10, 8), (*range(12), *range(12)))
        assert scan.slice_names[15] == "slice 3, repetition 1"
        assert scan.axes[0] == "readout"
        np.testing.assert_array_equal(scan.mask(15), mask)
        for index in range(24):
            volume = data[:, :, :, :, 0, 0, 0, 0, 0, 0, index // 12]
            expected = hybrid(volume, 0)[index % 12].transpose(2, 0, 1)
            np.testing.assert_allclose(scan.read(index), expected, atol=1e-5)


def test_a_numpy_volume_is_named_by_its_axes(tmp_path: Path) -> None:
    mask = np.random.default_rng(1).random((10, 8)) < 0.5
    data, path = noise(3, 12, 10, 8) * mask, tmp_path / "volume.npy"
    np.save(path, data)
    with Npy.open(path, ("coil", "row", "column", "partition")) as scan:
        expected = hybrid(data, 1)[:, 7]
        np.testing.assert_allclose(scan.read(7), expected, atol=1e-5)
