"""Choice of slices by their names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiltkit_mri.choose import choose_slices, parse_choice
from tiltkit_mri.fastmri import FastMri
from tiltkit_mri.kspace import KSpace
from tiltkit_mri.task import MriOptions, MriRecon

from tiltkit.errors import InputError, UsageError

DATA = np.random.default_rng(0).normal(size=(3, 2, 4, 16, 12, 2)) @ np.array([1, 1j])


@pytest.fixture
def series(write: Callable[..., Path]) -> Iterator[KSpace]:
    """Three repetitions of two slices; one cannot be used."""
    data = DATA.copy()
    data[2, 1] = 0
    with FastMri.open(write(kspace=data)) as scan:
        yield scan


def test_chosen_slices_are_those_with_the_names(series: KSpace) -> None:
    found = choose_slices(series, parse_choice("slice=1, repetition=1:3"))
    assert found.slice_names == ("slice 1, repetition 1", "slice 1, repetition 2")
    np.testing.assert_allclose(found.read(0), DATA[1, 1], rtol=1e-6)
    assert set(found.unusable) == {1}
    assert found.columns.shape == (2, 12)
    assert found.places == (1, 1)
    assert "slices_chosen" in {note.code for note in found.notes}


def test_a_choice_works_through_the_task(series: KSpace) -> None:
    options = MriOptions(choose="repetition=1", kernel=4)
    with MriRecon(options).open(series.path) as scan:
        assert scan.layout.shape[0] == 2
        assert scan.layout.metadata["slice_names"] == "slice 0, repetition 1; slice 1, repetition 1"


def test_chosen_slices_keep_their_own_differences_of_averages(series: KSpace) -> None:
    scan = replace(series, differences=lambda index: np.full((4, 16, 12), index, np.complex64))
    found = choose_slices(scan, parse_choice("slice=1, repetition=1"))
    assert found.differences is not None
    assert (found.differences(0) == 3).all()


def test_names_and_numbers_that_do_not_exist_are_refused(series: KSpace) -> None:
    for text in ("contrast=0", "repetition=7"):
        with pytest.raises(InputError, match="has no slice with") as caught:
            choose_slices(series, parse_choice(text))
        assert "slice 0 to 1, repetition 0 to 2" in caught.value.hint


def test_slices_without_names_are_chosen_by_number(write: Callable[..., Path]) -> None:
    with (
        FastMri.open(write(kspace=DATA[0])) as scan,
        pytest.raises(InputError, match="only numbered, from 0 to 1"),
    ):
        choose_slices(scan, {"slice": range(1)})


@pytest.mark.parametrize("text", ["slice", "slice=a", "slice=1:b", "slice=1,slice=2", "=1", ""])
def test_a_choice_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        parse_choice(text)
