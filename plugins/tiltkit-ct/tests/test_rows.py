"""Rows that see nothing are named at once, with the way to leave them out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiltkit_ct.data_exchange import DataExchange
from tiltkit_ct.options import PrepareOptions
from tiltkit_ct.prepare import prepare
from tiltkit_ct.rows import check_rows
from tiltkit_ct.select import select
from tiltkit_ct.task import CtOptions, CtRecon

from tiltkit.errors import InputError

Make = Callable[..., Any]


def checked(path: Path, **settings: Any) -> None:
    options = PrepareOptions(**settings)
    with DataExchange.open(path) as scan:
        check_rows(select(scan, options), options)


@pytest.mark.parametrize("what", ["no beam", "no counts"])
@pytest.mark.parametrize("seed", range(4))
def test_rows_that_see_nothing_are_refused_whatever_their_noise(
    simulate: Make, exchange: Make, what: str, seed: int
) -> None:
    scan, rng = simulate(rows=12), np.random.default_rng(seed)
    for frames in (scan.counts, scan.flats) if what == "no beam" else (scan.counts,):
        for row in (0, 1, 9):
            frames[:, row] = 100 + 3 * rng.normal(size=frames[:, row].shape)
    path = exchange(scan)
    with pytest.raises(InputError, match="no beam or no counts: 0 to 1, 9") as caught:
        checked(path)
    assert "--rows 2:9" in caught.value.hint
    checked(path, rows="2:9")
    with pytest.raises(InputError, match="counts: 0 to 1") as caught:
        checked(path, rows="0:8", binning=2)
    assert "--rows 2:8" in caught.value.hint
    options = PrepareOptions()
    with DataExchange.open(path) as opened, pytest.raises(InputError):
        prepare(select(opened, options), 9, options)


def test_rows_of_little_light_are_kept(simulate: Make, exchange: Make) -> None:
    checked(exchange(simulate(photons=3, gain=1.0, rows=4, fluctuation=0, thickness=0.5)))


def test_a_row_without_beam_stops_a_run_before_it_begins(simulate: Make, exchange: Make) -> None:
    scan = simulate()
    scan.counts[:, 2] = scan.flats[:, 2] = 100
    path = exchange(scan)
    with pytest.raises(InputError, match="counts: 2"), CtRecon(CtOptions(axis="65.2")).open(path):
        pass
    with CtRecon(CtOptions(axis="65.2", rows="0:2")).open(path) as opened:
        assert opened.layout.shape[0] == 2
