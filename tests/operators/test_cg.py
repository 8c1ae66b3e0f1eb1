"""Batched conjugate gradients against dense solves."""

from __future__ import annotations

import pytest
import torch

from tiltkit.errors import TiltkitError
from tiltkit.operators import cg
from tiltkit.operators.cg import conjugate_gradient, few_steps

ALPHA, BETA = 0.2, 1.5


def system(dtype=torch.float64, n=20):
    g = torch.Generator().manual_seed(0)
    matrix = torch.randn(3 * n // 5, n, generator=g, dtype=dtype) * (20 / n) ** 0.5
    normal = matrix.T @ matrix
    b = torch.randn(5, 1, n, generator=g, dtype=dtype) * 10.0 ** torch.arange(-4, 1).view(5, 1, 1)
    return normal, b.to(dtype)


def exact(normal, b):
    full = ALPHA * torch.eye(len(normal), dtype=normal.dtype) + BETA * normal
    return torch.linalg.solve(full.double(), b.double().flatten(1).T).T.reshape(b.shape)


@pytest.mark.parametrize(
    ("dtype", "rtol"), [(torch.float32, 1e-5), (torch.float64, 1e-5), (torch.float64, 1e-11)]
)
def test_every_item_is_solved_to_the_asked_relative_residual(dtype, rtol):
    normal, b = system(dtype)
    x, _ = conjugate_gradient(lambda v: v @ normal, b, ALPHA, BETA, rtol=rtol)
    assert x.dtype == dtype
    residual = (ALPHA * x + BETA * x @ normal - b).flatten(1).norm(dim=1)
    assert (residual <= 3 * rtol * b.flatten(1).norm(dim=1)).all()
    condition = 1 + BETA * float(torch.linalg.matrix_norm(normal, 2)) / ALPHA
    error = (x.double() - exact(normal, b)).flatten(1).norm(dim=1)
    assert (error <= 3 * rtol * condition * exact(normal, b).flatten(1).norm(dim=1)).all()


def test_an_item_s_answer_does_not_depend_on_its_neighbours():
    normal, b = system()
    merge_levels, _ = conjugate_gradient(lambda v: v @ normal, b, ALPHA, BETA)
    for i in range(len(b)):
        alone, _ = conjugate_gradient(lambda v: v @ normal, b[i : i + 1], ALPHA, BETA)
        torch.testing.assert_close(merge_levels[i : i + 1], alone, rtol=1e-9, atol=1e-13)


def test_the_exact_inverse_as_preconditioner_needs_one_iteration():
    normal, b = system()
    x, iterations = conjugate_gradient(
        lambda v: v @ normal, b, ALPHA, BETA, precondition=lambda r: exact(normal, r)
    )
    assert iterations == 1
    torch.testing.assert_close(x, exact(normal, b))


@pytest.mark.parametrize("energy", [1e-2, 1e-6])
def test_solves_stop_at_the_asked_squared_error_in_units_of_the_system(energy):
    normal, b = system()
    x, iterations = conjugate_gradient(
        lambda v: v @ normal, b, ALPHA, BETA, rtol=1e-14, energy=energy,
        precondition=lambda r: r / ALPHA,
    )  # fmt: skip
    error = (x - exact(normal, b)).flatten(1)
    squared = ALPHA * error.square().sum(1) + BETA * ((error @ normal) * error).sum(1)
    assert (squared <= energy).all()
    _, strict = conjugate_gradient(lambda v: v @ normal, b, ALPHA, BETA, rtol=1e-12)
    assert iterations < strict


def test_complex_systems_are_solved():
    g = torch.Generator().manual_seed(2)
    matrix = torch.randn(4, 7, generator=g, dtype=torch.complex128)
    normal = matrix.mH @ matrix
    b = torch.randn(3, 7, generator=g, dtype=torch.complex128)
    x, _ = conjugate_gradient(lambda v: v @ normal.T, b, ALPHA, BETA, rtol=1e-10)
    torch.testing.assert_close(ALPHA * x + BETA * x @ normal.T, b)


def test_a_zero_right_hand_side_has_the_zero_solution():
    normal, b = system()
    x, iterations = conjugate_gradient(lambda v: v @ normal, 0 * b, ALPHA, BETA)
    assert iterations == 0
    assert not x.any()


def test_too_few_iterations_are_an_error_that_names_the_residual():
    normal, b = system()
    with pytest.raises(TiltkitError, match=r"relative residual of .* after 2 iterations"):
        conjugate_gradient(lambda v: v @ normal, b, ALPHA, BETA, max_iter=2)


def test_an_operator_that_gives_nan_is_an_error_and_no_answer():
    normal, b = system()
    with pytest.raises(TiltkitError):
        conjugate_gradient(lambda v: v @ normal * float("nan"), b, ALPHA, BETA)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_an_error_before_the_operator_is_applied(bad):
    def never(v):
        raise AssertionError

    _, b = system()
    b[-1, -1] = bad
    with pytest.raises(TiltkitError, match="was given values that are NaN or infinite"):
        conjugate_gradient(never, b, ALPHA, BETA)


@pytest.mark.parametrize("interval", [2, 4, 7])
def test_rare_checks_for_convergence_do_not_change_the_solution(interval, monkeypatch):
    normal, b = system()
    b[1] = 0
    expected, needed = conjugate_gradient(lambda v: v @ normal, b, ALPHA, BETA)
    monkeypatch.setattr(cg, "check_interval", lambda _device: interval)
    x, iterations = conjugate_gradient(lambda v: v @ normal, b, ALPHA, BETA)
    assert torch.equal(x, expected)
    assert needed <= iterations < needed + interval
    x, _ = conjugate_gradient(lambda v: v @ normal, b, ALPHA, BETA, max_iter=needed)
    assert torch.equal(x, expected)


def test_few_steps_end_where_the_preconditioner_is_the_inverse() -> None:
    normal, b = system(torch.float32)
    full = ALPHA * torch.eye(normal.shape[0]) + BETA * normal
    products = []

    def product(v: torch.Tensor) -> torch.Tensor:
        products.append(v)
        return v @ full

    x = few_steps(product, b, lambda v: v @ torch.linalg.inv(full), 30)
    assert len(products) < 10
    assert torch.allclose(x, exact(normal, b).float(), rtol=1e-3, atol=1e-6)
