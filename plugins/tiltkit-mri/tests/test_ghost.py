"""Ghosts of echo-planar imaging: the phase between odd and even columns is found and removed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tiltkit_mri.examine import examine
from tiltkit_mri.ghost import Ghost, find_ghost, without_ghost

SHAPE = (96, 80)
ALL = range(SHAPE[1])


@pytest.mark.parametrize("n_coils", [4, 8])
@pytest.mark.parametrize("level", [0.003, 0.1])
@pytest.mark.parametrize("ghost", [Ghost(0.4, 0.0), Ghost(0.0, 0.5), Ghost(-0.7, 1.3)])
def test_the_phase_is_recovered(n_coils: int, level: float, ghost: Ghost, simulate: Any) -> None:
    kspace = simulate(SHAPE, n_coils).noisy(level)
    found = find_ghost(without_ghost(kspace, Ghost(-ghost.offset, -ghost.slope)), range(28, 52))
    assert found is not None
    assert found.offset == pytest.approx(ghost.offset, abs=0.03)
    assert found.slope == pytest.approx(ghost.slope, abs=0.03)


@pytest.mark.parametrize("n_coils", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("level", [0.003, 0.1, 0.5])
@pytest.mark.parametrize("shift", [0, 1])
def test_scans_without_a_ghost_have_none(
    n_coils: int, level: float, shift: int, simulate: Any
) -> None:
    kspace = simulate(SHAPE, n_coils).noisy(level)
    assert find_ghost(np.roll(kspace, shift, axis=2), ALL) is None


def test_a_ghost_shifts_odd_columns_along_the_readout(simulate: Any) -> None:
    kspace = simulate(SHAPE, 2).kspace.astype(np.complex64)
    moved = without_ghost(kspace, Ghost(0.0, 2.0))
    np.testing.assert_array_equal(moved[..., ::2], kspace[..., ::2])
    np.testing.assert_allclose(
        moved[..., 1::2], np.roll(kspace[..., 1::2], -2, axis=1), rtol=1e-3, atol=1e-4
    )


def test_the_examination_removes_a_ghost_and_names_it(simulate: Any, sampling: Any) -> None:
    columns = sampling(SHAPE[1], 3, 20)
    kspace = simulate(SHAPE, 4).noisy(0.005) * columns
    points = np.broadcast_to(columns, SHAPE)
    found = examine(without_ghost(kspace, Ghost(-0.5, -0.4)), points)
    assert [note.code for note in found.notes] == ["ghost_removed"]
    assert "0.50 rad" in found.notes[0].text
    error = np.linalg.norm(found.data - kspace) / np.linalg.norm(kspace)
    assert error < 0.01
