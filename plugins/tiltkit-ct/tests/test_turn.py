"""Angles that a file lacks, and the order of axes that it does not state, from opposite views."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiltkit_ct.data_exchange import DataExchange
from tiltkit_ct.opposite import closes
from tiltkit_ct.options import PrepareOptions
from tiltkit_ct.select import select
from tiltkit_ct.turn import find_turn

from tiltkit.errors import InputError

Make = Callable[..., Any]
HALF, FULL = np.pi, 2 * np.pi


def angles_found(path: Path, **options: Any) -> tuple[Any, str]:
    with DataExchange.open(path) as opened:
        found = find_turn(opened, PrepareOptions(**options))
        (note,) = [note for note in found.notes if note.code == "angles_assumed"]
        assert note.assumed
        return np.degrees(found.angles), note.text


@pytest.mark.parametrize("photons", [60, 5000])
@pytest.mark.parametrize(("turn", "words"), [(HALF, "half a turn"), (FULL, "a full turn")])
def test_the_turn_of_a_scan_without_angles_is_found(
    simulate: Make, exchange: Callable[..., Path], turn: float, words: str, photons: float
) -> None:
    made = simulate(turn=turn, photons=photons)
    found, text = angles_found(exchange(made, exchange__theta=None))
    np.testing.assert_allclose(found, np.degrees(made.angles), atol=1e-6)
    assert words in text


@pytest.mark.parametrize("turn", [HALF, FULL])
def test_a_last_projection_like_the_first_ends_the_turn(
    simulate: Make, exchange: Callable[..., Path], turn: float
) -> None:
    made = simulate(n=91, turn=turn * 91 / 90)
    found, _ = angles_found(exchange(made, exchange__theta=None))
    assert found[-1] == pytest.approx(np.degrees(turn))


def test_a_part_of_a_scan_without_angles_keeps_the_angles_of_the_whole(
    simulate: Make, exchange: Callable[..., Path]
) -> None:
    made = simulate(turn=FULL)
    found, _ = angles_found(exchange(made, exchange__theta=None), angles="0:45")
    assert found[-1] == pytest.approx(356.0)


@pytest.mark.parametrize("turn", [1.9, 4.0])
def test_other_ranges_without_angles_are_refused_with_the_option_that_gives_them(
    simulate: Make, exchange: Callable[..., Path], turn: float
) -> None:
    path = exchange(simulate(turn=turn), exchange__theta=None)
    with pytest.raises(InputError, match="neither half a turn nor a full one") as caught:
        angles_found(path)
    assert "--angle-range" in caught.value.hint
    with DataExchange.open(path) as opened:
        assert find_turn(opened, PrepareOptions(angle_range="0:100")) is opened


def test_projections_that_are_all_alike_leave_the_assumption_and_say_so(
    simulate: Make, exchange: Callable[..., Path]
) -> None:
    made = simulate()
    disc = np.sqrt(np.maximum(1 - ((np.arange(128) - 63.5) / 40) ** 2, 0))
    photons = np.random.default_rng(1).poisson(made.photons * np.exp(-disc), made.counts.shape)
    path = exchange(made, exchange__theta=None, exchange__data=2.0 * photons + 100)
    found, text = angles_found(path)
    assert found[-1] == pytest.approx(180.0)
    assert "too much alike" in text


def test_angles_that_are_assumed_are_degrees_whatever_the_unit_of_the_options(
    simulate: Make, exchange: Callable[..., Path]
) -> None:
    made = simulate()
    options = PrepareOptions(angle_unit="rad")
    with DataExchange.open(exchange(made, exchange__theta=None)) as opened:
        found = select(find_turn(opened, options), options)
    np.testing.assert_allclose(found.angles, made.angles, atol=1e-6)


def test_angles_in_the_file_are_kept(simulate: Make, exchange: Callable[..., Path]) -> None:
    with DataExchange.open(exchange(simulate())) as opened:
        assert find_turn(opened, PrepareOptions()) is opened


@pytest.mark.parametrize("n_rows", [40, 12])
def test_sinograms_are_recognised_by_their_angles(
    simulate: Make, exchange: Callable[..., Path], n_rows: int
) -> None:
    made = simulate(n=40, rows=n_rows)
    turned = np.ascontiguousarray(made.counts.swapaxes(0, 1))
    with DataExchange.open(exchange(made, exchange__data=turned)) as opened:
        assert (len(opened.angles), opened.n_rows) == (40, n_rows)
        np.testing.assert_allclose(opened.read(3, 5).counts, made.counts[:, 3:5], rtol=1e-6)
        assert "sinogram_order" in [note.code for note in opened.notes]


def test_projections_with_as_many_rows_as_angles_stay_projections(
    simulate: Make, exchange: Callable[..., Path]
) -> None:
    made = simulate(n=40, rows=40)
    with DataExchange.open(exchange(made)) as opened:
        np.testing.assert_allclose(opened.read(3, 5).counts, made.counts[:, 3:5], rtol=1e-6)
        assert "sinogram_order" not in [note.code for note in opened.notes]


def test_views_close_at_their_own_angles_alone(project: Make) -> None:
    angles = np.arange(90) * HALF / 90
    sinogram = project(angles, 128, 65.2, 50.0)
    assert closes(sinogram, angles) is True
    assert closes(sinogram, 2 * angles) is False
    assert closes(sinogram[:40], angles[:40]) is None
