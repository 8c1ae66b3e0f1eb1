"""The beam is followed by monitors and by air beside the sample, and only where there is air."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from tiltkit_ct.air import find_air
from tiltkit_ct.data_exchange import DataExchange
from tiltkit_ct.examine import examine
from tiltkit_ct.prepare import PrepareOptions, prepare, select
from tiltkit_ct.task import CtOptions, CtRecon

Exchange = Callable[..., Path]


def opened(path: Path, **options: Any) -> tuple[dict[str, bool], Any]:
    """Codes of notes on the beam, each with whether it is assumed, and line integrals of row 1."""
    with CtRecon(CtOptions(axis="centre", **options)).open(path) as scan:
        codes = {note.code: note.assumed for note in scan.notes}
        lines = scan.prepare(1).line_integrals
    return {code: codes[code] for code in codes if "beam" in code or "flats" in code
            or "monitor" in code}, lines  # fmt: skip


def dimmed(scan: Any, factor: Any) -> Any:
    """The scan with a beam that is so many times as bright in projections, by ray."""
    return replace(scan, counts=100 + (scan.counts - 100) * np.asarray(factor)[..., None, :])


@pytest.mark.parametrize("factor", [0.5, 0.7, 1.4, 2.0])
def test_flats_of_another_exposure_are_scaled(scan: Any, exchange: Exchange, factor: float) -> None:
    notes, lines = opened(exchange(dimmed(scan, np.full((1, 1), factor))))
    assert notes == {"flats_scaled": True}
    assert abs(np.mean(lines - scan.truth)) < 0.003


@pytest.mark.parametrize("amplitude", [0.03, 0.2])
def test_a_beam_that_changes_is_followed(scan: Any, exchange: Exchange, amplitude: float) -> None:
    change = 1 + amplitude * np.sin(np.linspace(0, 9, 90))[:, None]
    notes, lines = opened(exchange(dimmed(scan, change)))
    assert notes == {"beam_followed": amplitude > 0.1}
    error = (lines - scan.truth).mean(axis=1)
    assert np.abs(error).max() < 0.02


def test_a_beam_that_moves_sideways_is_followed_at_both_sides(
    scan: Any, exchange: Exchange
) -> None:
    tilt = 1 + 0.1 * np.sin(np.linspace(0, 9, 90))[:, None] * np.linspace(-1, 1, 128)
    _, lines = opened(exchange(dimmed(scan, tilt)))
    assert np.abs((lines - scan.truth)[:, 20:-20].mean(axis=0)).max() < 0.03


def test_single_projections_with_half_of_the_beam_are_scaled(scan: Any, exchange: Exchange) -> None:
    factor = np.ones((90, 1))
    factor[[5, 60]] = 0.5
    notes, lines = opened(exchange(dimmed(scan, factor)))
    assert notes == {"beam_followed": True}
    assert np.abs((lines - scan.truth)[[5, 60]].mean()) < 0.02


def test_without_air_columns_the_flats_alone_count(scan: Any, exchange: Exchange) -> None:
    path = exchange(dimmed(scan, np.full((1, 1), 0.7)))
    notes, lines = opened(path, air=0)
    assert notes == {}
    assert np.mean(lines - scan.truth) == pytest.approx(-np.log(0.7), abs=0.01)


def test_sides_that_may_be_the_inside_of_a_sample_are_named_and_not_scaled(
    scan: Any, exchange: Exchange
) -> None:
    path = exchange(dimmed(scan, np.full((1, 1), 0.7)))
    notes, lines = opened(path, columns="0:90")
    assert "flats_scaled" not in notes
    assert np.mean(lines - scan.truth[:, :90]) == pytest.approx(-np.log(0.7), abs=0.01)
    with CtRecon(CtOptions(axis="centre", columns="0:90")).open(path) as found:
        assert any(note.code == "exposure_doubtful" and note.assumed for note in found.notes)


def thick(n: int, radius: float, inclusion: float, seed: int) -> Any:
    """Transmission (angle, 1, column) of a cylinder of this radius around a smaller one."""
    rng = np.random.default_rng(seed)
    s = np.linspace(-1, 1, n)
    angles = np.linspace(0, np.pi, 90)[:, None]
    at = s - 0.3 * np.cos(angles)
    lines = 0.5 * np.sqrt(radius**2 - s**2)
    lines = lines + inclusion * np.sqrt(np.maximum(0.2**2 - at**2, 0))
    counts = rng.poisson(10000 * np.exp(-lines))
    return (counts / 10000).astype(np.float32)[:, None]


@pytest.mark.parametrize("inclusion", [0.0, 1.0])
@pytest.mark.parametrize("radius", [1.05, 1.3, 2.0])
@pytest.mark.parametrize("n", [96, 512])
def test_the_inside_of_a_wide_sample_is_no_air(n: int, radius: float, inclusion: float) -> None:
    air = find_air(thick(n, radius, inclusion, seed=0), 20.0)
    assert air is None or not air.certain


@pytest.mark.parametrize("bad", [0.0, 0.01])
@pytest.mark.parametrize("photons", [50.0, 1e5])
def test_air_beside_a_sample_is_found_at_each_side(
    project: Any, photons: float, bad: float
) -> None:
    rng = np.random.default_rng(0)
    lines = project(np.linspace(0, np.pi, 90), 128, 60.0, 50.0)
    found = rng.poisson(photons * np.exp(-lines)) / photons
    found[rng.random(found.shape) < bad] = 3.0
    air = find_air(found.astype(np.float32)[:, None], 20.0)
    assert air is not None
    assert min(air.columns) > 5
    assert np.abs(air.brightness - 1).max() < 6 * air.error
    half = find_air(found.astype(np.float32)[:, None, 60:], 20.0)
    assert half is not None
    assert half.columns[0] == 0


def test_stripes_of_the_detector_do_not_hide_air(project: Any) -> None:
    rng = np.random.default_rng(0)
    lines = project(np.linspace(0, np.pi, 90), 256, 128.0, 100.0)
    found = 0.7 * rng.poisson(1e5 * np.exp(-lines)) / 1e5 * rng.normal(1, 0.005, 256)
    air = find_air(found.astype(np.float32)[:, None], 20.0)
    assert air is not None
    assert air.certain
    assert np.median(air.brightness) == pytest.approx(0.7, abs=0.005)


def nxtomo(write: Any, scan: Any, monitor: Any) -> Path:
    """Darks, flats and projections of the scan in an NXtomo file."""
    frames = np.concatenate([scan.darks, scan.flats, scan.counts])
    key = np.repeat([2, 1, 0], [10, 10, 90])
    angles = np.concatenate([np.zeros(20), np.degrees(scan.angles)])
    found: Path = write(
        {"entry/sample/rotation_angle": {"units": "deg"}},
        entry__instrument__detector__data=frames.astype(np.float32),
        entry__instrument__detector__image_key=key,
        entry__sample__rotation_angle=angles,
        entry__control__data=monitor,
    )
    return found


@pytest.mark.parametrize("truncated", [False, True])
def test_a_monitor_is_followed_with_and_without_air(scan: Any, write: Any, truncated: bool) -> None:
    current = np.concatenate([np.full(20, 200.0), np.linspace(200, 140, 90)])
    path = nxtomo(write, dimmed(scan, current[20:, None] / 200), current)
    columns = {"columns": "40:90"} if truncated else {}
    notes, lines = opened(path, **columns)
    truth = scan.truth[:, 40:90] if truncated else scan.truth
    assert notes == {"monitor_used": False}
    assert np.abs((lines - truth).mean(axis=1)).max() < 0.02
    _, without = opened(path, **columns, monitor=False, air=0)
    assert np.mean(without - truth) > 0.1


def test_a_monitor_that_air_contradicts_is_ignored_and_named(scan: Any, write: Any) -> None:
    notes, lines = opened(nxtomo(write, scan, np.linspace(200, 140, 110)))
    assert notes == {"monitor_ignored": True}
    assert np.abs((lines - scan.truth).mean(axis=1)).max() < 0.02


def test_a_monitor_of_something_else_is_ignored_without_air_too(scan: Any, write: Any) -> None:
    other = np.random.default_rng(0).uniform(1, 3, 110)
    notes, _ = opened(nxtomo(write, scan, other), columns="40:90")
    assert notes["monitor_ignored"]


def test_a_monitor_without_values_does_not_count(scan: Any, write: Any) -> None:
    notes, _ = opened(nxtomo(write, scan, np.zeros(110)))
    assert notes == {}


def test_many_zingers_side_by_side_are_masked(scan: Any, exchange: Exchange) -> None:
    counts = scan.counts.copy()
    bright = np.random.default_rng(0).random(counts.shape) < 0.03
    counts[bright] += 40000
    _, lines = opened(exchange(replace(scan, counts=counts)))
    _, clean = opened(exchange(scan))
    assert np.abs(lines - scan.truth).max() < 2 * np.abs(clean - scan.truth).max()


@pytest.mark.parametrize("factor", [1.0, 0.7])
def test_flats_of_a_real_scan_are_scaled_where_they_have_another_exposure(
    shared: Path, tmp_path: Path, factor: float
) -> None:
    path = tmp_path / "tooth.h5"
    path.write_bytes((shared / "tooth_aps.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        flats, dark = file["exchange/data_white"], file["exchange/data_dark"][()].mean(axis=0)
        flats[...] = dark + factor * (flats[()] - dark)
    options = PrepareOptions()
    with DataExchange.open(path) as read:
        scan = examine(select(read, options), options)
        lines = prepare(scan, 0, options).line_integrals
    codes = {note.code for note in scan.notes if note.assumed}
    assert codes == (set() if factor == 1 else {"flats_scaled"})
    assert abs(lines[:, :100].mean()) < 0.01
