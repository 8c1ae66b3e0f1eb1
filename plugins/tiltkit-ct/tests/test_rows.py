"""Rows without light are found before the run, and do not stop the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiltkit_ct.data_exchange import DataExchange
from tiltkit_ct.options import PrepareOptions
from tiltkit_ct.prepare import prepare
from tiltkit_ct.rows import unusable_rows
from tiltkit_ct.select import select
from tiltkit_ct.task import CtOptions, CtRecon

from tiltkit.errors import InputError
from tiltkit.recon.selection import choose_slices

Make = Callable[..., Any]


def unusable(path: Path, **settings: Any) -> dict[int, str]:
    options = PrepareOptions(**settings)
    with DataExchange.open(path) as scan:
        return unusable_rows(select(scan, options), options)


@pytest.mark.parametrize("what", ["no beam", "no counts"])
@pytest.mark.parametrize("seed", range(4))
def test_rows_without_light_are_found_whatever_their_noise(
    simulate: Make, exchange: Make, what: str, seed: int
) -> None:
    scan, rng = simulate(rows=12), np.random.default_rng(seed)
    for frames in (scan.counts, scan.flats) if what == "no beam" else (scan.counts,):
        for row in (0, 1, 9):
            frames[:, row] = 100 + 3 * rng.normal(size=frames[:, row].shape)
    path = exchange(scan)
    found = unusable(path)
    assert list(found) == [0, 1, 9]
    assert "row 9" in found[9]
    assert "no brighter than" in found[9]
    assert not unusable(path, rows="2:9")
    assert list(unusable(path, rows="0:8", binning=2)) == [0]
    options = PrepareOptions()
    with DataExchange.open(path) as opened, pytest.raises(InputError):
        prepare(select(opened, options), 9, options)


def test_rows_of_little_light_are_kept(simulate: Make, exchange: Make) -> None:
    path = exchange(simulate(photons=3, gain=1.0, rows=4, fluctuation=0, thickness=0.5))
    assert not unusable(path)


def test_a_beam_smaller_than_the_detector_is_enough(
    simulate: Make, exchange: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows without beam are neither looked at nor sampled, and the others are as without them."""
    scan, lit = simulate(rows=40), slice(29, 32)
    for frames in (scan.counts, scan.flats):
        for dark in (slice(0, lit.start), slice(lit.stop, None)):
            frames[:, dark] = np.random.default_rng(0).normal(100, 3, frames[:, dark].shape)
    path = exchange(scan)
    with (
        CtRecon(CtOptions()).open(path) as found,
        CtRecon(CtOptions(rows="29:32")).open(path) as one,
    ):
        assert found.geometry.axis == pytest.approx(65.2, abs=0.5)
        assert found.geometry.axis == pytest.approx(one.geometry.axis, abs=0.01)
        assert found.middle == 30
        assert found.describe()["rows (slices)"] == "40, of which 37 are unusable"
        assert found.scale == pytest.approx(one.scale, rel=1e-3)
        assert found.shown.facts["gain"] == pytest.approx(2.0, rel=0.1)
        assert choose_slices("29:32", found.layout, path) == [29, 30, 31]
        with pytest.raises(InputError, match="row 0") as caught:
            choose_slices(None, found.layout, path)
    assert "--slices 29:32" in caught.value.hint
    monkeypatch.chdir(tmp_path)
    with (
        pytest.raises(InputError, match="drawn"),
        CtRecon(CtOptions(axis="try:64:66:1")).open(path),
    ):
        pass


def test_phase_retrieval_beside_rows_without_beam_is_as_without_them(
    simulate: Make, exchange: Make
) -> None:
    scan = simulate(rows=40)
    for frames in (scan.counts, scan.flats):
        for dark in (slice(0, 29), slice(32, None)):
            frames[:, dark] = np.random.default_rng(0).normal(100, 3, frames[:, dark].shape)
    path = exchange(scan)
    phase = {"delta_beta": 300, "energy_kev": 30, "distance_mm": 30, "pixel_mm": 0.003}
    for rows, index in ((None, 30), ("29:32", 1)):
        options = PrepareOptions(rows=rows, **phase)
        with DataExchange.open(path) as opened:
            found = prepare(select(opened, options), index, options)
        assert abs(found.line_integrals - scan.truth).mean() < 0.04
        assert found.facts["masked"] == 0


def test_a_scan_of_which_no_row_works_is_refused(simulate: Make, exchange: Make) -> None:
    scan = simulate()
    scan.counts[:], scan.flats[:] = 100, 100
    with (
        pytest.raises(InputError, match="no brighter than its darks"),
        CtRecon(CtOptions(axis="65.2")).open(exchange(scan)),
    ):
        pass
