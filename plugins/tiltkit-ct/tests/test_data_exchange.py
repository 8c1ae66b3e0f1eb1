"""The Data Exchange layout in all its variants, and what is said about files that do not fit."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from tiltkit_ct.data_exchange import DataExchange
from tiltkit_ct.options import PrepareOptions
from tiltkit_ct.select import select

from tiltkit.errors import InputError

Write = Callable[..., Path]

RNG = np.random.default_rng(0)
DATA = RNG.integers(100, 4000, (7, 3, 5)).astype(np.uint16)
FLATS = RNG.integers(3000, 4000, (4, 3, 5)).astype(np.uint16)
DARKS = RNG.integers(90, 110, (2, 3, 5)).astype(np.uint16)
THETA = np.linspace(0, 150, 7)
WHOLE = {"exchange__data": DATA, "exchange__data_white": FLATS, "exchange__data_dark": DARKS,
         "exchange__theta": THETA}  # fmt: skip


def changed(**changes: Any) -> dict[str, Any]:
    return {name: value for name, value in (WHOLE | changes).items() if value is not None}


def test_a_whole_file_gives_its_projections_flats_darks_and_angles(write: Write) -> None:
    path = write({"exchange/theta": {"units": "deg"}}, **WHOLE)
    assert DataExchange.matches(path)
    with DataExchange.open(path) as scan:
        assert (scan.n_rows, scan.n_columns, scan.kind) == (3, 5, "counts")
        np.testing.assert_allclose(scan.angles, np.radians(THETA))
        band = scan.read(1, 3)
        np.testing.assert_array_equal(band.counts, DATA[:, 1:3])
        np.testing.assert_array_equal(band.flats, FLATS[:, 1:3])
        np.testing.assert_array_equal(band.darks, DARKS[:, 1:3])
        assert scan.notes == ()


@pytest.mark.parametrize(
    "axes", ["y:theta:x", b"y:theta:x", ["y", "theta", "x"], "y,theta,x", "y:angle:x",
             "row:projection:column", "rows:rotation_angle:columns"]
)  # fmt: skip
def test_sinogram_order_is_read_as_such(write: Write, axes: Any) -> None:
    turned = {name: value.swapaxes(0, 1) for name, value in WHOLE.items() if value.ndim == 3}
    attrs = {name.replace("__", "/"): {"axes": axes} for name in turned}
    with DataExchange.open(write(attrs, **(WHOLE | turned))) as scan:
        assert (scan.n_rows, scan.n_columns, len(scan.angles)) == (3, 5, 7)
        band = scan.read(0, 2)
        np.testing.assert_array_equal(band.counts, DATA[:, :2])
        np.testing.assert_array_equal(band.flats, FLATS[:, :2])


def test_flats_may_keep_their_order_beside_turned_projections(write: Write) -> None:
    attrs = {"exchange/data": {"axes": "x:y:theta"}, "exchange/data_white": {"axes": "theta:y:x"},
             "exchange/data_dark": {"axes": "theta_dark:y:x"}}  # fmt: skip
    with DataExchange.open(write(attrs, **changed(exchange__data=DATA.T))) as scan:
        np.testing.assert_array_equal(scan.read(0, 3).counts, DATA)


@pytest.mark.parametrize(
    ("unit", "of_degree"),
    [("deg", 1.0), ("degrees", 1.0), ("Degree", 1.0), (b"deg", 1.0), (None, 1.0),
     ("rad", np.pi / 180), (np.bytes_("radians"), np.pi / 180), ("mrad", np.pi / 0.18)],
)  # fmt: skip
def test_angles_are_read_in_their_unit(write: Write, unit: Any, of_degree: float) -> None:
    attrs = {} if unit is None else {"exchange/theta": {"units": unit}}
    with DataExchange.open(write(attrs, **changed(exchange__theta=THETA * of_degree))) as scan:
        np.testing.assert_allclose(scan.angles, np.radians(THETA), rtol=1e-12)


@pytest.mark.parametrize("unit", ["furlong", "keV", "mm"])
def test_angles_in_another_unit_are_refused_when_they_are_used(write: Write, unit: str) -> None:
    path = write({"exchange/theta": {"units": unit}}, **WHOLE)
    with DataExchange.open(path) as scan, pytest.raises(InputError, match=unit) as caught:
        scan.angles  # noqa: B018
    assert "--angle-unit" in caught.value.hint


@pytest.mark.parametrize("one", [np.array([10.0]), 10.0, np.float32(10)])
def test_without_angles_start_and_step_of_the_rotation_count(write: Write, one: Any) -> None:
    rotation = {"process__acquisition__rotation__rotation_start": one,
                "process__acquisition__rotation__rotation_step": np.array([2.0])}  # fmt: skip
    with DataExchange.open(write(**changed(exchange__theta=None, **rotation))) as scan:
        np.testing.assert_allclose(np.degrees(scan.angles), 10 + 2 * np.arange(7))
        assert [note.code for note in scan.notes] == ["angles_from_step", "angle_unit_default"]


def test_degrees_are_an_assumption_where_the_file_states_no_unit_and_the_user_neither(
    write: Write,
) -> None:
    with DataExchange.open(write(**WHOLE)) as scan:
        (note,) = scan.notes
        assert (note.code, note.assumed) == ("angle_unit_default", True)
        assert select(scan, PrepareOptions()).notes == (note,)
        assert select(scan, PrepareOptions(angle_unit="deg")).notes == ()


def test_without_angles_and_steps_half_a_turn_is_assumed_and_said(write: Write) -> None:
    with DataExchange.open(write(**changed(exchange__theta=None))) as scan:
        np.testing.assert_allclose(np.degrees(scan.angles), np.linspace(0, 180, 7))
        assert scan.notes[0].assumed


@pytest.mark.parametrize(
    ("value", "unit", "mm"),
    [(2.9, "microns", 2.9e-3), (2.9, "um", 2.9e-3), (2.9, "µm", 2.9e-3), (2.9, None, 2.9e-3),
     (0.0029, "mm", 2.9e-3), (2.9e-6, "m", 2.9e-3), (2.9e-4, "cm", 2.9e-3), (2900, "nm", 2.9e-3)],
)  # fmt: skip
def test_the_pixel_size_is_read_in_its_unit(
    write: Write, value: float, unit: str | None, mm: float
) -> None:
    name = "measurement/instrument/detection_system/objective/resolution"
    path = write({name: {} if unit is None else {"units": unit}},
                 **changed(**{name.replace("/", "__"): np.array([value])}))  # fmt: skip
    with DataExchange.open(path) as scan:
        assert scan.pixel_mm == pytest.approx(mm)


@pytest.mark.parametrize(
    ("value", "unit"), [(27.4, "keV"), (27.4, None), (27400, "eV"), (4.38996e-15, "J")]
)
def test_the_energy_is_read_in_its_unit(write: Write, value: float, unit: str | None) -> None:
    name = "measurement/instrument/monochromator/energy"
    path = write({name: {} if unit is None else {"units": unit}},
                 **changed(**{name.replace("/", "__"): np.array([value])}))  # fmt: skip
    with DataExchange.open(path) as scan:
        assert scan.energy_kev == pytest.approx(27.4, rel=1e-4)


@pytest.mark.parametrize("value", [0.0, np.nan, -1.0])
def test_a_pixel_size_that_is_no_size_counts_as_unknown(write: Write, value: float) -> None:
    name = "measurement__instrument__detection_system__objective__resolution"
    with DataExchange.open(write(**changed(**{name: value}))) as scan:
        assert scan.pixel_mm is None


@pytest.mark.parametrize("absent", [None, np.zeros((1, 3, 5), np.uint16), np.zeros((0, 3, 5))])
def test_flats_that_mean_absent_are_replaced_by_their_value(write: Write, absent: Any) -> None:
    values = {"process__acquisition__flat_fields__flat_field_value": np.array([3500.0]),
              "process__acquisition__dark_fields__dark_field_value": 98.0}  # fmt: skip
    path = write(**changed(exchange__data_white=absent, exchange__data_dark=absent, **values))
    with DataExchange.open(path) as scan:
        band = scan.read(0, 2)
        np.testing.assert_array_equal(band.flats, np.full((1, 2, 5), 3500))
        np.testing.assert_array_equal(band.darks, np.full((1, 2, 5), 98))


def test_absent_flats_without_a_value_are_none(write: Write) -> None:
    with DataExchange.open(write(**changed(exchange__data_white=np.zeros((1, 3, 5))))) as scan:
        assert scan.flats is None
        assert scan.read(0, 1).flats is None


def test_flats_with_angles_are_placed_in_time(write: Write) -> None:
    theta = np.array([0.0, 0.0, 150.0, 75.0])
    with DataExchange.open(write(**changed(exchange__theta_white=theta))) as scan:
        np.testing.assert_allclose(scan.read(0, 1).flat_times, [0, 0, 6, 3])


@pytest.mark.parametrize("group", ["exchange1", "exchange_1"])
def test_later_exchange_groups_are_read_where_there_is_no_first(write: Write, group: str) -> None:
    path = write(**{name.replace("exchange", group): value for name, value in WHOLE.items()})
    assert DataExchange.matches(path)
    with DataExchange.open(path) as scan:
        np.testing.assert_array_equal(scan.read(0, 3).counts, DATA)


def test_raw_data_come_before_what_was_made_of_them(write: Write) -> None:
    with DataExchange.open(write(**WHOLE, exchange1__data=np.ones((2, 2, 2)))) as scan:
        np.testing.assert_array_equal(scan.read(0, 3).counts, DATA)


@pytest.mark.parametrize("kind", [np.uint8, np.float32, np.float64, np.int32, ">u2"])
def test_any_number_type_is_read_as_float32(write: Write, kind: Any) -> None:
    data = (DATA // 20).astype(kind)
    with DataExchange.open(write(**changed(exchange__data=data))) as scan:
        counts = scan.read(0, 3).counts
        assert counts.dtype == np.float32
        np.testing.assert_array_equal(counts, data)


def test_texts_and_numbers_go_into_the_metadata_however_they_are_stored(write: Write) -> None:
    name = "measurement/instrument/detector/exposure_time"
    path = write({name: {"units": "s"}},
                 **changed(measurement__sample__name=[b"Tooth"], implements="exchange:measurement",
                           measurement__sample__operator=np.bytes_("me"),
                           measurement__instrument__detector__exposure_time=[0.1]))  # fmt: skip
    with DataExchange.open(path) as scan:
        assert scan.metadata["measurement"]["sample"] == {"name": "Tooth", "operator": "me"}
        detector = scan.metadata["measurement"]["instrument"]["detector"]
        assert (detector["exposure_time"][0], detector["exposure_time_units"]) == (0.1, "s")
        assert scan.metadata["implements"] == "exchange:measurement"
        assert "exchange" not in scan.metadata


@pytest.mark.parametrize("filters", [{"compression": "gzip"}, "bitshuffle", "zstd"])
def test_compressed_frames_are_read(tmp_path: Path, filters: Any) -> None:
    import hdf5plugin

    options = {"bitshuffle": hdf5plugin.Bitshuffle(), "zstd": hdf5plugin.Zstd()}
    filters = options.get(filters, filters) if isinstance(filters, str) else filters
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("exchange/data", data=DATA, chunks=(1, 3, 5), **filters)
    with DataExchange.open(path) as scan:
        np.testing.assert_array_equal(scan.read(0, 3).counts, DATA)


def test_only_the_wanted_rows_are_read(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w") as file:
        data = file.create_dataset("exchange/data", data=DATA, chunks=(7, 1, 5), fletcher32=True)
        offset = data.id.get_chunk_info_by_coord((0, 2, 0)).byte_offset
    damaged = bytearray(path.read_bytes())
    damaged[offset + 4] ^= 255
    path.write_bytes(damaged)
    with DataExchange.open(path) as scan:
        np.testing.assert_array_equal(scan.read(0, 2).counts, DATA[:, :2])
    with pytest.raises(InputError, match="damaged"), DataExchange.open(path) as scan:
        scan.read(2, 3)


def test_reading_leaves_the_file_as_it_is(write: Write) -> None:
    path = write(**WHOLE)
    before = hashlib.sha256(path.read_bytes()).digest(), path.stat().st_mtime_ns
    with DataExchange.open(path) as scan:
        scan.read(0, 3)
    assert (hashlib.sha256(path.read_bytes()).digest(), path.stat().st_mtime_ns) == before


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({"other": np.zeros(3)}, "no dataset exchange/data"),
    "one frame": (changed(exchange__data=DATA[0]), "3 projections, but 7 angles"),
    "one dimension": (changed(exchange__data=DATA[0, 0]), r"shape \(5,\)"),
    "several scans": (changed(exchange__data=np.stack([DATA, DATA])), r"shape \(2, 7, 3, 5\)"),
    "no projections": (changed(exchange__data=DATA[:0]), r"shape \(0, 3, 5\)"),
    "complex": (changed(exchange__data=DATA * 1j), "complex"),
    "too few angles": (changed(exchange__theta=THETA[:5]), "7 projections, but 5 angles"),
    "angles as text": (changed(exchange__theta=["a"] * 7), "must hold numbers"),
    "flats of another size": (changed(exchange__data_white=FLATS[:, :2]), r"shape \(4, 2, 5\)"),
    "darks of another size": (changed(exchange__data_dark=DARKS[..., :4]), r"shape \(2, 3, 4\)"),
    "flat with one dimension": (changed(exchange__data_white=FLATS[0, 0]), r"shape \(5,\)"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_file_that_does_not_fit_is_refused_in_two_lines(write: Write, case: str) -> None:
    datasets, message = BAD[case]
    path = write(**datasets)
    with pytest.raises(InputError, match=message) as caught, DataExchange.open(path):
        pass
    assert str(path) in caught.value.message
    assert caught.value.hint
    assert len(str(caught.value).splitlines()) <= 2


def test_a_reconstruction_is_no_scan(write: Write) -> None:
    path = write({"exchange/data": {"axes": "z:y:x", "description": "ReconData"}}, **WHOLE)
    with pytest.raises(InputError, match="a reconstruction"), DataExchange.open(path):
        pass


def test_a_pixel_size_in_an_unknown_unit_is_refused(write: Write) -> None:
    name = "measurement/instrument/detection_system/objective/resolution"
    path = write({name: {"units": "px"}}, **changed(**{name.replace("/", "__"): [2.9]}))
    with pytest.raises(InputError, match="is in 'px'"), DataExchange.open(path):
        pass


def test_truncated_and_other_files_are_refused(tmp_path: Path, write: Write) -> None:
    whole = write(**changed(exchange__data=np.zeros((50, 64, 64), np.uint16)))
    cut = tmp_path / "cut.h5"
    cut.write_bytes(whole.read_bytes()[:-10000])
    with pytest.raises(InputError, match="truncated"), DataExchange.open(cut):
        pass
    with pytest.raises(InputError, match="no file"), DataExchange.open(tmp_path / "none.h5"):
        pass


def test_frames_in_files_that_are_missing_are_refused(tmp_path: Path) -> None:
    layout = h5py.VirtualLayout((2, 3, 5), np.uint16)
    layout[:] = h5py.VirtualSource("part.h5", "data", (2, 3, 5), np.uint16)
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("exchange/data", layout)
    with pytest.raises(InputError, match=r"lies in part\.h5"), DataExchange.open(path):
        pass
    with h5py.File(tmp_path / "part.h5", "w") as file:
        file["data"] = DATA[:2]
    with DataExchange.open(path) as scan:
        np.testing.assert_array_equal(scan.read(0, 3).counts, DATA[:2])


def test_a_real_scan_is_read(shared: Path) -> None:
    path = shared / "tooth_aps.h5"
    assert DataExchange.matches(path)
    with DataExchange.open(path) as scan:
        assert (scan.n_rows, scan.n_columns, len(scan.angles)) == (2, 640, 181)
        assert np.degrees(scan.angles[-1]) == pytest.approx(179.006, abs=1e-3)
        assert scan.metadata["measurement"]["sample"]["name"] == "Tooth"
