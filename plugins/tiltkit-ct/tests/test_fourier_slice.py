"""Projections by the Fourier slice theorem: closed forms, and exact strip integrals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tiltkit_ct.parallel import ParallelBeam
from torch import Tensor

from tiltkit.operators.adjoint import check_adjoint

ANGLES = torch.linspace(0, 3.3, 23, dtype=torch.float64)
GEOMETRIES = [
    {"shape": (32, 32), "n_columns": 32},
    {"shape": (31, 40), "n_columns": 57, "axis": 25.3, "pixel": 0.7, "pitch": 0.7},
    {"shape": (40, 33), "n_columns": 30, "axis": -3.0, "pixel": 0.4, "pitch": 0.8},
    {"shape": (24, 24), "n_columns": 70, "pixel": 1.0, "pitch": 0.5},
]
EVERY = pytest.mark.parametrize("geometry", GEOMETRIES)


def both(geometry: dict, dtype: torch.dtype = torch.float64) -> tuple[ParallelBeam, ParallelBeam]:
    """A scan by the Fourier slice theorem, and the same one with matrices."""
    angles = ANGLES.to(dtype)
    return ParallelBeam(angles, **geometry, matrix_bytes=0), ParallelBeam(angles, **geometry)


def blobs(shape: tuple[int, int], pixel: float) -> tuple[Tensor, list[tuple[float, ...]]]:
    """Gaussians inside the image, wider than two pixels: the image, and x, y, width, height."""
    side = pixel * min(shape)
    places = [
        (0.1 * side, -0.2 * side, 0.08 * side, 1.0),
        (-0.15 * side, 0.1 * side, 0.1 * side, 2),
    ]
    y, x = (pixel * (torch.arange(n).double() - (n - 1) / 2) for n in shape)
    image = sum(
        h * torch.exp(-((x - u) ** 2 + (y[:, None] - v) ** 2) / (2 * w**2)) for u, v, w, h in places
    )
    return image, places


@EVERY
def test_gaussians_have_their_line_integrals(geometry: dict) -> None:
    ours, exact = both(geometry)
    image, places = blobs(ours.shape, ours.pixel)
    s = (torch.arange(ours.n_columns) - ours.axis) * ours.pitch
    truth = torch.zeros(len(ANGLES), ours.n_columns, dtype=torch.float64)
    for u, v, w, h in places:
        centre = u * ANGLES.cos() + v * ANGLES.sin()
        truth += (
            h * w * math.sqrt(2 * math.pi) * torch.exp(-((s - centre[:, None]) ** 2) / (2 * w**2))
        )
    error, theirs = ((one.forward(image[None, None])[0] - truth).norm() for one in (ours, exact))
    assert error < 0.04 * truth.norm()  # pixels and strips blur the Gaussians
    assert error < 1.1 * theirs


@EVERY
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-13)])
def test_the_adjoint_is_exact(geometry: dict, dtype: torch.dtype, tolerance: float) -> None:
    operator, _ = both(geometry, dtype)
    rng = np.random.default_rng(2)
    x = torch.from_numpy(rng.standard_normal((2, 1, *operator.shape))).to(dtype)
    y = torch.from_numpy(rng.standard_normal((2, len(ANGLES), operator.n_columns))).to(dtype)
    there, back = operator.forward(x), operator.adjoint(y)
    assert there.shape == y.shape
    assert back.shape == x.shape
    left, right = (there.double() * y).sum(), (x.double() * back).sum()
    assert abs(left - right) <= tolerance * there.norm() * y.norm()
    check_adjoint(operator, x[:1], there[:1])


@EVERY
def test_white_noise_differs_from_strip_integrals_by_what_is_beyond_the_band(
    geometry: dict,
) -> None:
    ours, exact = both(geometry)
    x = torch.randn(1, 1, *ours.shape, generator=torch.Generator().manual_seed(0)).double()
    there = exact.forward(x)
    assert (ours.forward(x) - there).norm() < 0.15 * there.norm()
    y = torch.randn(there.shape, generator=torch.Generator().manual_seed(1)).double()
    back = exact.adjoint(y)
    assert (ours.adjoint(y) - back).norm() < 0.15 * back.norm()


def test_a_point_beyond_the_detector_leaves_next_to_nothing_on_it() -> None:
    operator = ParallelBeam(ANGLES, (40, 40), 12, axis=5.5, matrix_bytes=0)
    corner = torch.zeros(1, 1, 40, 40, dtype=torch.float64)
    corner[..., 1, 1] = 1
    rows = operator.forward(corner)[0]
    inside = (19 * (ANGLES.cos() + ANGLES.sin())).abs() < 8
    assert rows[~inside].abs().max() < 0.03 * rows.abs().max()


def test_several_images_are_projected_as_each_by_itself() -> None:
    operator, _ = both(GEOMETRIES[0])
    x = torch.randn(3, 1, *operator.shape, generator=torch.Generator().manual_seed(0)).double()
    together = operator.forward(x)
    torch.testing.assert_close(together, torch.cat([operator.forward(one[None]) for one in x]))
    torch.testing.assert_close(
        operator.adjoint(together), torch.cat([operator.adjoint(one[None]) for one in together])
    )


def test_matrices_are_kept_for_small_scans_only() -> None:
    small = ParallelBeam(ANGLES, (16, 16), 16)
    large = ParallelBeam(torch.linspace(0, 3, 400), (1024, 1024), 1024)
    assert small._matrices is not None
    assert large._matrices is None
