"""Parts of a scan: what is left, in which place, and that no more is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tiltkit_ct.options import PrepareOptions
from tiltkit_ct.projections import Projections, Stack
from tiltkit_ct.select import parse_range, select

from tiltkit.errors import InputError, UsageError
from tiltkit.problem import Note

FRAMES = np.random.default_rng(0).normal(size=(40, 8, 12)).astype(np.float32)
ANGLES = np.linspace(0, 180, 40, endpoint=False)


class Spy:
    """Frames that note what is read of them."""

    def __init__(self, frames: NDArray[np.float32]) -> None:
        self.frames = frames
        self.read = np.zeros(frames.shape, bool)

    def __call__(self, which: Any, rows: slice, columns: slice) -> NDArray[np.float32]:
        self.read[which, rows, columns] = True
        return self.frames[which, rows, columns]


def scan(spy: Any = None, angles: Any = ANGLES, unit: str = "deg", **more: Any) -> Projections:
    n = len(angles)
    load = spy or Spy(FRAMES)
    return Projections(
        path=Path("scan.h5"),
        layout="test",
        projections=Stack(load, np.arange(n), np.arange(n, dtype=float)),
        stored_angles=np.asarray(angles, float),
        angle_unit=unit,
        rows=range(8),
        columns=range(12),
        **more,
    )


def test_ranges_read_only_what_they_leave() -> None:
    spy = Spy(FRAMES)
    part = select(scan(spy), PrepareOptions(rows="2:6", columns="3:11", angles="10:30:4"))
    assert (part.n_rows, part.n_columns, len(part.angles)) == (4, 8, 5)
    band = part.read(1, 3)
    np.testing.assert_array_equal(band.counts, FRAMES[10:30:4, 3:5, 3:11])
    wanted = np.zeros_like(spy.read)
    wanted[10:30:4, 3:5, 3:11] = True
    np.testing.assert_array_equal(spy.read, wanted)


def test_binning_averages_pixels_both_ways() -> None:
    part = select(scan(pixel_mm=0.01), PrepareOptions(binning=3))
    assert (part.n_rows, part.n_columns, part.pixel_mm) == (2, 4, pytest.approx(0.03))
    expected = FRAMES[:, :6].reshape(40, 2, 3, 4, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(part.read(0, 2).counts, expected, rtol=1e-5)
    np.testing.assert_allclose(part.read(1, 2).counts, expected[:, 1:], rtol=1e-5)


def test_rows_and_columns_are_binned_apart() -> None:
    options = PrepareOptions(binning=2, bin_columns=3)
    part = select(scan(pixel_mm=0.01, axis_hint=7.0), options)
    assert (part.n_rows, part.n_columns, part.pixel_mm) == (4, 4, pytest.approx(0.03))
    assert part.axis_hint == pytest.approx(2.0)
    expected = FRAMES.reshape(40, 4, 2, 4, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(part.read(0, 4).counts, expected, rtol=1e-5)


def test_the_axis_of_the_file_moves_with_columns_and_binning() -> None:
    part = select(scan(axis_hint=7.5), PrepareOptions(columns="2:12", binning=2))
    # Column 7.5 is between 7 and 8, of which 8 - 2 starts the binned column 3.
    assert part.axis_hint == pytest.approx(2.5)


def test_flats_keep_their_place_in_time() -> None:
    flats = Stack(Spy(FRAMES), np.array([0, 1]), np.array([-0.5, 20.0]))
    band = select(scan(flats=flats), PrepareOptions(angles="10:40:10")).read(0, 1)
    np.testing.assert_allclose(band.flat_times, [-0.5, 20.0])
    np.testing.assert_allclose(band.times, [10, 20, 30])


def test_the_tilt_axis_may_lie_along_the_rows() -> None:
    part = select(scan(), PrepareOptions(tilt_axis="x"))
    assert (part.n_rows, part.n_columns) == (12, 8)
    np.testing.assert_array_equal(part.read(4, 5).counts[:, 0], FRAMES[:, :, 4])
    same = select(scan().transposed(), PrepareOptions(tilt_axis="x"))
    np.testing.assert_array_equal(same.read(4, 5).counts, part.read(4, 5).counts)


def test_given_sizes_replace_those_of_the_file() -> None:
    options = PrepareOptions(pixel_mm=0.5, energy_kev=20, distance_mm=100, binning=2)
    part = select(scan(pixel_mm=0.01, energy_kev=10), options)
    assert (part.pixel_mm, part.energy_kev, part.distance_mm) == (1.0, 20, 100)


@pytest.mark.parametrize(
    ("text", "part"),
    [(None, range(3, 9)), ("0:2", range(3, 5)), ("2:", range(5, 9)), (":", range(3, 9)),
     (":4:2", range(3, 7, 2)), ("1:6:3", range(4, 9, 3))],
)  # fmt: skip
def test_a_range_counts_from_the_start(text: str | None, part: range) -> None:
    assert parse_range(text, range(3, 9), "rows") == part


@pytest.mark.parametrize("text", ["", "3", "a:b", "0:1:2:3", "-2:3", "4:2", "0:7", "0:3:0", "6:"])
def test_a_wrong_range_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="rows") as caught:
        parse_range(text, range(3, 9), "rows")
    assert caught.value.hint


@pytest.mark.parametrize(
    "options",
    [
        {"rows": "0:8:2"},
        {"columns": "0:8:2"},
        {"binning": 9},
        {"rows": "0:1", "binning": 2},
        {"bin_rows": 9},
        {"bin_columns": 13},
    ],
)
def test_rows_with_gaps_and_too_much_binning_are_refused(options: Any) -> None:
    with pytest.raises(UsageError):
        select(scan(), PrepareOptions(**options))


@pytest.mark.parametrize("turn", [np.pi, 2 * np.pi, 1.745])
@pytest.mark.parametrize("endpoint", [True, False])
def test_radians_that_are_called_degrees_are_refused(turn: float, endpoint: bool) -> None:
    angles = np.linspace(0, turn, 40, endpoint=endpoint)
    with pytest.raises(InputError, match="too little for a scan") as caught:
        select(scan(angles=angles), PrepareOptions())
    assert "--angle-unit rad" in caught.value.hint
    right = select(scan(angles=angles), PrepareOptions(angle_unit="rad"))
    np.testing.assert_allclose(np.sort(right.angles), angles)
    kept = select(scan(angles=angles), PrepareOptions(angle_unit="deg"))
    np.testing.assert_allclose(kept.angles, np.radians(angles))


@pytest.mark.parametrize("turn", [180, 360])
def test_degrees_that_are_called_radians_are_refused(turn: float) -> None:
    angles = np.linspace(0, turn, 40)
    with pytest.raises(InputError, match="in degrees instead"):
        select(scan(angles=angles, unit="rad"), PrepareOptions())


@pytest.mark.parametrize("angles", [np.linspace(-70, 70, 40), np.linspace(0, 20, 40), ANGLES])
def test_other_ranges_of_angles_are_fine(angles: Any) -> None:
    assert len(select(scan(angles=angles), PrepareOptions()).angles) == 40


def test_a_small_part_of_a_scan_keeps_its_unit() -> None:
    part = select(scan(), PrepareOptions(angles="0:3"))
    np.testing.assert_allclose(np.degrees(part.angles), ANGLES[:3])


@pytest.mark.parametrize("turn", [np.pi, 2 * np.pi, 1.745, 4 * np.pi])
def test_angles_without_a_unit_are_radians_where_they_are_too_few_degrees(turn: float) -> None:
    angles = np.linspace(0, turn, 40, endpoint=False)
    unknown = (Note("angle_unit_default", "degrees are assumed", assumed=True),)
    found = select(scan(angles=angles, notes=unknown), PrepareOptions())
    np.testing.assert_allclose(np.sort(found.angles), angles)
    (note,) = found.notes
    assert note.assumed
    assert "radians are assumed" in note.text


def test_given_angles_replace_those_of_the_file_and_what_was_assumed_about_them() -> None:
    assumed = (Note("angles_assumed", "", assumed=True), Note("angle_unit_default", ""))
    options = PrepareOptions(angle_range="-60:60", angles="10:30")
    found = select(scan(angles=np.zeros(40), notes=assumed), options)
    np.testing.assert_allclose(np.degrees(found.angles), np.linspace(-60, 60, 40)[10:30])
    assert found.notes == ()


def test_angles_that_are_all_the_same_are_refused() -> None:
    with pytest.raises(InputError, match="All 40 angles of ") as caught:
        select(scan(angles=np.zeros(40)), PrepareOptions())
    assert "--angle-range" in caught.value.hint


@pytest.mark.parametrize("text", ["180", "0:", "5:5", "0:nan", "a:b", "0:90:180"])
def test_a_range_of_angles_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="FIRST:LAST"):
        select(scan(), PrepareOptions(angle_range=text))


def test_an_unknown_unit_of_the_angles_is_overruled_by_the_option() -> None:
    with pytest.raises(InputError, match="furlong"):
        select(scan(unit="furlong"), PrepareOptions())
    assert select(scan(unit="furlong"), PrepareOptions(angle_unit="deg")).angles[1] > 0


def test_angles_that_are_nan_are_refused_and_may_be_left_out() -> None:
    angles = ANGLES.copy()
    angles[-1] = np.nan
    with pytest.raises(InputError, match="1 of the 40 angles"):
        select(scan(angles=angles), PrepareOptions())
    assert len(select(scan(angles=angles), PrepareOptions(angles="0:39")).angles) == 39


def test_saturated_values_become_nan_at_the_end_of_the_type_and_of_the_camera() -> None:
    frames = np.full((40, 8, 12), 1000, np.float32)
    frames[0, 0, 0] = 65535
    for top, full_scale in ((65535, 65535.0), (4095, np.inf)):
        bright = frames.copy()
        bright[0, 0, 0] = top
        bright[:2, 1] = top  # flats
        flats = Stack(Spy(bright), np.array([0, 1]), np.zeros(2), full_scale)
        p = scan(Spy(bright), flats=flats)
        p = Projections(**{**vars(p), "projections": Stack(
            Spy(bright), np.arange(40), np.arange(40.0), full_scale)})  # fmt: skip
        band = p.read(0, 8)
        assert np.isnan(band.counts[0, 0, 0])
        assert np.isnan(band.flats[:, 1]).all()
        assert np.isfinite(band.counts[5]).all()


def test_a_bin_with_a_saturated_pixel_is_not_usable() -> None:
    frames = np.full((40, 8, 12), 1000, np.float32)
    frames[3, 1, 1] = 255
    stack = Stack(Spy(frames), np.arange(40), np.arange(40.0), full_scale=1000.5)
    p = scan()
    p = select(Projections(**{**vars(p), "projections": stack}), PrepareOptions(binning=2))
    assert np.isfinite(p.read(0, 4).counts).all()
    frames[3, 1, 1] = 1001
    assert np.argwhere(np.isnan(p.read(0, 4).counts)).tolist() == [[3, 0, 0]]


def test_a_full_turn_begins_at_its_smallest_angle_whatever_the_encoder_says() -> None:
    jitter = np.random.default_rng(0).uniform(0, 0.5, 40)
    whole = select(scan(angles=9.0 * np.arange(40) + jitter), PrepareOptions())
    np.testing.assert_array_equal(whole.projections.frames, np.arange(40))
    part = select(scan(angles=(6.0 * np.arange(40) + 200 + jitter) % 360), PrepareOptions())
    np.testing.assert_array_equal(part.projections.frames, np.arange(40))
