"""The fastMRI layout in all its variants, and what is said about files that cannot be used."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from tiltkit_mri.fastmri import FastMri
from tiltkit_mri.header import Header, parse_header

from tiltkit.errors import InputError

Write = Callable[..., Path]


def kspace(*shape: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(*shape, 2)) @ np.array([1e-5, 1e-5j])).astype(np.complex64)


def test_a_multi_coil_training_file_is_complete(write: Write) -> None:
    data = kspace(3, 4, 20, 15)
    path = write(kspace=data, reconstruction_rss=np.ones((3, 10, 11), np.float32))
    assert FastMri.matches(path)
    with FastMri.open(path) as scan:
        assert (scan.n_slices, scan.n_coils, scan.shape) == (3, 4, (20, 15))
        assert scan.columns.all()
        assert scan.recon == (10, 11)
        assert scan.notes == ()
        for index in range(3):
            assert scan.acceleration(index) == 1
            assert scan.calibration(index) == range(15)
            np.testing.assert_array_equal(scan.read(index), data[index])


def test_a_single_coil_file_has_one_coil(write: Write) -> None:
    data = kspace(2, 9, 7)
    path = write(kspace=data, reconstruction_esc=np.ones((2, 5, 5), np.float32))
    with FastMri.open(path) as scan:
        assert (scan.n_slices, scan.n_coils, scan.recon) == (2, 1, (5, 5))
        np.testing.assert_array_equal(scan.read(1), data[1][None])


def test_a_test_file_is_read_with_its_mask(write: Write, sampling: Any) -> None:
    mask = sampling(31, 4, 9)
    path = write(kspace=kspace(1, 2, 12, 31) * mask, mask=mask, attrs={"acceleration": 4})
    with FastMri.open(path) as scan:
        np.testing.assert_array_equal(scan.columns, [mask])
        assert scan.acceleration(0) == 31 / mask.sum()
        assert scan.calibration(0).start <= 15 < scan.calibration(0).stop
        assert scan.metadata == {"acceleration": 4}


def test_without_a_mask_columns_that_are_zero_everywhere_are_not_measured(
    write: Write, sampling: Any
) -> None:
    mask = sampling(31, 4, 9)
    data = kspace(2, 2, 12, 31) * mask
    data[0, 0, :, mask.nonzero()[0][0]] = 0  # one coil of one slice alone does not count
    with FastMri.open(write(kspace=data)) as scan:
        np.testing.assert_array_equal(scan.columns, [mask, mask])


def test_every_slice_has_its_own_columns(write: Write, sampling: Any) -> None:
    masks = np.stack([sampling(31, 4, 9), np.roll(sampling(31, 4, 9), 1)])
    with FastMri.open(write(kspace=kspace(2, 2, 12, 31) * masks[:, None, None])) as scan:
        np.testing.assert_array_equal(scan.columns, masks)
        assert scan.acceleration(1) == 31 / masks[1].sum()
        assert scan.calibration(1) == range(12, 22)
        assert scan.notes[0].code == "columns_differ"


@pytest.mark.parametrize("kind", [np.bool_, np.uint8, np.float32])
def test_a_mask_may_have_any_number_type_and_extra_axes(write: Write, kind: type) -> None:
    mask = (np.arange(10) % 2 == 0).astype(kind)
    with FastMri.open(write(kspace=kspace(1, 2, 8, 10), mask=mask[None, None, :, None])) as scan:
        np.testing.assert_array_equal(scan.columns, [mask.astype(bool)])


@pytest.mark.parametrize("as_bytes", [True, False])
def test_columns_outside_the_encoding_limits_are_zero_filling(
    write: Write, header: Any, as_bytes: bool
) -> None:
    xml = header((24, 20), (12, 16), centre=7, last=14)
    # padding: 20 // 2 - 7 = 3 on the left, up to 3 + 15 on the right
    path = write(kspace=kspace(1, 2, 24, 20), ismrmrd_header=xml.encode() if as_bytes else xml)
    with FastMri.open(path) as scan:
        np.testing.assert_array_equal(scan.columns[0].nonzero()[0], np.arange(3, 18))
        assert scan.acceleration(0) == 1
        assert scan.recon == (12, 16)
        assert scan.pixel_mm == (2.0, 2.0)
        assert scan.metadata["ismrmrd_header"] == xml


def test_images_wider_than_the_encoded_field_of_view_keep_all_of_its_rows(
    write: Write, header: Any
) -> None:
    path = write(kspace=kspace(1, 2, 24, 10), ismrmrd_header=header((24, 10), (16, 16)))
    with FastMri.open(path) as scan:
        assert scan.recon == scan.image.matrix == (16, 10)


def test_without_header_and_reconstruction_the_image_has_the_size_of_k_space(write: Write) -> None:
    with FastMri.open(write(kspace=kspace(1, 2, 9, 7))) as scan:
        assert scan.recon == (9, 7)
        assert scan.header == Header()
        assert scan.pixel_mm is None


@pytest.mark.parametrize("xml", ["", "no xml", "<a/>", "<ismrmrdHeader><encoding></ismrmrdHeader>"])
def test_a_header_that_says_nothing_is_no_error(xml: str) -> None:
    assert parse_header(xml) == Header()


@pytest.mark.parametrize("size", ["nan", "inf", "-1", "x"])
def test_sizes_that_are_no_sizes_are_left_out(header: Any, size: str) -> None:
    xml = header((24, 20), (12, 16)).replace("<x>24<", f"<x>{size}<").replace("<x>48<", "<x>nan<")
    assert parse_header(xml) == Header(recon=(12, 16), thickness=5, recon_thickness=5)
    assert parse_header(header((24, 20), (0.5, 16))).recon is None


def test_a_header_of_another_scan_is_ignored_with_a_note(write: Write, header: Any) -> None:
    path = write(kspace=kspace(1, 2, 24, 20), ismrmrd_header=header((48, 20), (12, 16), 7, 14))
    with FastMri.open(path) as scan:
        assert scan.pixel_mm is None
        assert scan.recon == (24, 20)
        assert scan.columns.all()
        assert "48 x 20, this one is 24 x 20" in scan.notes[0].text


@pytest.mark.parametrize("image", [3.0, np.ones(4), np.ones((1, 0, 5))])
def test_a_reconstruction_that_is_no_image_says_nothing_of_the_size(
    write: Write, image: Any
) -> None:
    with FastMri.open(write(kspace=kspace(1, 2, 9, 7), reconstruction_rss=image)) as scan:
        assert scan.recon == (9, 7)


def test_attributes_become_plain_values(write: Write) -> None:
    attrs = {"acquisition": b"AXT2", "patient_id": "0", "max": np.float64(1e-4), "norm": "0.1"}
    with FastMri.open(write(kspace=kspace(1, 2, 9, 7), attrs=attrs)) as scan:
        assert scan.metadata == {"acquisition": "AXT2", "patient_id": "0", "max": 1e-4,
                                 "norm": "0.1"}  # fmt: skip


def test_reading_leaves_the_file_as_it_is(write: Write) -> None:
    path = write(kspace=kspace(2, 3, 9, 7))
    before = hashlib.sha256(path.read_bytes()).digest(), path.stat().st_mtime_ns
    with FastMri.open(path) as scan:
        scan.read(1)
    assert (hashlib.sha256(path.read_bytes()).digest(), path.stat().st_mtime_ns) == before


def with_value(value: complex) -> np.ndarray:
    data = kspace(1, 2, 9, 7)
    data[0, 0, 3, 4] = value
    return data


def without_rows(*rows: int) -> np.ndarray:
    data = kspace(2, 2, 12, 7)
    data[:, :, rows] = 0
    return data


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "other layout": ({"images": np.zeros(3)}, "holds no k-space: its datasets are images"),
    "empty file": ({}, "holds no k-space: it is empty"),
    "NaN": ({"kspace": with_value(np.nan)}, "1 NaN or infinite values in slice 0"),
    "infinite": ({"kspace": with_value(np.inf)}, "1 NaN or infinite values in slice 0"),
    "real numbers": ({"kspace": np.ones((1, 2, 9, 7))}, "type float64, which is not complex"),
    "one dimension": ({"kspace": kspace(9)}, "has 1 dimensions"),
    "seven dimensions": ({"kspace": kspace(1, 1, 1, 1, 2, 9, 7)}, "has 7 dimensions"),
    "no slices": ({"kspace": kspace(0, 2, 9, 7)}, "has no slices"),
    "no coils": ({"kspace": kspace(1, 0, 9, 7)}, "has no samples"),
    "zeros": ({"kspace": 0 * kspace(1, 2, 9, 7)}, "zero everywhere in slice 0"),
    "empty mask": ({"kspace": kspace(1, 2, 9, 7), "mask": np.zeros(7, bool)}, "marks no column"),
    "text mask": ({"kspace": kspace(1, 2, 9, 7), "mask": ["a"] * 7}, "is of type object, it must"),
    "long mask": ({"kspace": kspace(1, 2, 9, 7), "mask": np.ones(8, bool)}, "7 columns"),
    "mask of other columns": (
        {"kspace": kspace(1, 2, 9, 7) * (np.arange(7) < 3), "mask": np.arange(7) > 3},
        "zero in slice 0 wherever its mask",
    ),
    "columns for rows": ({"kspace": without_rows(1, 3, 10)}, "3 empty rows among its 12"),
    "coils last": ({"kspace": kspace(1, 9, 7, 4)}, r"shape \(1, 9, 7, 4\), so 7 rows and 4 col"),
    "one row": ({"kspace": kspace(1, 2, 1, 7)}, "so 1 rows and 7 columns"),
    "too large": ({"kspace": kspace(1, 2, 9, 7).astype(complex) * 1e44}, "must lie between 1e-14"),
    "too small": ({"kspace": kspace(1, 2, 9, 7).astype(complex) * 1e-30}, "must lie between 1e-14"),
    "missing file": (
        {"kspace": h5py.ExternalLink("nothere.h5", "/k")},
        "a link to nothere.h5 /k, which is not",
    ),
    "missing target": ({"kspace": h5py.SoftLink("/k")}, "a link to /k, which is not there"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_scan_that_cannot_be_used_is_refused_in_two_lines(case: str, write: Write) -> None:
    datasets, message = BAD[case]
    path = write(**datasets)
    before = path.read_bytes()
    with pytest.raises(InputError, match=message) as caught, FastMri.open(path):
        pass
    assert str(path) in caught.value.message
    assert caught.value.hint
    assert len(str(caught.value).splitlines()) <= 2
    assert path.read_bytes() == before


def test_a_bad_slice_is_refused_when_it_is_read(write: Write) -> None:
    data = kspace(4, 2, 12, 7)
    data[0] = 0
    data[2, 1, 3, 4] = np.nan
    with FastMri.open(write(kspace=data)) as scan:
        assert set(scan.unusable) == {0, 2}
        assert "NaN or infinite" in scan.unusable[2]
        np.testing.assert_array_equal(scan.columns.any(axis=1), [False, True, False, True])
        np.testing.assert_array_equal(scan.read(3), data[3])
        with pytest.raises(InputError, match="zero everywhere in slice 0"):
            scan.read(0)
        with pytest.raises(InputError, match="1 NaN or infinite values in slice 2"):
            scan.read(2)


def test_integers_that_are_zero_by_chance_are_data(write: Write) -> None:
    rng = np.random.default_rng(0)
    data = np.rint(rng.normal(scale=4, size=(1, 64, 48, 2))) @ np.array([1, 1j])
    assert (data == 0).sum() > 20
    with FastMri.open(write(kspace=data)) as scan:
        assert scan.columns.all()


def test_a_coil_without_data_leaves_no_gaps(write: Write) -> None:
    data = kspace(1, 3, 12, 7)
    data[:, 1] = 0
    with FastMri.open(write(kspace=data)) as scan:
        assert scan.columns.all()


def test_points_that_are_left_out_are_found(write: Write) -> None:
    data = kspace(2, 3, 16, 12)
    mask = np.random.default_rng(1).random((2, 16, 12)) < 0.6
    with FastMri.open(write(kspace=data * mask[:, None])) as scan:
        for index in range(2):
            np.testing.assert_array_equal(scan.mask(index), mask[index])
        assert scan.acceleration(0) == pytest.approx(1 / mask[0].mean())
        assert {"points_left_out", "columns_differ"} == {note.code for note in scan.notes}


def test_a_mask_of_points_leaves_out_data(write: Write) -> None:
    mask = np.random.default_rng(1).random((16, 12)) < 0.6
    with FastMri.open(write(kspace=kspace(2, 3, 16, 12), mask=mask)) as scan:
        np.testing.assert_array_equal(scan.mask(1), mask)


@pytest.mark.parametrize("rows", [(0, 1, 2), (0, 11)])
def test_rows_at_the_ends_of_the_readout_may_be_left_out(
    rows: tuple[int, ...], write: Write
) -> None:
    with FastMri.open(write(kspace=without_rows(*rows))) as scan:
        assert (~scan.mask(0).any(axis=1)).nonzero()[0].tolist() == list(rows)
        assert scan.mask(0).any(axis=0).all()
        assert [note.code for note in scan.notes] == ["rows_left_out"]


def test_a_mask_that_is_a_group_is_refused(write: Write) -> None:
    path = write(kspace=kspace(1, 2, 9, 7), **{"mask/values": np.ones(7)})
    with pytest.raises(InputError, match="is no dataset, it must hold num"), FastMri.open(path):
        pass


def test_limits_that_leave_no_column_are_the_fault_of_the_header(write: Write, header: Any) -> None:
    xml = header((24, 20), (12, 16), centre=60, last=9)
    path = write(kspace=kspace(1, 2, 24, 20), ismrmrd_header=xml)
    with pytest.raises(InputError, match="columns -50 to -41, all outside"):
        FastMri.open(path).__enter__()


def test_files_of_the_ismrmrd_layout_are_left_to_its_reader(tmp_path: Path) -> None:
    path = tmp_path / "raw.h5"
    with h5py.File(path, "w") as file:
        file["dataset/xml"], file["dataset/data"] = ["<xml/>"], np.zeros(3)
    assert not FastMri.matches(path)
    with pytest.raises(InputError, match="datasets are dataset/data"), FastMri.open(path):
        pass


def test_files_that_are_not_whole_hdf5_files_are_refused(tmp_path: Path, write: Write) -> None:
    whole = write(kspace=kspace(4, 4, 64, 64))
    truncated = tmp_path / "truncated.h5"
    truncated.write_bytes(whole.read_bytes()[:-20000])
    text = tmp_path / "text.h5"
    text.write_text("hello")
    for path, message in ((truncated, "truncated"), (text, "not an HDF5 file"),
                          (tmp_path, "folder"), (tmp_path / "none.h5", "no file")):  # fmt: skip
        with pytest.raises(InputError, match=message) as caught, FastMri.open(path):
            pass
        assert caught.value.hint


def test_flipped_bytes_are_noticed_where_the_file_has_checksums(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("kspace", data=kspace(1, 2, 64, 64), fletcher32=True)
        offset = file["kspace"].id.get_chunk_info(0).byte_offset
    damaged = bytearray(path.read_bytes())
    damaged[offset + 100] ^= 255
    path.write_bytes(damaged)
    with pytest.raises(InputError, match="damaged"), FastMri.open(path):
        pass


def test_real_scans_are_read(shared: Path) -> None:
    with FastMri.open(shared / "brain_8ch_4x.h5") as scan:
        assert (scan.n_slices, scan.n_coils, scan.shape) == (1, 8, (230, 180))
        assert scan.recon == (230, 180)
        assert scan.columns.sum() == 45
        columns = scan.columns[0]
        measured = scan.read(0)[..., columns]
    with FastMri.open(shared / "brain_8ch_raw.h5") as scan:
        assert scan.columns.all()
        np.testing.assert_array_equal(scan.read(0)[..., columns], measured)
