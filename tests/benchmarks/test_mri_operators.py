"""Accuracy and speed of the MRI operators, the benchmark in small."""

from __future__ import annotations

import mri_operators
import pytest
from tiltkit_mri.non_cartesian import NonCartesianSense

SIZE = 48
KINDS = list(mri_operators.operators(8, 2))


@pytest.mark.parametrize("kind", KINDS)
def test_adjoints_are_exact_and_other_software_agrees(kind: str) -> None:
    operator = mri_operators.operators(SIZE, 3)[kind]
    assert mri_operators.adjoint_error(operator, SIZE) <= mri_operators.ADJOINT
    found = dict(mri_operators.deviations(operator, SIZE))
    assert found
    assert max(found.values()) <= mri_operators.AGREEMENT


@pytest.mark.parametrize("kind", KINDS)
def test_preconditioned_solves_take_fewer_iterations(kind: str) -> None:
    operator = mri_operators.operators(SIZE, 3)[kind]
    if isinstance(operator, NonCartesianSense):
        plain, preconditioned = mri_operators.iterations(operator, SIZE)
        assert preconditioned < plain
