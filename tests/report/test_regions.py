"""Figures of regions against closed forms."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from tiltkit.errors import InputError
from tiltkit.report.regions import box, disk, interval_ranks, labels, region_figures

SHAPE = (3, 12, 10)


@pytest.mark.parametrize(("samples", "coverage"), [(8, 7 / 9), (19, 0.9), (99, 0.9)])
def test_intervals_of_exchangeable_samples_hold_the_truth_as_often_as_stated(
    samples: int, coverage: float
) -> None:
    rank, stated = interval_ranks(samples)
    assert stated == pytest.approx(coverage)
    draws = np.sort(np.random.default_rng(0).normal(size=(20000, samples)), axis=1)
    truth = np.random.default_rng(1).normal(size=20000)
    inside = (draws[:, rank - 1] <= truth) & (truth <= draws[:, -rank])
    assert inside.mean() == pytest.approx(coverage, abs=0.01)


def test_the_spread_of_a_mean_is_that_of_correlated_pixels(result: Path) -> None:
    # All pixels move together: the mean of a region is as uncertain as a pixel.
    shifts = np.array([-1.0, 0.0, 1.0, 2.0], np.float32)
    with h5py.File(result, "r+") as file:
        file["entry/samples/samples"][...] = shifts[:, None, None, None]
        file["entry/data/data"][...] = 0.5
    mask = box(SHAPE, slice(2, 6), slice(1, 9), 1)
    mean, total, size = region_figures(result, {"box": mask}, above=0.5)
    assert (mean.value, mean.low, mean.high) == (0.5, -1.0, 2.0)
    assert mean.std == pytest.approx(shifts.std(ddof=1))
    assert mean.pixels == 32
    assert total.high / mean.high == pytest.approx(size.high)  # all of the region
    assert size.low == 0
    assert size.value == pytest.approx(size.high / 2)


def test_a_disk_has_the_area_of_a_disk() -> None:
    mask = disk((1, 200, 200), 99.5, 99.5, 80, None)
    assert mask.sum() == pytest.approx(np.pi * 80**2, rel=0.002)


@pytest.mark.parametrize("kind", ["npy", "tif"])
def test_regions_of_a_label_image_are_named_by_its_values(kind: str, tmp_path: Path) -> None:
    values = np.zeros(SHAPE, np.uint8)
    values[1, 2:4], values[2, 5] = 3, 7
    path = tmp_path / f"labels.{kind}"
    np.save(path, values) if kind == "npy" else tifffile.imwrite(
        path, values, photometric="minisblack"
    )
    found = labels(path, SHAPE)
    assert {name: int(mask.sum()) for name, mask in found.items()} == {"label 3": 20, "label 7": 10}


def test_labels_of_another_shape_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "labels.npy", np.ones((10, 12), np.uint8))
    with pytest.raises(InputError, match=r"\(10, 12\)"):
        labels(tmp_path / "labels.npy", SHAPE)


@pytest.mark.parametrize(
    ("rows", "columns"), [(slice(0, 13), slice(0, 2)), (slice(4, 4), slice(0, 2))]
)
def test_boxes_outside_of_the_image_are_refused(rows: slice, columns: slice) -> None:
    with pytest.raises(InputError, match="rows"):
        box(SHAPE, rows, columns, None)


def test_regions_from_the_command_line(result: Path, tmp_path: Path, capsys) -> None:
    from tiltkit.cli.main import main

    table = tmp_path / "regions.csv"
    options = ["--box", "2:6,1:9,1", "--disk", "5,5,2.5", "--above", "1e-6", "--csv", str(table)]
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", str(result), *options, "--json"])
    assert not stop.value.code
    found = json.loads(capsys.readouterr().out)
    assert [one["region"] for one in found["regions"]] == ["box 2:6,1:9,1"] * 3 + [
        "disk 5,5,2.5"
    ] * 3
    assert "verdict" in found
    assert len(table.read_text().splitlines()) == 1 + 6
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", str(result), "--box", "2,6"])
    assert stop.value.code == 2
    assert "Y0:Y1,X0:X1" in capsys.readouterr().err
