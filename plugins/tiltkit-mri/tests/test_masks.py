"""Masks of measured points: the complete centre, whole columns, and axes in another order."""

from __future__ import annotations

import numpy as np
import pytest
from tiltkit_mri.masks import (
    complete_centre,
    describe_masks,
    seems_transposed,
    whole_columns,
    with_whole_columns,
)


def random(share: float = 0.2, shape: tuple[int, int] = (24, 30), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape) < share


@pytest.mark.parametrize("seed", range(20))
def test_no_rectangle_around_the_centre_is_larger(seed: int) -> None:
    mask = random(0.85, (9, 12), seed)
    mask[4, 6] = True
    rows, columns = complete_centre(mask)
    largest = max(
        (last - first) * (right - left)
        for first in range(5) for last in range(5, 10)
        for left in range(7) for right in range(7, 13)
        if mask[first:last, left:right].all()
    )  # fmt: skip
    assert mask[rows.start : rows.stop, columns.start : columns.stop].all()
    assert len(rows) * len(columns) == largest
    assert 4 in rows
    assert 6 in columns


def test_a_centre_without_data_has_no_rectangle() -> None:
    mask = np.ones((8, 8), dtype=bool)
    mask[4, 4] = False
    assert [len(side) for side in complete_centre(mask)] == [0, 0]


def test_a_long_strip_is_no_better_than_a_square_that_is_large_enough() -> None:
    mask = np.zeros((200, 200), dtype=bool)
    mask[:, 94:106] = True  # 12 columns
    mask[84:116, 84:116] = True  # 32 x 32
    assert [len(side) for side in complete_centre(mask)] == [32, 32]


def test_few_gaps_in_columns_count_as_zeros_by_chance() -> None:
    mask = np.zeros((40, 20), dtype=bool)
    mask[:, ::3] = True
    gaps = mask & ~(random(0.04, (40, 20)))
    assert not whole_columns(gaps)
    np.testing.assert_array_equal(with_whole_columns(gaps), mask)
    points = mask & ~random(0.4, (40, 20))
    np.testing.assert_array_equal(with_whole_columns(points), points)


def test_rows_that_are_left_out_are_no_gaps_by_chance() -> None:
    mask = np.ones((40, 20), dtype=bool)
    mask[:3] = False
    np.testing.assert_array_equal(with_whole_columns(mask), mask)


def test_whole_rows_with_gaps_between_them_mean_swapped_axes() -> None:
    mask = np.zeros((24, 30), dtype=bool)
    mask[::3] = True
    mask[9:15] = True
    assert seems_transposed(mask)
    assert not seems_transposed(mask.T)
    assert not seems_transposed(np.arange(24)[:, None] > 5 * np.ones(30))  # partial echo


def test_a_grid_of_points_with_a_complete_centre_is_in_order() -> None:
    mask = np.zeros((24, 30), dtype=bool)
    mask[::2, ::2] = True  # rows between them are empty, outside of the centre
    mask[8:16, 11:19] = True
    assert not seems_transposed(mask)


def test_notes_distinguish_partial_echoes_from_single_points() -> None:
    echo = np.ones((24, 30), dtype=bool)
    echo[:5], echo[:, ::2] = False, False
    (note,) = describe_masks([echo])
    assert note.code == "rows_left_out"
    assert "Rows 5 to 23 of 24" in note.text
    codes = [note.code for note in describe_masks([random(), random(seed=1)])]
    assert codes == ["columns_differ", "points_left_out"]
    assert describe_masks([np.ones((4, 4), dtype=bool)]) == ()
