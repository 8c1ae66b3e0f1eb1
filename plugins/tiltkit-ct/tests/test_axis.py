"""The rotation axis is found where it was put."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tiltkit_ct.axis import find_axis
from tiltkit_ct.data_exchange import DataExchange
from tiltkit_ct.options import PrepareOptions
from tiltkit_ct.projections import Projections, Stack
from tiltkit_ct.select import select

from tiltkit.errors import InputError

Project = Callable[..., Any]


def scan(sinograms: NDArray[np.float64], angles: NDArray[np.float64]) -> Projections:
    """Line integrals (row, angle, column) as an open scan."""
    frames = np.asarray(sinograms, np.float32).swapaxes(0, 1)

    def load(which: Any, rows: slice, columns: slice) -> NDArray[np.float32]:
        return frames[which, rows, columns]

    n, rows, columns = frames.shape
    return Projections(
        path=Path("scan.h5"),
        layout="test",
        projections=Stack(load, np.arange(n), np.arange(n, dtype=float)),
        stored_angles=angles,
        angle_unit="rad",
        rows=range(rows),
        columns=range(columns),
        kind="line_integrals",
    )


def noisy(clean: Any, level: float, rows: int = 3, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    return np.stack([clean + level * rng.normal(size=clean.shape) for _ in range(rows)])


@pytest.mark.parametrize("columns", [200, 201])
@pytest.mark.parametrize("off", [0.0, 0.5, 7.0, -12.3, 50.0, -50.25])
@pytest.mark.parametrize("level", [0.0, 0.03])
def test_half_a_turn_gives_the_axis(
    project: Project, columns: int, off: float, level: float
) -> None:
    axis = (columns - 1) / 2 + off
    angles = np.pi * np.arange(120) / 120
    sinogram = project(angles, columns, axis, 45)
    assert find_axis(scan(noisy(sinogram, level), angles)) == pytest.approx(axis, abs=0.3)


@pytest.mark.parametrize("end", [np.pi, 1.2 * np.pi])
def test_more_than_half_a_turn_is_as_good(project: Project, end: float) -> None:
    angles = np.linspace(0, end, 140)
    sinogram = project(angles, 200, 92.3, 80)
    assert find_axis(scan(noisy(sinogram, 0.02), angles)) == pytest.approx(92.3, abs=0.3)


def test_angles_may_be_uneven_unordered_and_start_anywhere(project: Project) -> None:
    rng = np.random.default_rng(0)
    angles = np.sort(np.pi * (np.arange(180) + 0.3 * rng.random(180)) / 180)
    angles = rng.permutation(angles + 0.7)
    made = scan(noisy(project(angles, 200, 92.3, 80), 0.01), angles)
    assert find_axis(select(made, PrepareOptions())) == pytest.approx(92.3, abs=0.5)


TURNING = {
    "golden ratio": np.radians(111.246117975) * np.arange(150),
    "golden ratio backwards": -np.radians(137.507764) * np.arange(140),
    "many turns": np.radians(7.2) * np.arange(300),
    "TIMBIR": np.concatenate([np.radians(np.arange(0, 180, 8) + 182 * k) for k in range(4)]),
}


@pytest.mark.parametrize("kind", TURNING)
def test_a_sample_that_turns_on_and_on_gives_the_axis(project: Project, kind: str) -> None:
    angles = TURNING[kind]
    made = scan(noisy(project(angles, 200, 92.3, 80), 0.01), angles)
    assert find_axis(select(made, PrepareOptions())) == pytest.approx(92.3, abs=0.3)


@pytest.mark.parametrize("off", [0.0, -8.7])
def test_a_sample_wider_than_the_detector_gives_the_axis(project: Project, off: float) -> None:
    axis = 99.5 + off
    angles = np.pi * np.arange(240) / 240
    sinogram = project(angles, 200, axis, 170)
    assert find_axis(scan(noisy(sinogram, 0.002), angles)) == pytest.approx(axis, abs=1.0)


@pytest.mark.parametrize("off", [0.0, 0.5, 13.3, -40.8])
@pytest.mark.parametrize("level", [0.0, 0.03])
def test_a_full_turn_gives_the_axis(project: Project, off: float, level: float) -> None:
    axis = 99.5 + off
    angles = 2 * np.pi * np.arange(240) / 240
    sinogram = project(angles, 200, axis, 50)
    assert find_axis(scan(noisy(sinogram, level), angles)) == pytest.approx(axis, abs=0.3)


@pytest.mark.parametrize("axis", [12.4, 30.0, 188.5])
@pytest.mark.parametrize("level", [0.0, 0.02])
def test_half_acquisition_gives_the_axis_near_the_edge(
    project: Project, axis: float, level: float
) -> None:
    angles = 2 * np.pi * np.arange(360) / 360
    sinogram = project(angles, 200, axis, 160)
    assert find_axis(scan(noisy(sinogram, level), angles)) == pytest.approx(axis, abs=1.0)


@pytest.mark.parametrize("end", [76, 48])
def test_a_limited_range_gives_the_axis_of_a_whole_sample(project: Project, end: int) -> None:
    angles = np.radians(np.arange(-float(end), end + 1, 2))
    sinogram = project(angles, 200, 92.3, 80)
    assert find_axis(scan(noisy(sinogram, 0.01), angles)) == pytest.approx(92.3, abs=0.5)


def test_a_limited_range_with_much_noise_does_not_determine_the_axis(project: Project) -> None:
    angles = np.radians(np.arange(-45.0, 46, 6))
    sinogram = project(angles, 200, 92.3, 80)
    with pytest.raises(InputError, match=r"determine it within \d"):
        find_axis(scan(noisy(sinogram, 0.05), angles))


def test_stripes_and_blocked_pixels_do_not_move_the_axis(
    simulate: Callable[..., Any], exchange: Callable[..., Path]
) -> None:
    made = simulate(n=120, axis=70.4, photons=3000)
    made.counts[:, :, 20] = 100
    made.flats[:, :, 20] = 100
    with DataExchange.open(exchange(made)) as opened:
        assert find_axis(select(opened, PrepareOptions())) == pytest.approx(70.4, abs=0.5)


def test_binning_and_columns_move_the_axis_as_they_move_pixels(
    simulate: Callable[..., Any], exchange: Callable[..., Path]
) -> None:
    with DataExchange.open(exchange(simulate(n=120, rows=4, axis=70.5))) as opened:
        part = select(opened, PrepareOptions(columns="6:128", binning=2))
        # Column 70.5 of the file is between columns 64 and 65 of the part.
        assert find_axis(part) == pytest.approx(32.0, abs=0.25)


@pytest.mark.parametrize(
    ("angles", "radius", "reason"),
    [
        (np.array([0.3]), 80, "1 projections cover"),
        (np.array([0.0, np.pi]), 80, "2 projections cover"),
        (np.radians(np.arange(-40, 41, 2.0)), 80, "cover 82 degrees"),
        (np.radians(np.arange(-75, 76, 2.0)), 300, "wider than the detector"),
    ],
)
def test_projections_that_do_not_determine_the_axis_are_refused(
    project: Project, angles: Any, radius: float, reason: str
) -> None:
    sinogram = project(angles, 200, 99.5, radius)
    with pytest.raises(InputError, match=reason) as caught:
        find_axis(scan(noisy(sinogram, 0.01), angles))
    assert "--axis" in caught.value.hint


def test_the_column_of_the_file_counts_only_where_projections_do_not_determine_it(
    project: Project,
) -> None:
    for last, expected in ((40, 80.0), (90, 92.3)):
        angles = np.radians(np.arange(-last, last, 2.0))
        made = scan(noisy(project(angles, 200, 92.3, 80), 0.01), angles)
        assert find_axis(replace(made, axis_hint=80.0)) == pytest.approx(expected, abs=0.3)


def test_rows_that_cannot_be_used_are_left_out(project: Project) -> None:
    angles = np.pi * np.arange(120) / 120
    sinograms = noisy(project(angles, 200, 92.3, 80), 0.02)
    sinograms[1] = 0
    assert find_axis(scan(sinograms, angles)) == pytest.approx(92.3, abs=0.3)
    with pytest.raises(InputError, match="same value everywhere"):
        find_axis(scan(sinograms[1:2], angles))


@pytest.mark.parametrize("rows", [None, (0,), (1,)])
def test_the_axis_of_a_real_scan_is_found(shared: Path, rows: Any) -> None:
    with DataExchange.open(shared / "tooth_aps.h5") as opened:
        found = find_axis(select(opened, PrepareOptions()), rows=rows)
    assert found == pytest.approx(296, abs=1)


@pytest.mark.parametrize("angles", ["0:150", ":181:3"])
def test_the_axis_of_a_real_scan_is_found_from_less(shared: Path, angles: str) -> None:
    with DataExchange.open(shared / "tooth_aps.h5") as opened:
        found = find_axis(select(opened, PrepareOptions(angles=angles)))
    assert found == pytest.approx(296, abs=1)
