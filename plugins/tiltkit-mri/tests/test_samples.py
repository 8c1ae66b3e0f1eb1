"""Columns that count as measured."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from tiltkit_mri.samples import Measured, find_measured


def measured(kspace: np.ndarray) -> Measured:
    """The columns of one slice (coil, row, column)."""
    return find_measured(lambda _: kspace, 1, np.ones(kspace.shape[-1], dtype=bool))


def scan(seed: int = 0) -> np.ndarray:
    """A slice with noise everywhere, and signal in the centre that is 1e5 times as strong."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(4, 32, 40, 2)) @ np.array([1, 1j])
    column = np.arange(40) - 20
    return noise + 1e5 * np.exp(-np.abs(column) * 1.5)


def test_columns_of_noise_beside_a_strong_centre_are_measured() -> None:
    found = measured(scan())
    assert found.columns.all()
    assert found.notes == ()


def test_columns_of_rounding_errors_are_not_measured() -> None:
    kspace, left_out = scan(), np.arange(40) % 4 != 0
    kspace[..., left_out] *= 1e-8
    found = measured(kspace)
    assert (found.columns[0] == ~left_out).all()
    assert [note.code for note in found.notes] == ["columns_of_rounding"]
    assert "30 columns" in found.notes[0].text


def test_coils_without_data_are_named() -> None:
    kspace = scan()
    kspace[1:3] = 0
    assert [note.code for note in measured(kspace).notes] == ["coils_empty"]


def with_mask(kspace: np.ndarray, mask: np.ndarray) -> Measured:
    """The columns of one slice with a mask."""
    return find_measured(lambda _: kspace, 1, np.ones(kspace.shape[-1], dtype=bool), mask)


def test_a_mask_of_other_data_is_ignored() -> None:
    sampled = np.isin(np.arange(40), [3, 8, 11, 17, 18, 19, 20, 21, 22, 27, 33, 38])
    found = with_mask(scan() * sampled, np.roll(sampled, 1))
    assert (found.columns[0] == sampled).all()
    assert [note.code for note in found.notes] == ["mask_ignored"]
    assert "moved by -1" in found.notes[0].text


def test_a_mask_chooses_among_columns_with_data() -> None:
    mask = np.arange(40) % 2 == 0
    found = with_mask(scan(), mask)
    assert (found.columns[0] == mask).all()
    assert [(note.code, note.assumed) for note in found.notes] == [("columns_unmarked", False)]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (range(26), ["columns_empty"]),
        (range(3, 38), []),
        ([*range(9), *range(14, 40)], ["columns_empty"]),
    ],
)
def test_marked_columns_without_data_are_named_unless_they_are_zero_filling(
    columns: Iterable[int], expected: list[str]
) -> None:
    filled = np.isin(np.arange(40), list(columns))
    found = with_mask(scan() * filled, np.ones(40, dtype=bool))
    assert (found.columns[0] == filled).all()
    assert [note.code for note in found.notes] == expected


def test_points_of_rounding_errors_are_not_measured() -> None:
    kspace = scan()
    left_out = np.random.default_rng(1).random(kspace.shape[1:]) < 0.6
    kspace[:, left_out] *= 1e-9
    found = measured(kspace)
    assert found.points is not None
    assert (found.points[0] == ~left_out).all()


def test_slices_with_the_same_mask_share_it() -> None:
    kspace = scan()
    kspace[:, np.random.default_rng(1).random(kspace.shape[1:]) < 0.6] = 0
    found = find_measured(lambda _: kspace, 3, np.ones(40, dtype=bool))
    assert found.points is not None
    assert np.shares_memory(found.points[0], found.points[2])
