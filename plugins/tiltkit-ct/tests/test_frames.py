"""Frames are read once where chunks hold several rows, and evenly spaced frames by slices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tiltkit_ct import frames

DATA = np.random.default_rng(0).integers(0, 999, (30, 12, 9)).astype(np.uint16)


class Counted:
    """A dataset that counts the values that are read."""

    def __init__(self, chunks: Any = None) -> None:
        self.shape, self.dtype, self.chunks, self.read = DATA.shape, DATA.dtype, chunks, 0

    def __getitem__(self, index: Any) -> Any:
        assert all(isinstance(part, slice) for part in index)
        self.read += DATA[index].size
        return DATA[index]


def opened(item: Any) -> Any:
    return frames.stack(item, (0, 1, 2), np.arange(30), np.arange(30.0))


def test_contiguous_frames_are_read_row_by_row() -> None:
    item = Counted()
    found = opened(item).load(np.arange(30), slice(3, 4), slice(2, 5))
    np.testing.assert_array_equal(found, DATA[:, 3:4, 2:5])
    assert item.read == 30 * 3


def test_rows_of_one_chunk_are_read_together_once() -> None:
    item = Counted(chunks=(1, 12, 9))
    stack = opened(item)
    for row in range(12):
        found = stack.load(np.arange(30), slice(row, row + 1), slice(0, 9))
        np.testing.assert_array_equal(found, DATA[:, row : row + 1])
        stack.load(np.arange(0), slice(0, 12), slice(0, 9))  # as when only flats are wanted
        found[:] = -1  # what is given away is not what is kept
    assert item.read == DATA.size


def test_no_more_rows_are_kept_than_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "_KEPT_BYTES", 4 * 30 * 9 * 4)  # four rows
    item = Counted(chunks=(1, 12, 9))
    stack = opened(item)
    stack.load(np.arange(30), slice(5, 6), slice(0, 9))
    assert item.read == 30 * 4 * 9
    found = stack.load(np.arange(30), slice(3, 5), slice(0, 9))  # in two blocks
    np.testing.assert_array_equal(found, DATA[:, 3:5])


@pytest.mark.parametrize(
    "wanted",
    [np.arange(30), np.arange(3, 30, 4), np.array([2, 3, 4, 9, 12, 15, 15, 1]), np.array([7]),
     np.array([], int)],
)  # fmt: skip
def test_any_frames_are_read_in_their_order(wanted: Any) -> None:
    found = opened(Counted()).load(wanted, slice(0, 12), slice(0, 9))
    np.testing.assert_array_equal(found, DATA[wanted])
