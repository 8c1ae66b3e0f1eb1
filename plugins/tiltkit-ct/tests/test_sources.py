"""Projections, flats and darks by the names of their datasets, of one to four axes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from tiltkit_ct.dataset_view import frames_view, parse_name, references_view
from tiltkit_ct.task import CtOptions, CtRecon

from tiltkit.errors import InputError, UsageError

Exchange = Callable[..., Path]


def lines(path: Path, row: int = 1, **options: Any) -> Any:
    """Line integrals of a row, and notes on the scan."""
    with CtRecon(CtOptions(axis="centre", **options)).open(path) as scan:
        codes = {note.code for note in scan.notes}
        return scan.prepare(row).line_integrals, codes


def row_of(scan: Any) -> dict[str, Any]:
    """Frames of row 1 alone."""
    return {
        "exchange__data": scan.counts[:, 1].astype(np.float32),
        "exchange__data_white": scan.flats[:, 1].astype(np.float32),
        "exchange__data_dark": scan.darks[:, 1].astype(np.float32),
    }


def test_a_single_sinogram_with_flats_of_one_row_is_a_scan(scan: Any, exchange: Exchange) -> None:
    expected, _ = lines(exchange(scan))
    found, _ = lines(exchange(scan, **row_of(scan)), row=0)
    assert np.abs(found - scan.truth).std() == pytest.approx(
        np.abs(expected - scan.truth).std(), rel=0.1
    )


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_axes_of_length_one_do_not_matter(scan: Any, exchange: Exchange, axis: int) -> None:
    expected, _ = lines(exchange(scan))
    data = np.expand_dims(scan.counts.astype(np.float32), axis)
    found, _ = lines(exchange(scan, exchange__data=data))
    np.testing.assert_array_equal(found, expected)


def test_flats_that_were_averaged_are_one_frame(scan: Any, exchange: Exchange) -> None:
    averaged = {
        "exchange__data_white": scan.flats.mean(axis=0).astype(np.float32),
        "exchange__data_dark": scan.darks.mean(axis=0).astype(np.float32),
    }
    found, _ = lines(exchange(scan, **averaged))
    assert abs(np.mean(found - scan.truth)) < 0.005


def test_one_of_several_scans_in_a_dataset_is_chosen_by_its_index(
    scan: Any, exchange: Exchange
) -> None:
    expected, _ = lines(exchange(scan))
    both = np.stack([np.ones_like(scan.counts), scan.counts]).astype(np.float32)
    path = exchange(scan, exchange__data=both)
    with pytest.raises(InputError, match="shape"):
        lines(path)
    chosen = {
        "data": "exchange/data[1]",
        "flats": "::exchange/data_white",
        "darks": "::exchange/data_dark",
    }
    found, _ = lines(path, **chosen)
    np.testing.assert_array_equal(found, expected)


def test_frames_of_one_dataset_are_distinguished_by_ranges(scan: Any, tmp_path: Path) -> None:
    path = tmp_path / "frames.h5"
    angles = np.concatenate([np.zeros(20), np.degrees(scan.angles)])
    with h5py.File(path, "w") as file:
        file["frames"] = np.concatenate([scan.darks, scan.flats, scan.counts]).astype(np.float32)
        file["log/rotation_angle"] = angles
        file["log/rotation_angle"].attrs["units"] = "deg"
    found, codes = lines(path, data="frames[20:]", flats="::frames[10:20]", darks="::frames[:10]")
    assert abs(np.mean(found - scan.truth)) < 0.005
    assert {"angles_source", "flats_source", "darks_source"} <= codes


def test_flats_of_another_file_are_those_of_the_scan_or_its_frames(
    scan: Any, exchange: Exchange, tmp_path: Path
) -> None:
    expected, _ = lines(exchange(scan))
    other = exchange(scan).rename(tmp_path / "other.h5")
    path = exchange(scan, exchange__data_white=None)
    for text in (str(other), f"{other}::exchange/data_white"):
        found, codes = lines(path, flats=text)
        np.testing.assert_array_equal(found, expected)
        assert "flats_source" in codes


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"flats": "::exchange/none"}, "no dataset"),
        ({"flats": "::exchange/theta"}, "shape"),
        ({"data": "exchange/none"}, "no dataset"),
        ({"data": "exchange/data[90]"}, "9 entries|90 entries"),
        ({"flats": "::exchange/data_white[50:60]"}, "10 entries"),
        ({"flats": "::exchange/data_white", "flat_value": 3.0}, "Both"),
        ({"data": "exchange/data", "theta": "exchange/data_white"}, "angles"),
    ],
)
def test_names_that_do_not_fit_are_refused(
    scan: Any, exchange: Exchange, options: dict[str, Any], says: str
) -> None:
    with pytest.raises((UsageError, InputError), match=says):
        lines(exchange(scan), **options)


def test_projections_without_flats_among_them_take_those_beside(scan: Any, write: Any) -> None:
    path = write(
        {"entry/sample/rotation_angle": {"units": "deg"}},
        entry__instrument__detector__data=scan.counts.astype(np.float32),
        entry__instrument__detector__image_key=np.zeros(90, int),
        entry__sample__rotation_angle=np.degrees(scan.angles),
        entry__flats__data=scan.flats.astype(np.float32),
        entry__darks__data=scan.darks[0].astype(np.float32),
    )
    found, codes = lines(path)
    assert abs(np.mean(found - scan.truth)) < 0.005
    assert {"flats_source", "darks_source"} <= codes


def test_frames_without_an_image_key_are_refused_with_the_way_to_name_them(
    scan: Any, write: Any
) -> None:
    path = write(
        entry__instrument__detector__data=scan.counts.astype(np.float32),
        entry__sample__rotation_angle=np.degrees(scan.angles),
    )
    with pytest.raises(InputError, match="image key") as caught:
        lines(path)
    assert "--data" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("a/b", ("a/b", None)),
        ("a[3]", ("a", 3)),
        ("a/b[2:5]", ("a/b", slice(2, 5))),
        ("a[:5]", ("a", slice(0, 5))),
        ("a[5:]", ("a", slice(5, None))),
    ],
)
def test_an_index_follows_the_name(text: str, parsed: Any) -> None:
    assert parse_name(text) == parsed


def test_a_view_reads_what_numpy_would(tmp_path: Path) -> None:
    values = np.arange(5 * 2 * 4 * 3).reshape(5, 2, 4, 3)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        view = frames_view(file.create_dataset("a", data=values), 3)
        assert view is not None
        np.testing.assert_array_equal(view[0:2, 1:4:2, 0:2], values[3][0:2, 1:4:2, 0:2])
        part = frames_view(file.create_dataset("b", data=values[:, 0]), slice(1, 4))
        assert part is not None
        assert part.shape == (3, 4, 3)
        np.testing.assert_array_equal(part[1:3, 0:4, 1:2], values[2:4, 0, :, 1:2])
        single = references_view(file.create_dataset("c", data=values[0, 0]), (4, 3))
        assert single is not None
        np.testing.assert_array_equal(single[0:1, 1:3, 0:3], values[:1, 0, 1:3])
