"""Laws of the operator for any points of several coils, and the same operator of deepinv."""

from __future__ import annotations

import warnings

import pytest
import torch
from tiltkit_mri import sense
from tiltkit_mri.operators import CartesianSense
from tiltkit_mri.sense import MaskedSense
from torch import Tensor

from tiltkit.errors import TiltkitError

SIZES = [(6, 8), (7, 5), (5, 9)]


def make(shape: tuple[int, int], dtype: torch.dtype = torch.complex128) -> MaskedSense:
    generator = torch.Generator().manual_seed(7)
    maps = torch.randn(3, *shape, dtype=dtype, generator=generator)
    return MaskedSense(maps, torch.rand(shape, generator=generator) < 0.5)


def images(shape: tuple[int, int], n: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(n, 2, *shape, dtype=dtype, generator=torch.Generator().manual_seed(n))


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_the_adjoint_is_exact(shape: tuple[int, int], dtype: torch.dtype, tolerance: float) -> None:
    operator = make(shape, dtype.to_complex())
    x = images(shape, 3, dtype)
    ax = operator.forward(x)
    y = torch.randn(ax.shape, dtype=ax.dtype, generator=torch.Generator().manual_seed(1))
    left, right = (ax.conj() * y).real.sum(), (x * operator.adjoint(y)).sum()
    assert abs(left - right) <= tolerance * ax.norm() * y.norm()


@pytest.mark.parametrize("shape", SIZES)
def test_normal_and_solve_are_those_of_the_dense_matrix(shape: tuple[int, int]) -> None:
    operator, x = make(shape), images(shape, 2)
    unit = torch.eye(2 * shape[0] * shape[1], dtype=torch.float64).view(-1, 2, *shape)
    matrix = torch.view_as_real(operator.forward(unit)).flatten(1).T
    normal = matrix.T @ matrix
    torch.testing.assert_close(operator.normal(x), (x.flatten(1) @ normal).view_as(x))
    system = 0.3 * torch.eye(len(normal), dtype=torch.float64) + 0.7 * normal
    expected = torch.linalg.solve(system, x.flatten(1).T).T.view_as(x)
    torch.testing.assert_close(operator.solve(0.3, 0.7, x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("folded", [0, 2])
def test_on_whole_columns_it_is_the_operator_for_columns(
    shape: tuple[int, int], folded: int
) -> None:
    columns = torch.arange(shape[1] - folded) % 3 != 1
    at = (torch.arange(shape[1]) + 1) % len(columns) if folded else None
    maps, x = make(shape).maps, images(shape, 2)
    operator = MaskedSense(maps, columns.expand(shape[0], -1), at)
    other = CartesianSense(maps, columns, at)
    y = other.forward(x)
    torch.testing.assert_close(operator.forward(x), y.flatten(2))
    torch.testing.assert_close(operator.adjoint(y.flatten(2)), other.adjoint(y))


def test_the_size_of_blocks_of_coils_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    operator, x = make((7, 5)), images((7, 5), 3)
    y = operator.forward(x)
    back = operator.adjoint(y)
    monkeypatch.setattr(sense, "_BLOCK_BYTES", 1)
    torch.testing.assert_close(operator.forward(x), y)
    torch.testing.assert_close(operator.adjoint(y), back)


def test_every_image_of_a_batch_is_treated_alone() -> None:
    operator, x = make((6, 8)), images((6, 8), 3)
    alone = torch.cat([operator.solve(1.0, 2.0, item[None]) for item in x])
    torch.testing.assert_close(operator.solve(1.0, 2.0, x), alone)


def test_wrong_maps_and_masks_are_refused() -> None:
    maps, mask = torch.ones(2, 4, 6, dtype=torch.complex64), torch.ones(4, 6, dtype=torch.bool)
    with pytest.raises(TiltkitError, match="maps have shape"):
        MaskedSense(maps.real, mask)
    with pytest.raises(TiltkitError, match="mask has shape"):
        MaskedSense(maps, mask[:3])
    with pytest.raises(TiltkitError, match="0 points"):
        MaskedSense(maps, ~mask)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("shape", [(12, 10), (11, 7)])
def test_deepinv_agrees(shape: tuple[int, int]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its many imports
        physics = pytest.importorskip("deepinv.physics")
    operator, x = make(shape, torch.complex64), images(shape, 2, torch.float32)
    mask = operator.mask.float().expand(1, 2, *shape)
    theirs = physics.MultiCoilMRI(mask=mask, coil_maps=operator.maps[None], img_size=(2, *shape))
    y = theirs.A(x)
    full, ours = torch.complex(y[:, 0], y[:, 1]), operator.forward(x)
    assert (ours - full[..., operator.mask]).norm() <= 1e-5 * full.norm()
    back, back_theirs = operator.adjoint(ours), theirs.A_adjoint(y)
    assert (back - back_theirs).norm() <= 1e-5 * back.norm()
