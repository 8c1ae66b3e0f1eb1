"""Diagonalised operators against plain matrices."""

from __future__ import annotations

import pytest
import torch

from tiltkit.operators.spectral import Dense
from tiltkit.protocols import LinearOperator, SpectralOperator

SHAPE = (2, 3, 2)


@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"])
def dense(request):
    g = torch.Generator().manual_seed(0)
    return Dense(torch.randn(5, 12, generator=g, dtype=request.param), SHAPE)


def images(dense, n=3):
    g = torch.Generator().manual_seed(1)
    return torch.randn(n, *SHAPE, generator=g, dtype=dense.matrix.dtype)


def close(dtype):
    return {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {}


def test_a_dense_operator_keeps_both_protocols(dense):
    assert isinstance(dense, LinearOperator)
    assert isinstance(dense, SpectralOperator)


def test_forward_and_adjoint_are_the_matrix_and_its_transpose(dense):
    x = images(dense)
    y = dense.forward(x)
    for item, measured in zip(x, y, strict=True):
        torch.testing.assert_close(measured, torch.mv(dense.matrix, item.flatten()))
    back = dense.adjoint(y)
    assert back.shape == x.shape
    torch.testing.assert_close(back[1].flatten(), torch.mv(dense.matrix.T, y[1]), **close(x.dtype))


def test_normal_is_the_adjoint_of_forward(dense):
    x = images(dense)
    expected = dense.adjoint(dense.forward(x))
    torch.testing.assert_close(dense.normal(x), expected, **close(x.dtype))


def test_solve_inverts_the_shifted_normal_operator(dense):
    b = images(dense)
    system = 0.3 * torch.eye(12, dtype=b.dtype) + 1.7 * dense.matrix.T @ dense.matrix
    expected = torch.linalg.solve(system, b.flatten(1).T).T.reshape(b.shape)
    torch.testing.assert_close(dense.solve(0.3, 1.7, b), expected, **close(b.dtype))


def test_spectral_coordinates_are_an_isometry_that_diagonalises(dense):
    x = images(dense)
    c = dense.to_spectral(x)
    torch.testing.assert_close(c.norm(dim=1), x.flatten(1).norm(dim=1))
    torch.testing.assert_close(dense.from_spectral(c), x, **close(x.dtype))
    energy = (dense.eigenvalues * c.square()).sum(1)
    torch.testing.assert_close(energy, dense.forward(x).square().sum(1), **close(x.dtype))


def test_white_noise_has_white_spectral_coordinates(dense):
    g = torch.Generator().manual_seed(2)
    xi = torch.randn(20_000, *SHAPE, generator=g, dtype=dense.matrix.dtype)
    covariance = dense.spectral_white(xi).T.cov()
    assert (covariance - torch.eye(12)).abs().max() < 5 * (2 / 20_000) ** 0.5
