"""Runs are called off, right or unclear, and finished ones are kept."""

from __future__ import annotations

import dataclasses

import pytest
from exact import Score
from faithful import Record, append, classify, read

EXACT = Score(
    excess=0.06, variance=1.0, bands=(1.0, 1.0), scatter=(0.1, 0.02), coverage=0.9, calls=0.0,
    mean_off=False, bands_off=False, says="untested", codes=(), seconds=0.0,
)  # fmt: skip


def record(seed: int = 0, case: str = "", **changes: object) -> Record:
    score = dataclasses.replace(EXACT, **changes)
    return Record("gaussian", "a setting", case, 16, seed, "walmc", score, EXACT)


@pytest.mark.parametrize(
    ("first", "second", "word"),
    [
        ((0.95, 1.0), (1.05, 1.0), "right"),
        ((0.7, 1.0), (0.85, 1.0), "unclear"),  # 0.775, but exact draws have 0.1 of scatter
        ((0.6, 1.0), (0.6, 1.0), "off"),
        ((1.0, 0.77), (1.0, 0.75), "off"),
        ((1.0, 1.31), (1.0, 1.31), "off"),
    ],
)
def test_a_setting_is_off_where_the_mean_over_its_runs_is_outside_by_more_than_chance(
    first, second, word
):
    assert classify([record(0, bands=first), record(1, bands=second)]) == [word, word]


def test_a_single_run_that_is_off_does_not_make_others_off():
    assert classify([record(0, mean_off=True), record(1)]) == ["off", "right"]


def test_problems_of_different_hardness_are_judged_by_themselves():
    both = [record(0, "a", bands=(0.4, 1.0)), record(0, "b")]
    assert classify(both) == ["off", "right"]


def test_finished_runs_come_back_from_their_file(tmp_path):
    path = tmp_path / "runs.csv"
    records = [record(0, codes=("mean_off",), says="warns"), record(1, "a, b")]
    for one in records:
        append(path, one)
    assert list(read(path).values()) == records
