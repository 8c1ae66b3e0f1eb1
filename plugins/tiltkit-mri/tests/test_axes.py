"""Axes of k-space in other orders and numbers: recognised with a note, or as the user says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiltkit_mri.axes import parse_axes
from tiltkit_mri.fastmri import FastMri
from tiltkit_mri.task import MriOptions, MriRecon

from tiltkit.errors import InputError, UsageError

Write = Callable[..., Path]


def noise(*shape: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.normal(size=(*shape, 2)) @ np.array([1, 1j])).astype(np.complex64)


def parts(data: np.ndarray, axis: int) -> np.ndarray:
    return np.stack([data.real, data.imag], axis=axis)


def test_coils_without_a_slice_axis_are_recognised(write: Write, scan: Any) -> None:
    data = scan.noisy(0.02).astype(np.complex64)
    with FastMri.open(write(kspace=data)) as opened:
        assert (opened.n_slices, opened.n_coils) == (1, 4)
        assert [(note.code, note.assumed) for note in opened.notes] == [("axes_assumed", True)]
        assert "(coil, row, column)" in opened.notes[0].text
        np.testing.assert_array_equal(opened.read(0), data)


def test_slices_of_one_coil_are_not_taken_for_coils(write: Write) -> None:
    with FastMri.open(write(kspace=noise(4, 40, 32))) as opened:
        assert (opened.n_slices, opened.n_coils) == (4, 1)
        assert "(slice, row, column)" in opened.notes[0].text


def test_the_fastmri_layout_with_three_axes_has_slices_without_a_note(
    write: Write, scan: Any
) -> None:
    data = scan.noisy(0.02).astype(np.complex64)
    image = np.ones((4, 32, 32), np.float32)
    with FastMri.open(write(kspace=data, reconstruction_esc=image)) as opened:
        assert (opened.n_slices, opened.n_coils, opened.notes) == (4, 1, ())


@pytest.mark.parametrize("place", [2, 3])
def test_coils_on_another_of_four_axes_are_recognised(
    place: int, write: Write, simulate: Any, sampling: Any
) -> None:
    data = simulate((64, 56), 8).noisy(0.02).astype(np.complex64) * sampling(56, 3, 16)
    with FastMri.open(write(kspace=np.moveaxis(data[None], 1, place))) as opened:
        assert [note.code for note in opened.notes] == ["axes_assumed"]
        np.testing.assert_array_equal(opened.read(0), data)


def test_coils_in_the_place_of_slices_are_recognised(write: Write, scan: Any) -> None:
    data = scan.noisy(0.02).astype(np.complex64)
    with FastMri.open(write(kspace=data[:, None])) as opened:
        assert (opened.n_slices, opened.n_coils) == (1, 4)
        assert [note.code for note in opened.notes] == ["axes_assumed"]


@pytest.mark.parametrize("n_coils", [1, 2, 4, 32])
def test_four_axes_in_the_usual_order_need_no_note(
    n_coils: int, write: Write, simulate: Any
) -> None:
    """Repetitions of one image by one coil are no coils."""
    one = simulate((64, 56), n_coils)
    data = np.stack([one.noisy(0.02, seed) for seed in range(3)]).astype(np.complex64)
    with FastMri.open(write(kspace=data)) as opened:
        assert (opened.n_slices, opened.n_coils, opened.notes) == (3, n_coils, ())


@pytest.mark.parametrize("axis", [0, 1, 4])
def test_real_and_imaginary_parts_may_be_on_any_axis(write: Write, axis: int) -> None:
    data = noise(1, 3, 12, 10)
    with FastMri.open(write(kspace=parts(data, axis))) as opened:
        np.testing.assert_array_equal(opened.read(0), data[0])
        assert opened.notes[0].code == "axes_assumed"


def test_repetitions_become_named_images(write: Write) -> None:
    data = noise(3, 2, 4, 12, 10)
    with FastMri.open(write(kspace=data)) as opened:
        assert opened.n_slices == 6
        assert opened.slice_names[3] == "slice 1, repetition 1"
        np.testing.assert_array_equal(opened.read(3), data[1, 1])
        assert "(repetition, slice, coil, row, column)" in opened.notes[0].text


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 2, 3, 1), (2, 3, 1, 0), (3, 2, 0, 1)], ids=str)
def test_stated_axes_are_used_without_a_note(write: Write, order: tuple[int, ...]) -> None:
    data = noise(2, 3, 12, 10)
    names = [("slice", "coil", "row", "column")[axis] for axis in order]
    with FastMri.open(write(kspace=data.transpose(order)), names) as opened:
        assert opened.notes == ()
        np.testing.assert_array_equal(opened.read(1), data[1])


def test_axes_are_a_setting_of_the_task(write: Write, scan: Any) -> None:
    data = scan.noisy(0.02).astype(np.complex64).transpose(1, 2, 0)
    with MriRecon(MriOptions(axes="row, column, coil")).open(write(kspace=data)) as opened:
        assert opened.kspace.n_coils == 4


@pytest.mark.parametrize("names", ["", "coil,row", "row,row,column", "row,,column"])
def test_names_that_are_no_axes_are_refused(names: str) -> None:
    with pytest.raises(UsageError, match="no order of axes"):
        parse_axes(names)


BAD: dict[str, tuple[Any, str, str]] = {
    "magnitudes": (np.ones((1, 3, 12, 10)), "", "which is not complex"),
    "too few names": (noise(2, 3, 12, 10), "coil,row,column", "4 dimensions, .* 3 axes"),
    "no pair": (parts(noise(3, 12, 10), 3), "slice,row,column,coil", "does not fit the axes"),
    "pair of complex": (noise(2, 3, 12, 10), "pair,coil,row,column", "does not fit the axes"),
}


@pytest.mark.parametrize("case", BAD)
def test_an_array_that_does_not_fit_its_axes_is_refused(case: str, write: Write) -> None:
    data, names, message = BAD[case]
    path = write(kspace=data)
    with (
        pytest.raises(InputError, match=message) as caught,
        FastMri.open(path, parse_axes(names) if names else ()),
    ):
        pass
    assert caught.value.hint
