"""Laws of the operator for samples anywhere in k-space, against explicit sums over all pixels."""

from __future__ import annotations

import math
import sys
from itertools import pairwise

import pytest
import torch
from tiltkit_mri.fourier import fft
from tiltkit_mri.non_cartesian import NonCartesianSense
from tiltkit_mri.operators import CartesianSense
from torch import Tensor

from tiltkit.errors import UsageError
from tiltkit.operators.cg import conjugate_gradient

pytest.importorskip("finufft")
SIZES = [(6, 8), (7, 5), (5, 10), (9, 6)]


def random_positions(n: int, seed: int = 0) -> Tensor:
    return (
        torch.rand(2, n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) - 0.5
    )


def radial(size: int, spokes: int) -> Tensor:
    along = (torch.arange(2 * size, dtype=torch.float64) - size) / (2 * size)
    angle = torch.arange(spokes, dtype=torch.float64) * math.pi / spokes
    return (torch.stack([angle.cos(), angle.sin()])[..., None] * along).flatten(1)


def grid(shape: tuple[int, int]) -> Tensor:
    axes = [(torch.arange(n, dtype=torch.float64) - n // 2) / n for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1)


def white(*shape: int, dtype: torch.dtype = torch.complex128, seed: int = 1) -> Tensor:
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def make(
    shape: tuple[int, int], dtype: torch.dtype = torch.complex128, coils: int = 3, samples: int = 70
) -> NonCartesianSense:
    return NonCartesianSense(white(coils, *shape, dtype=dtype), random_positions(samples))


def dense(operator: NonCartesianSense) -> Tensor:
    """Matrix (coil and sample, pixel), complex128, by its definition."""
    _, ny, nx = operator.maps.shape
    kr, kc = operator.trajectory.double()
    r = torch.arange(ny, dtype=torch.float64) - ny // 2
    c = torch.arange(nx, dtype=torch.float64) - nx // 2
    phase = kr[:, None, None] * r[:, None] + kc[:, None, None] * c
    waves = torch.exp(-2j * math.pi * phase) / math.sqrt(ny * nx)
    return (waves * operator.maps[:, None]).flatten(0, 1).flatten(1)


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.complex64, 1e-4), (torch.complex128, 1e-9)]
)
def test_samples_are_explicit_sums_over_pixels(
    shape: tuple[int, int], dtype: torch.dtype, tolerance: float
) -> None:
    operator = make(shape, dtype)
    x = white(2, 2, *shape, dtype=dtype.to_real())
    y = torch.complex(x[:, 0], x[:, 1]).to(torch.complex128).flatten(1) @ dense(operator).T
    assert (operator.forward(x).flatten(1) - y).norm() <= tolerance * y.norm()


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.complex64, 1e-5), (torch.complex128, 1e-12)]
)
def test_the_adjoint_is_exact(shape: tuple[int, int], dtype: torch.dtype, tolerance: float) -> None:
    operator = make(shape, dtype)
    x = white(3, 2, *shape, dtype=dtype.to_real())
    ax = operator.forward(x)
    y = white(*ax.shape, dtype=dtype, seed=2)
    left, right = (ax.conj() * y).real.sum(), (x * operator.adjoint(y)).sum()
    assert abs(left - right) <= tolerance * ax.norm() * y.norm()


@pytest.mark.parametrize("shape", SIZES)
def test_the_toeplitz_embedding_is_the_adjoint_of_forward(shape: tuple[int, int]) -> None:
    operator, x = make(shape), white(2, 2, *shape, dtype=torch.float64)
    expected = operator.adjoint(operator.forward(x))
    torch.testing.assert_close(operator.normal(x), expected, rtol=1e-8, atol=1e-8)


