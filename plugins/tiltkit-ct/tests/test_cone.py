"""Laws of the cone-beam projector."""

from __future__ import annotations

import math

import pytest
import torch
from tiltkit_ct.cone import ConeBeam
from tiltkit_ct.fan import FanBeam
from torch import Tensor

ANGLES = torch.tensor([0.0, 0.3, math.pi / 4, math.pi / 2, 2.1, math.pi, 4.0, -1.3])
NEAR = {"source_distance": 30.0, "detector_distance": 15.0}


def noise(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3), dtype=dtype)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("changes", [{}, {"axis": 3.2, "level": -2.0}, {"pitch": 0.4}])
def test_the_adjoint_is_exact(
    dtype: torch.dtype, tolerance: float, changes: dict[str, float]
) -> None:
    operator = ConeBeam(ANGLES.to(dtype), (7, 9, 12), 11, 16, **NEAR, **changes)
    x, y = noise(3, 1, 7, 9, 12, dtype=dtype), noise(3, len(ANGLES), 11, 16, dtype=dtype)
    there = operator.forward(x)
    left, right = (there.double() * y).sum(), (x.double() * operator.adjoint(y)).sum()
    assert there.any()
    assert abs(left - right) <= tolerance * there.norm() * y.norm()


def test_blocks_of_any_size_kept_or_not_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    x = noise(2, 1, 7, 9, 12)
    whole = ConeBeam(ANGLES.double(), (7, 9, 12), 11, 16, **NEAR).forward(x)
    monkeypatch.setattr("tiltkit_ct.cone._AT_ONCE", 100)
    operator = ConeBeam(ANGLES.double(), (7, 9, 12), 11, 16, memory_bytes=0, **NEAR)
    torch.testing.assert_close(operator.forward(x), whole)
    kept = ConeBeam(ANGLES.double(), (7, 9, 12), 11, 16, **NEAR).adjoint(whole)
    torch.testing.assert_close(operator.adjoint(whole), kept)


@pytest.mark.parametrize("shape", [(16, 20, 20), (17, 21, 21)])
@pytest.mark.parametrize(("level", "plane"), [(None, None), (40.0, None), (44.0, 6.0)])
def test_a_point_projects_onto_its_geometric_place(
    shape: tuple[int, int, int], level: float | None, plane: float | None
) -> None:
    angles = torch.linspace(0, 2 * math.pi, 13, dtype=torch.float64)
    place = {"level": level, "plane": plane, "pixel": 0.5, "pitch": 0.25}
    operator = ConeBeam(angles, shape, 90, 90, **place, **NEAR)
    point = torch.zeros(1, 1, *shape, dtype=torch.float64)
    k, i, j = 3, 9, 16
    point[0, 0, k, i, j] = 1
    frames = operator.forward(point)[0]
    total = frames.sum((1, 2))
    steps = torch.arange(90, dtype=torch.float64)
    row = (frames.sum(2) @ steps) / total
    column = (frames.sum(1) @ steps) / total
    z, y, x = (0.5 * (m - (n - 1) / 2) for m, n in zip((k, i, j), shape, strict=True))
    z = z if plane is None else 0.5 * (k - plane)
    middle = 44.5 if level is None else level
    for angle, r, c in zip(angles.tolist(), row.tolist(), column.tolist(), strict=True):
        source = torch.tensor([30 * math.sin(angle), -30 * math.cos(angle), 0.0])
        along = torch.tensor([-math.sin(angle), math.cos(angle), 0.0])
        across = torch.tensor([math.cos(angle), math.sin(angle), 0.0])
        ray = torch.tensor([x, y, z]) - source
        hit = source + ray * 45 / (ray @ along)
        assert abs(c - 44.5 - float(hit @ across) / 0.25) < 0.1
        assert abs(r - middle - float(hit[2]) / 0.25) < 0.1


def test_a_ball_has_the_line_integrals_of_its_chords() -> None:
    n, pixel, radius, fine = 61, 0.2, 4.5, 3
    line = (torch.arange(fine * n, dtype=torch.float64) - (fine * n - 1) / 2) * pixel / fine
    square = line.square()
    ball = (square[:, None, None] + square[:, None] + square < radius**2).double()
    ball = ball.view(n, fine, n, fine, n, fine).mean((1, 3, 5))
    operator = ConeBeam(ANGLES[:4].double(), (n, n, n), 81, 81, pixel=pixel, **NEAR)
    frames = operator.forward(ball[None, None])[0]
    s = (torch.arange(81, dtype=torch.float64) - 40) * pixel * 1.5
    off = s[:, None].square() + s.square()  # of the detector pixel from its middle
    distance2 = 30**2 * off / (off + 45**2)  # of the ray from the middle of the ball
    expected = 2 * (radius**2 - distance2).clamp_min(0).sqrt()
    assert (frames - expected).abs().mean() < 0.003 * 2 * radius
    assert (frames - expected)[:, distance2 < 0.7 * radius**2].abs().max() < 0.01 * 2 * radius


def test_level_with_the_source_it_is_a_fan_beam() -> None:
    """The volume is constant along the axis."""
    plane = noise(1, 1, 9, 12)
    cone = ConeBeam(ANGLES.double(), (15, 9, 12), 5, 16, **NEAR)
    fan = FanBeam(ANGLES.double(), (9, 12), 16, **NEAR)
    middle = cone.forward(plane[:, :, None].expand(-1, -1, 15, -1, -1))[:, :, 2]
    torch.testing.assert_close(middle, fan.forward(plane))


def test_every_item_is_solved() -> None:
    operator, b = ConeBeam(ANGLES.double(), (5, 9, 12), 7, 16, **NEAR), noise(2, 1, 5, 9, 12)
    x = operator.solve(0.5, 2.0, b)
    assert (0.5 * x + 2 * operator.normal(x) - b).norm() < 1e-4 * b.norm()
