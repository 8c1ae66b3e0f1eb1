"""Weighted operators against plain matrices."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tiltkit.operators.compose import Pointwise, Weighted, weighted
from tiltkit.operators.spectral import Dense
from tiltkit.protocols import LinearOperator, SpectralOperator


def make(data, pixels, seed, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    matrix = torch.randn(data, pixels, generator=g, dtype=torch.float64)
    weights = torch.rand(data, generator=g, dtype=torch.float64)
    weights[0] = 0.0
    return Weighted(Dense(matrix.to(dtype), (1, pixels)), weights.to(dtype)), matrix, weights


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 99))
def test_the_adjoint_of_a_weighted_operator_is_its_adjoint(data, pixels, seed):
    operator, _, _ = make(data, pixels, seed)
    g = torch.Generator().manual_seed(seed + 1)
    x = torch.randn(2, 1, pixels, generator=g, dtype=torch.float64)
    y = torch.randn(2, data, generator=g, dtype=torch.float64)
    there = (operator.forward(x) * y).sum()
    back = (operator.adjoint(y) * x).sum()
    torch.testing.assert_close(there, back)


def test_a_weighted_operator_is_the_matrix_with_weighted_rows():
    operator, matrix, weights = make(5, 4, 0)
    assert isinstance(operator, LinearOperator)
    assert not isinstance(operator, SpectralOperator)
    x = torch.randn(3, 1, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    rows = weights[:, None] * matrix
    torch.testing.assert_close(operator.forward(x), x[:, 0] @ rows.T)
    torch.testing.assert_close(operator.normal(x)[:, 0], x[:, 0] @ rows.T @ rows)
    system = 0.3 * torch.eye(4, dtype=torch.float64) + 1.7 * rows.T @ rows
    solved = torch.linalg.solve(system, x[:, 0].T).T
    torch.testing.assert_close(operator.solve(0.3, 1.7, x)[:, 0], solved, rtol=1e-4, atol=1e-4)


class Known(Dense):
    """A dense operator with an exact preconditioner."""

    def data_preconditioner(self, variance, c):
        system = torch.diag(variance.expand(1, len(self.matrix))[0])
        inverse = torch.linalg.inv(system + c * self.matrix @ self.matrix.T)
        return lambda r: r @ inverse


@pytest.mark.parametrize("outer", [torch.tensor(3.0).double(), torch.tensor([[2.0, 1, 0.5, 3, 1]])])
def test_a_weighted_operator_uses_the_preconditioner_of_its_operator(outer):
    inner, matrix, weights = make(5, 4, 0)
    weights = weights.clamp_min(0.1)
    operator = Weighted(Weighted(Known(matrix, (1, 4)), weights[None]), outer.double())
    rows = (outer * weights).reshape(-1, 1) * matrix
    variance = torch.linspace(1, 2, 5, dtype=torch.float64)
    inverse = operator.data_preconditioner(variance[None], 0.7)
    r = torch.randn(2, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = torch.linalg.solve(variance.diag() + 0.7 * rows @ rows.T, r.T).T
    torch.testing.assert_close(inverse(r), expected)
    assert inner.data_preconditioner(variance[None], 0.7) is None


def test_dead_measurements_leave_the_preconditioner_finite():
    _, matrix, weights = make(5, 4, 0)
    assert weights[0] == 0
    operator = Weighted(Known(matrix, (1, 4)), weights[None])
    inverse = operator.data_preconditioner(torch.ones(1, 5, dtype=torch.float64), 0.7)
    r = torch.eye(5, dtype=torch.float64)
    rows = weights[:, None] * matrix
    expected = torch.linalg.inv(torch.eye(5).double() + 0.7 * rows @ rows.T)
    torch.testing.assert_close(inverse(r), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("shape", [(2, 3), (1, 2, 3)])
def test_a_weighted_pointwise_operator_is_pointwise(shape):
    w = torch.tensor([[1.0, 2.0, 0.0], [0.5, 1.0, 3.0]])
    operator = weighted(Pointwise(w), torch.full(shape, 2.0))
    assert isinstance(operator, Pointwise)
    x = torch.ones(4, 2, 3)
    torch.testing.assert_close(operator.forward(x), (2 * w).expand(4, 2, 3))
    torch.testing.assert_close(operator.adjoint(x), operator.forward(x))
    torch.testing.assert_close(operator.normal(x), (4 * w**2).expand(4, 2, 3))
    assert operator.eigenvalues.shape == (2, 3)
