"""Samples wider than the detector: recognised, modelled as wide as they are, and marked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiltkit_ct.geometry import image_size
from tiltkit_ct.task import CtOptions, CtRecon
from tiltkit_ct.truncation import is_truncated, seen_radius, widening

Make = Callable[..., Any]
HALF = np.pi * np.arange(120) / 120
FULL = 2 * HALF
RADIUS = 60.0  # of the unit of the phantom, whose longest half axis is 0.72 of it


def rows(project: Make, angles: Any, columns: int, axis: float, offset: float = 0.0) -> Any:
    rng = np.random.default_rng(0)
    sinogram = 2 * project(angles, columns, axis, RADIUS) + offset
    return (sinogram + 0.01 * rng.normal(size=sinogram.shape)).astype(np.float32)[None]


@pytest.mark.parametrize(
    ("angles", "columns", "axis", "truncated"),
    [
        (HALF, 110, 54.5, False),
        (HALF, 100, 52.5, False),
        (HALF, 60, 29.5, True),
        (HALF, 60, 26.0, True),
        (HALF, 80, 48.0, True),  # at one side only: half a turn does not see it from the other
        (FULL, 110, 54.5, False),
        (FULL, 60, 29.5, True),
        (FULL, 60, 8.0, False),  # half acquisition: the longer side holds all of the sample
        (FULL, 60, 52.0, False),
        (FULL, 40, 8.0, True),
    ],
)
def test_a_sample_beyond_the_detector_is_recognised(
    project: Make, angles: Any, columns: int, axis: float, truncated: bool
) -> None:
    assert is_truncated(rows(project, angles, columns, axis), angles, axis) is truncated


def test_air_with_an_offset_is_no_sample(project: Make) -> None:
    for offset in (0.4, -0.3):
        shifted = rows(project, HALF, 110, 54.5, offset)
        assert is_truncated(shifted, HALF, 54.5) is False


def test_less_than_half_a_turn_is_not_judged(project: Make) -> None:
    part = HALF[:80]
    assert is_truncated(rows(project, part, 60, 29.5), part, 29.5) is False


@pytest.mark.parametrize("columns", [70, 56, 44])
def test_the_width_of_the_sample_is_found(project: Make, columns: int) -> None:
    axis = (columns - 1) / 2
    found = widening(rows(project, HALF, columns, axis), HALF, axis, columns) * columns
    assert 0.95 < found / (2 * 0.72 * RADIUS) < 1.6


def test_opposite_projections_of_a_full_turn_see_what_the_nearer_side_misses() -> None:
    assert seen_radius(60, 10.0, HALF) == pytest.approx(10.5)
    assert seen_radius(60, 10.0, FULL) == pytest.approx(49.5)


@pytest.fixture
def interior(simulate: Make, exchange: Make) -> tuple[Path, Any]:
    """A scan whose detector ends inside of the sample, and the same with a whole detector."""
    made = simulate(n=120, rows=1, columns=128, axis=63.5, radius=RADIUS, photons=2e4)
    cut = np.s_[..., 36:92]
    path = exchange(
        made,
        exchange__data=made.counts[cut].astype(np.float32),
        exchange__data_white=made.flats[cut].astype(np.float32),
        exchange__data_dark=made.darks[cut].astype(np.float32),
    )
    return path.rename(path.with_name("interior.h5")), exchange(made)


def baseline(path: Path, **options: Any) -> tuple[Any, Any]:
    with CtRecon(CtOptions(**options)).open(path) as scan:
        image = scan._plain(scan.shown, scan.operator(torch.device("cpu")))[0].numpy()
        return image, scan


def test_values_within_the_field_of_view_are_those_of_a_whole_detector(interior: Any) -> None:
    part, scan = baseline(interior[0])
    whole, reference = baseline(interior[1])
    assert reference.geometry.seen is None
    assert reference.geometry.size == image_size(128, reference.geometry.axis)
    margin = (len(whole) - len(part)) // 2
    inside = scan.geometry.field_of_view().numpy()
    truth = whole[margin : margin + len(part), margin : margin + len(part)][inside]
    slope, _ = np.polyfit(truth, part[inside], 1)
    assert slope == pytest.approx(1.0, abs=0.05)
    assert part[inside].mean() == pytest.approx(truth.mean(), rel=0.15)


def test_a_wider_region_is_modelled_and_the_note_says_so(interior: Any) -> None:
    _, scan = baseline(interior[0])
    assert scan.layout.shape == (1, 56, 56)
    assert scan.geometry.size > 0.95 * 2 * 0.72 * RADIUS
    (note,) = [note for note in scan.notes if note.code == "sample_truncated"]
    assert note.assumed
    for number in (scan.geometry.size, 56):
        assert f"{number} x {number}" in note.text


def test_the_width_of_the_region_can_be_given(interior: Any) -> None:
    _, scan = baseline(interior[0], width=90, size=64)
    assert (scan.geometry.size, scan.geometry.image_size) == (90, 64)


def test_pixels_beyond_the_field_of_view_are_masked(interior: Any) -> None:
    _, scan = baseline(interior[0])
    view = scan.geometry.field_of_view()
    assert not view[0, 0]
    assert view[28, 28]
    assert view[28].sum() == pytest.approx(56, abs=1)


def test_a_whole_sample_has_no_field_of_view(interior: Any) -> None:
    _, scan = baseline(interior[1])
    assert scan.geometry.field_of_view() is None
    assert "sample_truncated" not in [note.code for note in scan.notes]


def test_half_acquisition_that_is_cut_at_its_longer_side_is_right_within(
    simulate: Make, exchange: Make
) -> None:
    made = simulate(
        n=180, rows=1, columns=128, axis=63.5, radius=RADIUS, photons=2e4, turn=2 * np.pi
    )
    whole, _ = baseline(exchange(made))
    cut = np.s_[..., 30:76]
    part, scan = baseline(
        exchange(
            made,
            exchange__data=made.counts[cut].astype(np.float32),
            exchange__data_white=made.flats[cut].astype(np.float32),
            exchange__data_dark=made.darks[cut].astype(np.float32),
        ),
        axis=33.5,
    )
    assert scan.geometry.seen == pytest.approx(34.0)
    margin = (len(whole) - len(part)) // 2
    inside = scan.geometry.field_of_view().numpy()
    truth = whole[margin : margin + len(part), margin : margin + len(part)][inside]
    slope, _ = np.polyfit(truth, part[inside], 1)
    assert slope == pytest.approx(1.0, abs=0.05)
    assert part[inside].mean() == pytest.approx(truth.mean(), rel=0.15)


def test_missing_directions_are_noted(simulate: Make, exchange: Make) -> None:
    part = simulate(n=120, rows=1).counts.astype(np.float32)[:60]
    path = exchange(
        simulate(n=120, rows=1), exchange__data=part, exchange__theta=np.arange(60) * 1.5
    )
    _, scan = baseline(path, axis=65.2)
    (note,) = [note for note in scan.notes if note.code == "directions_missing"]
    assert "over 90 degrees" in note.text
