"""Examination of k-space: healthy slices pass, faults are named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tiltkit_mri.examine import Examination, examine

Complex = NDArray[np.complex128]
SHAPE, COILS, LEVEL = (96, 80), 4, 0.01


@pytest.fixture(scope="module")
def clean(simulate: Any) -> Any:
    """A slice without noise."""
    return simulate(SHAPE, COILS)


@pytest.fixture(scope="module")
def healthy(clean: Any) -> Complex:
    """A fully sampled slice with noise."""
    noisy: Complex = clean.noisy(LEVEL)
    return noisy


def examined(kspace: Complex, **options: Any) -> Examination:
    """All columns with data count as measured."""
    columns = (kspace != 0).any(axis=(0, 1))
    return examine(kspace, np.broadcast_to(columns, kspace.shape[1:]), **options)


def codes(kspace: Complex, **options: Any) -> list[str]:
    """Codes of the notes."""
    return [note.code for note in examined(kspace, **options).notes]


@pytest.mark.parametrize("n_coils", [1, 2, 8])
@pytest.mark.parametrize("level", [1e-4, 0.01, 0.3])
@pytest.mark.parametrize("every", [1, 2, 5])
def test_a_healthy_slice_gives_no_note(
    n_coils: int, level: float, every: int, simulate: Any, sampling: Any
) -> None:
    kspace = simulate(SHAPE, n_coils).noisy(level) * sampling(SHAPE[1], every, 16)
    assert codes(kspace) == []


def test_an_echo_that_is_a_few_samples_late_gives_no_note(healthy: Complex) -> None:
    assert codes(np.roll(healthy, (3, -2), axis=(1, 2))) == []


def test_partial_fourier_gives_no_note(healthy: Complex) -> None:
    columns = np.arange(SHAPE[1])
    assert codes(healthy * (columns >= SHAPE[1] // 2 - SHAPE[1] // 8)) == []


def spike(kspace: Complex, row: int, column: int, strength: float) -> Complex:
    """The same with a sample that exceeds the largest one nearby by a factor."""
    spiked = kspace.copy()
    near = np.abs(kspace[:, row - 3 : row + 4, column - 1 : column + 2]).max(axis=(1, 2))
    spiked[:, row, column] = strength * near * np.exp(1j * np.arange(len(kspace)))
    return spiked


@pytest.mark.parametrize("row", [5, 40, 70])
@pytest.mark.parametrize("column", [4, 25, 52, 77])
def test_a_spike_is_named_and_its_column_left_out(row: int, column: int, healthy: Complex) -> None:
    found = examined(spike(healthy, row, column, 12))
    assert [note.code for note in found.notes] == ["spikes_left_out"]
    assert f"row {row}, column {column}," in found.notes[0].text
    assert np.flatnonzero(~found.columns).tolist() == [column]


@pytest.mark.parametrize(("row", "column"), [(40, 37), (46, 42), (60, 40)])
def test_spikes_at_the_calibration_lines_are_left_out_alone(
    row: int, column: int, healthy: Complex
) -> None:
    found = examined(spike(healthy, row, column, 12))
    assert [note.code for note in found.notes] == ["spikes_left_out"]
    assert found.columns.all()
    assert np.argwhere(~found.sound).tolist() == [[row + k, column] for k in (-1, 0, 1)]


def test_a_spike_beside_the_centre_leaves_the_centre_in(healthy: Complex) -> None:
    kspace = healthy.copy()
    kspace[:, 47, 40] = 50 * np.abs(healthy).max()
    assert np.argwhere(~examined(kspace).sound).tolist() == [[46, 40], [47, 40]]


def with_spikes(kspace: Complex, count: int) -> Complex:
    """Spikes in many columns."""
    spiked = kspace
    for k in range(count):
        spiked = spike(spiked, 5 + 31 * k % 86, 2 + 2 * k % 34, 20)
    return spiked


def test_spikes_in_many_columns_are_left_out_alone(healthy: Complex) -> None:
    found = examined(with_spikes(healthy, 13))
    assert [note.code for note in found.notes] == ["spikes_left_out"]
    assert "13 spikes" in found.notes[0].text
    assert found.columns.all()
    assert (~found.sound).sum() == 39


def test_very_many_spikes_are_only_named(healthy: Complex) -> None:
    found = examined(with_spikes(healthy, 40))
    assert [note.code for note in found.notes] == ["spikes"]
    assert found.sound.all()


def cut_off(kspace: Complex) -> Complex:
    """One coil ends in the middle."""
    part = kspace.copy()
    part[2, :, 50:] = 0
    return part


def clipped(kspace: Complex) -> Complex:
    """Values above a fifth of the largest one are clipped."""
    top = 0.2 * max(np.abs(kspace.real).max(), np.abs(kspace.imag).max())
    return kspace.real.clip(-top, top) + 1j * kspace.imag.clip(-top, top)


def centre_only(kspace: Complex) -> Complex:
    """Columns after the centre were never written."""
    return kspace * (np.arange(SHAPE[1]) < SHAPE[1] // 2 + 4)


def noisy(kspace: Complex) -> Complex:
    """One coil has 50 times the noise."""
    rng = np.random.default_rng(7)
    noise = rng.normal(size=(*SHAPE, 2)) @ np.array([1, 1j])
    louder = kspace.copy()
    louder[1] += 50 * LEVEL * noise
    return louder


def unplugged(kspace: Complex) -> Complex:
    """One coil has noise alone."""
    rng = np.random.default_rng(8)
    dead = kspace.copy()
    dead[3] = LEVEL * (rng.normal(size=(*SHAPE, 2)) @ np.array([1, 1j]))
    return dead


@pytest.mark.parametrize(
    ("fault", "code", "coils"),
    [
        (cut_off, "coils_incomplete", [0, 1, 3]),
        (clipped, "clipped", [0, 1, 2, 3]),
        (centre_only, "half_missing", [0, 1, 2, 3]),
        (noisy, "coils_noisy", [0, 1, 2, 3]),
        (unplugged, "coils_weak", [0, 1, 2, 3]),
    ],
)
def test_a_fault_is_named(
    fault: Callable[[Complex], Complex], code: str, coils: list[int], healthy: Complex
) -> None:
    found = examined(fault(healthy))
    assert [note.code for note in found.notes] == [code]
    assert np.flatnonzero(found.coils).tolist() == coils


def test_columns_away_from_the_centre_alone_can_be_examined(healthy: Complex) -> None:
    found = examined(healthy * (np.arange(SHAPE[1]) == 60))
    assert found.columns.sum() == 1


def test_a_header_that_states_one_side_explains_the_missing_one(healthy: Complex) -> None:
    half = centre_only(healthy)
    assert codes(half, stated=(0, SHAPE[1] // 2 + 4)) == []
    assert codes(half, stated=(0, SHAPE[1])) == ["half_missing"]
    assert codes(half, stated=(2 * SHAPE[1], 3 * SHAPE[1])) == ["half_missing"]


def test_coils_of_another_gain_are_no_fault(healthy: Complex) -> None:
    gains = np.array([1, 30, 0.05, 1])[:, None, None]
    assert codes(healthy * gains) == []
