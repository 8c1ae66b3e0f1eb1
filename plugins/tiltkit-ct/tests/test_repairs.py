"""Wrapped integers and exchanged references are undone; saturated flats are named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiltkit_ct.task import CtOptions, CtRecon

from tiltkit.errors import InputError

Exchange = Callable[..., Path]


def prepared(path: Path) -> tuple[set[str], Any]:
    """Codes of assumptions, and line integrals of row 1."""
    with CtRecon(CtOptions(axis="centre", angle_unit="deg")).open(path) as scan:
        codes = {note.code for note in scan.notes if note.assumed}
        return codes, scan.prepare(1).line_integrals


def stored(scan: Any, exchange: Exchange, dtype: type, gain: float = 1.0) -> Path:
    names = {"data": scan.counts, "data_white": scan.flats, "data_dark": scan.darks}
    values = {
        f"exchange__{name}": (gain * frames).clip(0).round().astype(np.uint16).view(dtype)
        for name, frames in names.items()
    }
    return exchange(scan, **values)


@pytest.mark.parametrize("gain", [3.0, 5.0])
@pytest.mark.parametrize("rows", [3, 8])
def test_counts_that_were_wrapped_are_restored(
    simulate: Any, exchange: Exchange, rows: int, gain: float
) -> None:
    scan = simulate(rows=rows)
    _, expected = prepared(stored(scan, exchange, np.uint16, gain))
    codes, found = prepared(stored(scan, exchange, np.int16, gain))
    assert codes == {"counts_unwrapped"}
    np.testing.assert_array_equal(found, expected)


def test_signed_counts_that_fit_stay_as_they_are(scan: Any, exchange: Exchange) -> None:
    names = {"data": scan.counts, "data_white": scan.flats, "data_dark": scan.darks}
    values = {f"exchange__{name}": (frames - 100).round() for name, frames in names.items()}
    path = exchange(scan, **{name: frames.astype(np.int16) for name, frames in values.items()})
    codes, found = prepared(path)
    assert codes == set()
    assert abs(np.mean(found - scan.truth)) < 0.005


def test_darks_and_flats_that_were_exchanged_are_exchanged_back(
    scan: Any, exchange: Exchange
) -> None:
    _, expected = prepared(exchange(scan))
    codes, found = prepared(exchange(replace(scan, flats=scan.darks, darks=scan.flats)))
    assert codes == {"darks_flats_exchanged"}
    np.testing.assert_array_equal(found, expected)


def test_saturated_flats_are_named(scan: Any, exchange: Exchange) -> None:
    top = float(np.quantile(scan.flats, 0.7))
    flats = np.minimum(scan.flats, top) / top * 4095
    path = exchange(
        scan,
        exchange__data=(scan.counts / top * 4095).clip(0, 4095).astype(np.uint16),
        exchange__data_white=flats.astype(np.uint16),
        exchange__data_dark=(scan.darks / top * 4095).astype(np.uint16),
    )
    codes, _ = prepared(path)
    assert "flats_saturated" in codes


def test_the_gain_of_a_single_flat_comes_from_air(scan: Any, exchange: Exchange) -> None:
    single = replace(scan, flats=scan.flats[:1])
    with CtRecon(CtOptions(axis="centre")).open(exchange(single)) as opened:
        facts = opened.prepare(1).facts
    assert facts["gain_from"] == "air beside the sample"
    assert facts["gain"] == pytest.approx(2.0, rel=0.15)


def without_references(scan: Any, exchange: Exchange, values: Any) -> Path:
    return exchange(
        scan,
        exchange__data=values.astype(np.float32),
        exchange__data_white=None,
        exchange__data_dark=None,
    )


def normalised(scan: Any) -> Any:
    return (scan.counts - 100) / (scan.flats.mean(axis=0) - 100)


def test_transmission_without_flats_is_recognised(scan: Any, exchange: Exchange) -> None:
    codes, found = prepared(without_references(scan, exchange, normalised(scan)))
    assert codes == {"transmission_assumed"}
    assert abs(np.mean(found - scan.truth)) < 0.005


def test_line_integrals_without_flats_are_recognised(scan: Any, exchange: Exchange) -> None:
    codes, found = prepared(without_references(scan, exchange, -np.log(normalised(scan))))
    assert codes == {"line_integrals_assumed"}
    assert abs(np.mean(found - scan.truth)) < 0.005


@pytest.mark.parametrize("offset", [0.3, 100.0])
def test_other_values_without_flats_are_refused(
    scan: Any, exchange: Exchange, offset: float
) -> None:
    with pytest.raises(InputError, match="no flats"):
        prepared(without_references(scan, exchange, scan.counts / 1e4 + offset))
