"""Frames that cannot be used are left out of a scan and named; healthy scans keep all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiltkit_ct.bad_frames import listed
from tiltkit_ct.task import CtOptions, CtRecon

from tiltkit.errors import UsageError

Exchange = Callable[..., Path]
CODES = {"darks_left_out", "flats_left_out", "views_left_out"}


def examined(path: Path, **options: Any) -> tuple[dict[str, str], Any]:
    """Texts of notes on frames that were left out, by their code, and the scan without them."""
    with CtRecon(CtOptions(axis="centre", **options)).open(path) as scan:
        notes = {note.code: note.text for note in scan.notes if note.assumed}
        return {code: text for code, text in notes.items() if code in CODES}, scan.projections


@pytest.mark.parametrize("photons", [10.0, 1000.0, 1e6])
@pytest.mark.parametrize("fluctuation", [0.0, 0.05])
def test_all_frames_of_a_healthy_scan_are_used(
    simulate: Any, exchange: Exchange, photons: float, fluctuation: float
) -> None:
    path = exchange(simulate(photons=photons, fluctuation=fluctuation))
    notes, found = examined(path)
    assert notes == {}
    assert [len(found.darks), len(found.flats), len(found.projections)] == [10, 10, 90]


def test_a_dark_with_light_is_left_out(scan: Any, exchange: Exchange) -> None:
    darks = scan.darks.copy()
    darks[3] = scan.flats[3]
    notes, found = examined(exchange(replace(scan, darks=darks)))
    assert notes["darks_left_out"].startswith("Dark 3 ")
    assert found.darks.frames.tolist() == [0, 1, 2, 4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize("share", [0.0, 0.5, 0.85])
def test_flats_without_all_of_the_light_are_left_out(
    scan: Any, exchange: Exchange, share: float
) -> None:
    flats = scan.flats.copy()
    flats[[2, 3]] = 100 + share * (flats[[2, 3]] - 100)
    notes, found = examined(exchange(replace(scan, flats=flats)))
    assert notes["flats_left_out"].startswith("Flats 2-3 ")
    assert len(found.flats) == 8


def test_a_flat_that_is_half_covered_is_left_out(scan: Any, exchange: Exchange) -> None:
    flats = scan.flats.copy()
    flats[5, :, 100:] = 100
    notes, _ = examined(exchange(replace(scan, flats=flats)))
    assert notes["flats_left_out"].startswith("Flat 5 ")


def test_one_of_two_flats_without_light_is_left_out(scan: Any, exchange: Exchange) -> None:
    flats = np.stack([scan.darks[0], scan.flats[0]])
    notes, found = examined(exchange(replace(scan, flats=flats)))
    assert notes["flats_left_out"].startswith("Flat 0 ")
    assert found.flats.frames.tolist() == [1]


DARK: dict[str, Callable[[Any], Any]] = {
    "the shutter was closed": lambda scan: scan.darks[:1],
    "exactly the dark level": lambda scan: np.full_like(scan.darks[:1], 100.0),
    "never written": lambda scan: np.zeros_like(scan.darks[:1]),
}


@pytest.mark.parametrize("views", [[40], range(20, 29), range(60, 90)])
@pytest.mark.parametrize("kind", DARK)
def test_projections_without_light_are_left_out_and_numbered(
    scan: Any, exchange: Exchange, kind: str, views: Any
) -> None:
    counts = scan.counts.copy()
    counts[list(views)] = DARK[kind](scan)
    notes, found = examined(exchange(replace(scan, counts=counts)))
    assert listed(views) in notes["views_left_out"]
    kept = np.setdiff1d(np.arange(90), list(views))
    np.testing.assert_array_equal(np.sort(found.projections.frames), kept)
    assert ("aborted" in notes["views_left_out"]) == (89 in views)


def test_axis_and_scale_are_those_of_the_scan_without_dark_projections(
    scan: Any, exchange: Exchange
) -> None:
    counts = scan.counts.copy()
    counts[30:39] = 100
    with CtRecon(CtOptions(axis="auto")).open(exchange(replace(scan, counts=counts))) as mended:
        dark = mended.geometry.axis, mended.scale
    kept = CtOptions(axis="auto", exclude_views="30-38")
    with CtRecon(kept).open(exchange(scan)) as healthy:
        assert dark == (healthy.geometry.axis, healthy.scale)


def test_a_dense_sample_is_not_taken_for_a_closed_shutter(
    simulate: Any, exchange: Exchange
) -> None:
    notes, _ = examined(exchange(simulate(thickness=5.0, photons=2000)))
    assert notes == {}


def test_numbers_of_projections_count_those_of_the_file(scan: Any, exchange: Exchange) -> None:
    counts = scan.counts.copy()
    counts[50] = 100
    notes, found = examined(
        exchange(replace(scan, counts=counts)), angles="10:", exclude_views="12,40-45"
    )
    assert ": 50," in notes["views_left_out"]
    assert not {12, 40, 45, 50} & set(found.projections.frames)
    assert len(found.projections) == 80 - 8


def test_excluded_views_are_a_note(scan: Any, exchange: Exchange) -> None:
    with CtRecon(CtOptions(exclude_views="7,80-", axis="centre")).open(exchange(scan)) as opened:
        (note,) = [note for note in opened.notes if note.code == "views_excluded"]
    assert "7, 80-89" in note.text


@pytest.mark.parametrize("views", ["", "a", "5-3", "90", "3-90", "-", "1--2", "1.5"])
def test_views_that_are_not_in_the_scan_are_refused(
    scan: Any, exchange: Exchange, views: str
) -> None:
    with pytest.raises(UsageError, match="views"):
        examined(exchange(scan), exclude_views=views)


def test_no_view_may_be_left_without_an_error(scan: Any, exchange: Exchange) -> None:
    with pytest.raises(UsageError, match="No projection"):
        examined(exchange(scan), exclude_views="0-")


def test_runs_of_numbers_are_listed_as_ranges() -> None:
    assert listed([5, 1, 2, 3, 9, 10]) == "1-3, 5, 9-10"
    assert listed(range(0, 100, 2)).endswith("78, ...")
