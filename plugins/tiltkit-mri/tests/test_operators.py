"""Laws of the forward operators, and the same operators of another library."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from tiltkit_mri.operators import CartesianSense, MaskedFourier
from torch import Tensor

from tiltkit.errors import TiltkitError

SIZES = [(6, 8), (7, 5), (5, 9), (9, 6)]
OPERATORS = ["sense", "one_coil_sense", "folded_sense", "fourier"]


def make(
    kind: str, shape: tuple[int, int], dtype: torch.dtype = torch.complex128
) -> CartesianSense | MaskedFourier:
    generator = torch.Generator().manual_seed(7)
    ny, nx = shape
    if kind == "fourier":
        return MaskedFourier(torch.rand(shape, generator=generator) < 0.5)
    n_coils = 1 if kind == "one_coil_sense" else 3
    n_columns = nx - 2 if kind == "folded_sense" else nx
    columns = torch.zeros(n_columns, dtype=torch.bool)
    columns[::2] = True
    at = (torch.arange(nx) + 1) % n_columns if kind == "folded_sense" else None
    maps = torch.randn(n_coils, ny, nx, dtype=dtype, generator=generator)
    return CartesianSense(maps, columns, at)


def images(shape: tuple[int, int], n: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(n, 2, *shape, dtype=dtype, generator=torch.Generator().manual_seed(n))


def dense(operator: CartesianSense | MaskedFourier, shape: tuple[int, int]) -> Tensor:
    """Real matrix (data, pixel) of an operator, one unit image at a time."""
    unit = torch.eye(2 * shape[0] * shape[1], dtype=torch.float64).view(-1, 2, *shape)
    return torch.view_as_real(operator.forward(unit)).flatten(1).T


@pytest.mark.parametrize("kind", OPERATORS)
@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_the_adjoint_is_exact(
    kind: str, shape: tuple[int, int], dtype: torch.dtype, tolerance: float
) -> None:
    operator = make(kind, shape, dtype.to_complex())
    x = images(shape, 3, dtype)
    y = torch.randn_like(operator.forward(x))
    left = torch.view_as_real(operator.forward(x).conj() * y)[..., 0].sum()
    right = (x * operator.adjoint(y)).sum()
    scale = operator.forward(x).abs().square().sum().sqrt() * y.abs().square().sum().sqrt()
    assert abs(left - right) <= tolerance * scale


@pytest.mark.parametrize("kind", OPERATORS)
@pytest.mark.parametrize("shape", SIZES)
def test_normal_is_the_adjoint_of_forward(kind: str, shape: tuple[int, int]) -> None:
    operator, x = make(kind, shape), images(shape, 2)
    torch.testing.assert_close(operator.normal(x), operator.adjoint(operator.forward(x)))


@pytest.mark.parametrize("kind", OPERATORS)
@pytest.mark.parametrize("shape", SIZES)
def test_solve_is_the_dense_solve(kind: str, shape: tuple[int, int]) -> None:
    operator, b = make(kind, shape), images(shape, 2)
    matrix = dense(operator, shape)
    system = 0.3 * torch.eye(matrix.shape[1], dtype=torch.float64) + 0.7 * matrix.T @ matrix
    expected = torch.linalg.solve(system, b.flatten(1).T).T.view_as(b)
    torch.testing.assert_close(operator.solve(0.3, 0.7, b), expected)


@pytest.mark.parametrize("kind", OPERATORS)
@pytest.mark.parametrize("shape", SIZES)
def test_the_spectral_transform_is_unitary(kind: str, shape: tuple[int, int]) -> None:
    operator, x = make(kind, shape), images(shape, 2)
    coordinates = operator.to_spectral(x)
    torch.testing.assert_close(operator.from_spectral(coordinates), x)
    torch.testing.assert_close(coordinates.abs().square().sum(), x.square().sum())
    assert (operator.eigenvalues >= 0).all()


@pytest.mark.parametrize("kind", OPERATORS)
def test_white_coordinates_look_like_those_of_white_images(kind: str) -> None:
    operator, xi = make(kind, (7, 5)), images((7, 5), 2000)
    white = torch.view_as_real(operator.spectral_white(xi))
    assert white.shape == torch.view_as_real(operator.to_spectral(xi)).shape
    covariance = torch.cov(white.flatten(1).T)
    torch.testing.assert_close(covariance, torch.eye(70, dtype=torch.float64), atol=0.15, rtol=0)


@pytest.mark.parametrize("kind", OPERATORS)
def test_every_image_of_a_batch_is_treated_alone(kind: str) -> None:
    operator, x = make(kind, (6, 8)), images((6, 8), 3)
    alone = torch.cat([operator.forward(item[None]) for item in x])
    torch.testing.assert_close(operator.forward(x), alone)
    alone = torch.cat([operator.solve(1.0, 2.0, item[None]) for item in x])
    torch.testing.assert_close(operator.solve(1.0, 2.0, x), alone)


def test_wrong_maps_and_masks_are_refused() -> None:
    maps = torch.ones(2, 4, 6, dtype=torch.complex64)
    with pytest.raises(TiltkitError, match="maps have shape"):
        CartesianSense(maps.real, torch.ones(6, dtype=torch.bool))
    with pytest.raises(TiltkitError, match="5 of 5 columns"):
        CartesianSense(maps, torch.ones(5, dtype=torch.bool))
    with pytest.raises(TiltkitError, match="0 of 6 columns"):
        CartesianSense(maps, torch.zeros(6, dtype=torch.bool))
    with pytest.raises(TiltkitError, match="mask has shape"):
        MaskedFourier(torch.ones(4, 6))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("shape", [(12, 10), (11, 7)])
@pytest.mark.parametrize("n_coils", [1, 4])
def test_deepinv_agrees(shape: tuple[int, int], n_coils: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its many imports
        physics = pytest.importorskip("deepinv.physics")
    generator = torch.Generator().manual_seed(3)
    columns = torch.rand(shape[1], generator=generator) < 0.5
    columns[0] = True
    mask = columns.float().expand(1, 2, *shape)
    x = images(shape, 2, torch.float32)
    operator: CartesianSense | MaskedFourier
    if n_coils == 1:
        theirs = physics.MRI(mask=mask, img_size=(2, *shape))
        operator = MaskedFourier(columns.expand(shape))
        ours = torch.zeros(2, *shape, dtype=torch.complex64)
        ours[:, columns.expand(shape)] = operator.forward(x)
    else:
        maps = torch.randn(n_coils, *shape, dtype=torch.complex64, generator=generator)
        theirs = physics.MultiCoilMRI(mask=mask, coil_maps=maps[None], img_size=(2, *shape))
        operator = CartesianSense(maps, columns)
        ours = torch.zeros(2, n_coils, *shape, dtype=torch.complex64)
        ours[..., columns] = operator.forward(x)
    y = theirs.A(x)
    full = torch.complex(y[:, 0], y[:, 1])
    assert (ours - full).norm() <= 1e-5 * full.norm()
    back, back_theirs = operator.adjoint(operator.forward(x)), theirs.A_adjoint(y)
    assert (back - back_theirs).norm() <= 1e-5 * back.norm()


def test_an_image_twice_as_wide_as_the_field_of_view_gives_every_second_sample() -> None:
    generator = torch.Generator().manual_seed(3)
    ny, nx = 6, 10
    maps = torch.randn(3, ny, 2 * nx, dtype=torch.complex128, generator=generator)
    x = images((ny, 2 * nx), 2)
    at = (torch.arange(2 * nx) - nx + nx // 2) % nx
    folded = CartesianSense(maps, torch.ones(nx, dtype=torch.bool), at).forward(x)
    whole = CartesianSense(maps, torch.ones(2 * nx, dtype=torch.bool)).forward(x)
    torch.testing.assert_close(folded, math.sqrt(2) * whole[..., nx % 2 :: 2])