def test_all_points_of_a_grid_are_the_unitary_fourier_transform() -> None:
    shape = (8, 7)
    maps = white(3, *shape)
    operator = NonCartesianSense(maps, grid(shape))
    cartesian = CartesianSense(maps, torch.ones(7, dtype=torch.bool))
    x = white(2, 2, *shape, dtype=torch.float64)
    image = torch.complex(x[:, 0], x[:, 1])
    expected = fft(maps * image[:, None])
    torch.testing.assert_close(operator.forward(x).view_as(expected), expected)
    torch.testing.assert_close(operator.normal(x), cartesian.normal(x))
    weights = NonCartesianSense(maps.cfloat(), grid(shape)).density_compensation()
    torch.testing.assert_close(weights, torch.ones(56), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", SIZES)
def test_solve_is_the_dense_solve(shape: tuple[int, int]) -> None:
    operator, b = make(shape), white(2, 2, *shape, dtype=torch.float64)
    matrix = dense(operator)
    system = 0.3 * torch.eye(matrix.shape[1]) + 0.7 * matrix.mH @ matrix
    right = torch.complex(b[:, 0], b[:, 1]).flatten(1)
    expected = torch.view_as_real(torch.linalg.solve(system, right.T).T.reshape(-1, *shape))
    found = operator.solve(0.3, 0.7, b)
    assert (found - expected.movedim(-1, 1)).norm() <= 1e-4 * expected.norm()


def test_every_image_of_a_batch_is_treated_alone() -> None:
    operator, x = make((6, 8)), white(3, 2, 6, 8, dtype=torch.float64)
    for call in (operator.forward, operator.normal, lambda b: operator.solve(1.0, 2.0, b)):
        alone = torch.cat([call(item[None]) for item in x])
        torch.testing.assert_close(call(x), alone)


def scan(coils: int, positions: Tensor, size: int = 32) -> NonCartesianSense:
    """Smooth maps whose squares sum to 1."""
    y, x = torch.meshgrid(*2 * [torch.linspace(-1, 1, size, dtype=torch.float64)], indexing="ij")
    angle = 2 * math.pi * torch.arange(coils)[:, None, None] / coils
    maps = torch.exp(-(y - angle.sin()).square() - (x - angle.cos()).square())
    maps = torch.polar(maps / maps.square().sum(0).sqrt(), angle + x * y)
    return NonCartesianSense(maps, positions)


@pytest.mark.parametrize("coils", [1, 4])
@pytest.mark.parametrize("spokes", [20, 50])
def test_the_preconditioner_saves_a_third_of_the_iterations_of_spokes(
    coils: int, spokes: int
) -> None:
    operator = scan(coils, radial(32, spokes))
    b = operator.adjoint(white(1, coils, operator.trajectory.shape[1]))
    plain, preconditioned = (
        conjugate_gradient(operator.normal, b, 0.03, 1.0, precondition=inverse)[1]
        for inverse in (None, operator.preconditioner(0.03, 1.0))
    )
    assert preconditioned <= 2 / 3 * plain


@pytest.mark.parametrize("varying", [False, True])
@pytest.mark.parametrize("v", [0.01, 1.0])
def test_the_data_preconditioner_nearly_inverts_the_covariance_of_data(
    v: float, varying: bool
) -> None:
    operator = scan(3, radial(16, 9), 16)
    frequency = torch.fft.fftfreq(16, dtype=torch.float64).abs()
    c = 0.5 / (1 + 4 * (frequency[:, None] + frequency)) if varying else torch.tensor(0.5).double()
    inverse = operator.data_preconditioner(torch.full((1, 1, 1), v).double(), c)
    assert inverse is not None
    x, noise = white(2, 16, 16), white(2, 3, 288, seed=3) * math.sqrt(2 * v)
    shaped = torch.fft.ifft2(torch.fft.fft2(x) * c.sqrt())
    r = operator.forward(torch.stack([shaped.real, shaped.imag], 1)) + noise
    back = operator.adjoint(inverse(r))
    spectrum = torch.fft.fft2(torch.complex(back[:, 0], back[:, 1])) * c
    image = torch.fft.ifft2(spectrum)
    again = v * inverse(r) + operator.forward(torch.stack([image.real, image.imag], 1))
    assert (again - r).norm() <= 0.03 * r.norm()


@pytest.mark.parametrize("v", [1e-3, 1e-1])
def test_solves_in_data_space_take_few_iterations(v: float) -> None:
    operator = scan(3, radial(24, 13), 24)
    r = operator.forward(white(2, 2, 24, 24, dtype=torch.float64))
    r += math.sqrt(2 * v) * white(*r.shape)
    inverse = operator.data_preconditioner(torch.full_like(r.real, v), 1.0)
    found, iterations = conjugate_gradient(
        lambda d: operator.forward(operator.adjoint(d)), r, v, 1.0, precondition=inverse, rtol=1e-5
    )
    assert iterations <= 8
    again = v * found + operator.forward(operator.adjoint(found))
    assert (again - r).norm() <= 1e-4 * r.norm()


def test_unequal_noise_has_no_data_preconditioner() -> None:
    operator = make((6, 8), samples=5)
    assert operator.data_preconditioner(torch.arange(1, 16).view(1, 3, 5).double(), 1.0) is None


def test_density_weights_fall_towards_the_centre_of_spokes() -> None:
    positions = radial(24, 60)
    one_coil = torch.ones(1, 24, 24, dtype=torch.complex64)
    weights = NonCartesianSense(one_coil, positions).density_compensation()
    radius = positions.norm(dim=0)
    assert (weights > 0).all()
    rings = [weights[(radius >= a) & (radius < b)].mean() for a, b in pairwise((0, 0.1, 0.25, 0.4))]
    assert rings[0] < rings[1] < rings[2]


def test_wrong_maps_and_trajectories_are_refused() -> None:
    maps = torch.ones(2, 4, 6, dtype=torch.complex64)
    good = random_positions(10)
    with pytest.raises(UsageError, match="maps have shape"):
        NonCartesianSense(maps.real, good)
    with pytest.raises(UsageError, match="trajectory has shape"):
        NonCartesianSense(maps, good.T)
    with pytest.raises(UsageError, match="reaches 2"):
        NonCartesianSense(maps, 2 * good / good.abs().max())
    with pytest.raises(UsageError, match="reaches nan"):
        NonCartesianSense(maps, good * math.nan)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "finufft", None)
    with pytest.raises(UsageError, match="finufft") as caught:
        make((6, 8)).forward(torch.zeros(1, 2, 6, 8, dtype=torch.float64))
    assert "pip install finufft" in str(caught.value.hint)


@pytest.mark.gpu
def test_a_gpu_gives_the_same_samples() -> None:
    pytest.importorskip("cufinufft")
    operator = make((16, 12), torch.complex64)
    other = NonCartesianSense(operator.maps.cuda(), operator.trajectory.cuda())
    x = white(2, 2, 16, 12, dtype=torch.float32)
    y = operator.forward(x)
    assert (other.forward(x.cuda()).cpu() - y).norm() <= 1e-4 * y.norm()
    back = operator.adjoint(y)
    assert (other.adjoint(y.cuda()).cpu() - back).norm() <= 1e-4 * back.norm()
    assert (other.normal(x.cuda()).cpu() - back).norm() <= 1e-4 * back.norm()
