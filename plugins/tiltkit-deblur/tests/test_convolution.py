"""The blur against scipy's, its transpose and its spectrum."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve
from tiltkit_deblur.convolution import Convolution

from tiltkit.errors import TiltkitError
from tiltkit.operators.hartley import hartley
from tiltkit.protocols import LinearOperator, PreconditionedOperator, SpectralOperator

# Odd and even sides, with lopsided kernels: nothing hides behind symmetry.
CASES = [((3, 5), (8, 9)), ((5, 3), (10, 7)), ((3, 3, 5), (6, 5, 8)), ((1, 5, 5), (3, 9, 8))]


def make(kernel: tuple[int, ...], shape: tuple[int, ...]) -> tuple[Convolution, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    values = torch.rand(kernel, generator=g, dtype=torch.float64)
    return Convolution(values, shape), values


def images(shape: tuple[int, ...], n: int = 2, seed: int = 1) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, 1, *shape, generator=g, dtype=torch.float64)


@pytest.mark.parametrize(("kernel", "shape"), CASES)
def test_it_is_a_circular_convolution(kernel: tuple[int, ...], shape: tuple[int, ...]) -> None:
    operator, values = make(kernel, shape)
    x = images(shape)
    for image, blurred in zip(x[:, 0], operator.forward(x)[:, 0], strict=True):
        expected = convolve(image.numpy(), values.numpy(), mode="wrap")
        np.testing.assert_allclose(blurred.numpy(), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("kernel", "shape"), CASES)
def test_the_adjoint_is_the_transpose(kernel: tuple[int, ...], shape: tuple[int, ...]) -> None:
    operator, _ = make(kernel, shape)
    x, y = images(shape), images(shape, seed=2)
    assert float((operator.forward(x) * y).sum()) == pytest.approx(
        float((x * operator.adjoint(y)).sum()), rel=1e-12
    )


@pytest.mark.parametrize(("kernel", "shape"), CASES)
def test_hartley_coordinates_diagonalise_it(
    kernel: tuple[int, ...], shape: tuple[int, ...]
) -> None:
    operator, _ = make(kernel, shape)
    assert isinstance(operator, SpectralOperator)
    assert isinstance(operator, LinearOperator)
    assert isinstance(operator, PreconditionedOperator)
    x = images(shape)
    torch.testing.assert_close(operator.normal(x), operator.adjoint(operator.forward(x)))
    solved = operator.solve(0.3, 2.0, x)
    torch.testing.assert_close(0.3 * solved + 2.0 * operator.normal(solved), x)


def test_the_preconditioner_solves_exactly_where_noise_is_the_same_everywhere() -> None:
    operator, _ = make((3, 5), (8, 9))
    r, variance, c = images((8, 9)), 0.2, 1.5
    solve = operator.data_preconditioner(torch.full((1, 1, 8, 9), variance).double(), c)
    x = solve(r)
    torch.testing.assert_close(variance * x + c * operator.forward(operator.adjoint(x)), r)
    # One for every Hartley coefficient, the same at opposite frequencies.
    each = torch.fft.fft2(images((8, 9), seed=3))[0, 0].abs() + 0.1
    x = operator.data_preconditioner(torch.full((1, 1, 8, 9), variance).double(), each)(r)
    spread = hartley(each * hartley(operator.adjoint(x), (-2, -1)), (-2, -1))
    torch.testing.assert_close(variance * x + operator.forward(spread), r)


@pytest.mark.parametrize(("kernel", "shape"), [((4, 3), (8, 8)), ((9, 3), (8, 8)), ((3,), (8, 8))])
def test_kernels_that_do_not_fit_are_refused(
    kernel: tuple[int, ...], shape: tuple[int, ...]
) -> None:
    with pytest.raises(TiltkitError, match="does not fit"):
        Convolution(torch.ones(kernel), shape)
