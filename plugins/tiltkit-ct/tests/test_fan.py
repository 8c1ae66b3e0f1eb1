"""Laws of the fan-beam projector."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tiltkit_ct.fan import FanBeam
from tiltkit_ct.parallel import ParallelBeam
from torch import Tensor

from tiltkit.errors import TiltkitError
from tiltkit.operators.cg import conjugate_gradient

ANGLES = torch.tensor([0.0, 0.3, math.pi / 4, math.pi / 2, 2.1, math.pi, 4.0, -1.3])
NEAR = {"source_distance": 20.0, "detector_distance": 15.0}


def noise(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3), dtype=dtype)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("axis", [None, 3.2, -4.0])
@pytest.mark.parametrize("matrix_bytes", [2**30, 0])
def test_the_adjoint_is_exact(
    dtype: torch.dtype, tolerance: float, axis: float | None, matrix_bytes: int
) -> None:
    operator = FanBeam(ANGLES.to(dtype), (9, 12), 16, axis=axis, matrix_bytes=matrix_bytes, **NEAR)
    x, y = noise(3, 1, 9, 12, dtype=dtype), noise(3, len(ANGLES), 16, dtype=dtype)
    there = operator.forward(x)
    left, right = (there.double() * y).sum(), (x.double() * operator.adjoint(y)).sum()
    assert there.any()
    assert abs(left - right) <= tolerance * there.norm() * y.norm()


@pytest.mark.parametrize("shape", [(32, 32), (33, 33)])
@pytest.mark.parametrize("axis", [None, 61.0])
def test_a_point_projects_onto_its_geometric_place(
    shape: tuple[int, int], axis: float | None
) -> None:
    angles = torch.linspace(0, 2 * math.pi, 25, dtype=torch.float64)
    operator = FanBeam(angles, shape, 120, axis=axis, pixel=0.5, pitch=0.5, **NEAR)
    point = torch.zeros(1, 1, *shape, dtype=torch.float64)
    i, j = 9, 20
    point[0, 0, i, j] = 1
    rows = operator.forward(point)[0]
    centre = (rows @ torch.arange(120, dtype=torch.float64)) / rows.sum(1)
    x, y = 0.5 * (j - (shape[1] - 1) / 2), 0.5 * (i - (shape[0] - 1) / 2)
    # Source and detector in the plane, and where the ray through the point meets the detector.
    middle = 59.5 if axis is None else axis
    for angle, projected in zip(angles.tolist(), centre.tolist(), strict=True):
        source = torch.tensor([20 * math.sin(angle), -20 * math.cos(angle)])
        along = torch.tensor([-math.sin(angle), math.cos(angle)])
        column = torch.tensor([math.cos(angle), math.sin(angle)])
        ray = torch.tensor([x, y]) - source
        hit = source + ray * 35 / (ray @ along)
        assert abs(projected - middle - float(hit @ column) / 0.5) < 0.1


def test_a_disc_has_the_line_integrals_of_its_chords() -> None:
    n, pixel, radius = 161, 0.1, 6.0
    line = (torch.arange(8 * n, dtype=torch.float64) - (8 * n - 1) / 2) * pixel / 8
    disc = (torch.hypot(line[:, None], line) < radius).double().view(n, 8, n, 8).mean((1, 3))
    operator = FanBeam(ANGLES.double(), (n, n), 201, pixel=pixel, **NEAR)
    rows = operator.forward(disc[None, None])[0]
    s = (torch.arange(201, dtype=torch.float64) - 100) * operator.pitch
    distance2 = 20**2 * s.square() / (s.square() + 35**2)  # of the ray from the middle
    expected = 2 * (radius**2 - distance2).clamp_min(0).sqrt()
    assert (rows - expected).abs().mean() < 0.002 * 2 * radius
    assert (rows - expected)[:, distance2 < 0.9 * radius**2].abs().max() < 0.01 * 2 * radius


def test_a_source_far_away_is_a_parallel_beam() -> None:
    angles = torch.linspace(0, 6, 17, dtype=torch.float64)
    fan = FanBeam(angles, (21, 30), 40, axis=17.3, source_distance=1e8, detector_distance=10.0)
    parallel = ParallelBeam(angles, (21, 30), 40, axis=17.3)
    x = noise(1, 1, 21, 30)
    assert (fan.forward(x) - parallel.forward(x)).norm() < 1e-5 * parallel.forward(x).norm()


def test_every_item_is_solved() -> None:
    operator, b = FanBeam(ANGLES.double(), (9, 12), 16, **NEAR), noise(3, 1, 9, 12)
    x = operator.solve(0.5, 2.0, b)
    assert (0.5 * x + 2 * operator.normal(x) - b).norm() < 1e-4 * b.norm()


def test_wrong_distances_are_refused() -> None:
    with pytest.raises(TiltkitError, match=r"corners of the image are 5\.65"):
        FanBeam(ANGLES, (8, 8), 8, source_distance=5.0, detector_distance=1.0)
    with pytest.raises(TiltkitError, match="detector is -1"):
        FanBeam(ANGLES, (8, 8), 8, source_distance=50.0, detector_distance=-1.0)


def test_the_preconditioner_of_a_full_turn_saves_iterations() -> None:
    angles = torch.arange(40, dtype=torch.float64) * 2 * math.pi / 40
    operator = FanBeam(angles, (48, 48), 50, axis=23.7, source_distance=60.0, detector_distance=9.0)
    c, r = 10.0, noise(1, 40, 50)
    r = r + c**0.5 * operator.forward(noise(1, 1, 48, 48))
    iterations = []
    for inverse in (operator.data_preconditioner(torch.ones_like(r), c), None):
        limits: dict[str, Any] = {"rtol": 1e-12, "max_iter": 1000, "energy": 3e-3 * r.numel()}
        _, count = conjugate_gradient(
            lambda u: operator.forward(operator.adjoint(u)), r, 1.0, c, precondition=inverse,
            **limits,
        )  # fmt: skip
        iterations.append(count)
    assert 4 * iterations[0] < iterations[1]
    a, b = noise(2, 8, 40, 50)
    inverse = operator.data_preconditioner(torch.ones_like(r), c)
    assert inverse is not None
    torch.testing.assert_close((inverse(a) * b).sum(), (a * inverse(b)).sum())
    assert ((inverse(a) * a).flatten(1).sum(1) > 0).all()


def test_less_than_a_full_turn_is_not_preconditioned() -> None:
    operator = FanBeam(ANGLES[:5].double(), (9, 9), 12, **NEAR)
    assert operator.data_preconditioner(torch.ones(1, 5, 12).double(), 1.0) is None
