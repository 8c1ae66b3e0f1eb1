"""Profiles along lines against closed forms."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from tiltkit.errors import InputError
from tiltkit.report.profiles import profile


@pytest.fixture
def ramp(result: Path) -> Path:
    """A result whose images rise by 2 per row and 3 per column; samples are off by -1, 0, 1, 2."""
    image = 2.0 * np.arange(12)[:, None] + 3.0 * np.arange(10)
    with h5py.File(result, "r+") as file:
        file["entry/data/data"][...] = image
        shifts = np.array([-1.0, 0.0, 1.0, 2.0])
        file["entry/samples/samples"][...] = image + shifts[:, None, None, None]
    return result


def test_values_of_a_ramp_are_exact_between_pixels(ramp: Path) -> None:
    points = profile(ramp, "line", (1.25, 2.5), (9.75, 8.5), 1)
    share = np.linspace(0, 1, len(points))
    expected = 2 * (1.25 + 8.5 * share) + 3 * (2.5 + 6 * share)
    np.testing.assert_allclose([one.value for one in points], expected, rtol=1e-6)
    np.testing.assert_allclose([one.low for one in points], expected - 1, rtol=1e-6)
    np.testing.assert_allclose([one.high for one in points], expected + 2, rtol=1e-6)
    assert len(points) == 12  # 10.4 pixels long


def test_positions_are_those_of_the_axes(ramp: Path) -> None:
    first, *_, last = profile(ramp, "line", (2, 1), (5, 5), 0)
    assert (first.distance, first.y, first.x) == pytest.approx((0, 2 * 1.2, 1.2))
    assert (last.distance, last.y, last.x) == pytest.approx((5 * 1.2, 5 * 1.2, 5 * 1.2))
    assert first.length_unit == "mm"


def test_the_spread_between_independent_pixels_is_smaller(result: Path) -> None:
    # Half way between two independent pixels the variance is half of theirs.
    points = []
    for seed in range(60):
        drawn = np.random.default_rng(seed).normal(size=(4, 3, 12, 10))
        with h5py.File(result, "r+") as file:
            file["entry/samples/samples"][...] = drawn
        points.append(profile(result, "line", (3, 2.5), (10, 2.5), 2))
    variance = np.mean([[one.std**2 for one in line] for line in points])
    assert variance == pytest.approx(0.5, rel=0.1)
    assert {one.pixels for line in points for one in line} == {2}


@pytest.mark.parametrize(
    ("first", "last", "plane", "complaint"),
    [
        ((0, 0), (0, 0), 0, "from one pixel to another"),
        ((0, 0), (12, 3), 0, "from one pixel to another"),
        ((0, 0), (float("nan"), 3), 0, "from one pixel to another"),
        ((0, 0), (3, 3), None, "the result has 3"),
        ((0, 0), (3, 3), 3, "no plane 3"),
    ],
)
def test_lines_outside_of_the_image_are_refused(first, last, plane, complaint, result) -> None:
    with pytest.raises(InputError, match=complaint):
        profile(result, "line", first, last, plane)


def test_profiles_and_regions_share_a_csv_file(
    ramp: Path, tmp_path: Path, tilt: Callable[..., tuple[int, str, str]]
) -> None:
    table = tmp_path / "profile.csv"
    line = ("--profile", "2,1:5,5,1")
    code, out, _ = tilt("evaluate", ramp, *line, "--box", "2:6,1:9,1", "--csv", table)
    assert code == 0
    assert "profile 2,1:5,5,1, positions in mm" in out
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [row["figure"] for row in rows] == ["mean", "sum", *["value"] * 6]
    assert float(rows[-1]["distance"]) == pytest.approx(6.0)
    assert rows[0]["distance"] == ""
    _, out, _ = tilt("evaluate", ramp, *line, "--json")
    assert [one["value"] for one in json.loads(out)["profiles"]][-1] == pytest.approx(25)


@pytest.mark.parametrize("text", ["2,1", "2,1:5", "2,1:5,5,1,1", "a,b:c,d", "2,1:5,5,x"])
def test_lines_of_another_form_are_wrong_use(text: str, result: Path, tilt) -> None:
    code, _, message = tilt("evaluate", result, "--profile", text)
    assert code == 2
    assert "ROW,COLUMN:ROW,COLUMN" in message
