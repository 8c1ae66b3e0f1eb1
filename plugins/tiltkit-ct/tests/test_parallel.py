"""Laws of the parallel-beam projector, closed forms, and the projectors of other libraries."""

from __future__ import annotations

import math
import warnings
from itertools import pairwise

import numpy as np
import pytest
import torch
from tiltkit_ct.parallel import ParallelBeam
from torch import Tensor

from tiltkit.errors import TiltkitError

GEOMETRIES = [
    {"shape": (7, 7), "n_columns": 7},
    {"shape": (6, 9), "n_columns": 12, "axis": 4.3},
    {"shape": (8, 5), "n_columns": 4, "axis": 4.5, "pixel": 0.7, "pitch": 1.1},
    {"shape": (9, 8), "n_columns": 30, "axis": -2.5, "pixel": 0.5, "pitch": 0.13},
]
ANGLES = torch.tensor([0.0, 0.3, math.pi / 4, math.pi / 2, 2.1, math.pi, 4.0, -1.3])


def make(geometry: dict, dtype: torch.dtype = torch.float64, **more: int) -> ParallelBeam:
    return ParallelBeam(ANGLES.to(dtype), **geometry, **more)


def noise(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3), dtype=dtype)


def relative(error: Tensor, scale: Tensor) -> float:
    return float(error.norm() / scale.norm())


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("matrix_bytes", [2**30, 0])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_the_adjoint_is_exact(
    geometry: dict, matrix_bytes: int, dtype: torch.dtype, tolerance: float
) -> None:
    operator = make(geometry, dtype, matrix_bytes=matrix_bytes)
    x = noise(3, 1, *operator.shape, dtype=dtype)
    y = noise(3, len(ANGLES), operator.n_columns, dtype=dtype)
    there, back = operator.forward(x), operator.adjoint(y)
    assert there.shape == y.shape
    assert back.shape == x.shape
    left, right = (there.double() * y).sum(), (x.double() * back).sum()
    assert abs(left - right) <= tolerance * there.norm() * y.norm()


def strip(x: float, y: float, angle: float, left: float, right: float) -> float:
    """Area of the unit square around (x, y) between two parallel lines, by cutting a polygon."""
    corners = np.array(
        [[x - 0.5, y - 0.5], [x + 0.5, y - 0.5], [x + 0.5, y + 0.5], [x - 0.5, y + 0.5]]
    )
    normal = np.array([math.cos(angle), math.sin(angle)])
    for sign, level in ((1, left), (-1, -right)):
        kept: list[np.ndarray] = []
        for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            inside_a, inside_b = sign * a @ normal - level, sign * b @ normal - level
            if inside_a >= 0:
                kept.append(a)
            if inside_a * inside_b < 0:
                kept.append(a + (b - a) * inside_a / (inside_a - inside_b))
        if len(kept) < 3:
            return 0.0
        corners = np.array(kept)
    px, py = corners.T
    return float(abs((px * np.roll(py, -1) - py * np.roll(px, -1)).sum()) / 2)


@pytest.mark.parametrize("pitch", [1.0, 0.4, 2.3])
def test_a_coefficient_is_the_area_that_pixel_and_strip_share(pitch: float) -> None:
    operator = ParallelBeam(ANGLES.double(), (3, 4), 9, axis=3.7, pitch=pitch)
    for i, j in [(0, 0), (1, 2), (2, 3)]:
        point = torch.zeros(1, 1, 3, 4, dtype=torch.float64)
        point[0, 0, i, j] = 1
        for row, angle in zip(operator.forward(point)[0], ANGLES.tolist(), strict=True):
            borders = (np.arange(10) - 0.5 - 3.7) * pitch
            areas = [strip(j - 1.5, i - 1, angle, a, b) for a, b in pairwise(borders)]
            np.testing.assert_allclose(row * pitch, areas, atol=1e-7)


@pytest.mark.parametrize("shape", [(32, 32), (33, 33), (32, 45)])
@pytest.mark.parametrize("n_columns", [80, 81])
@pytest.mark.parametrize("axis", [None, 37.25, 44.0])
def test_a_point_projects_onto_its_geometric_place(
    shape: tuple[int, int], n_columns: int, axis: float | None
) -> None:
    angles = torch.linspace(0, 2 * math.pi, 25, dtype=torch.float64)
    operator = ParallelBeam(angles, shape, n_columns, axis=axis, pixel=0.5)
    point = torch.zeros(1, 1, *shape, dtype=torch.float64)
    i, j = 9, 20
    point[0, 0, i, j] = 1
    rows = operator.forward(point)[0]
    centre = (rows @ torch.arange(n_columns, dtype=torch.float64)) / rows.sum(1)
    x, y = 0.5 * (j - (shape[1] - 1) / 2), 0.5 * (i - (shape[0] - 1) / 2)
    middle = (n_columns - 1) / 2 if axis is None else axis
    expected = middle + (x * angles.cos() + y * angles.sin()) / 0.5
    assert (centre - expected).abs().max() < 0.05


def ellipse(
    shape: tuple[int, int], pixel: float, a: float, b: float, x0: float, y0: float
) -> Tensor:
    """An ellipse, each pixel the mean over 16 x 16 points."""
    ny, nx = shape
    y = (torch.arange(16 * ny, dtype=torch.float64) - (16 * ny - 1) / 2) * pixel / 16 - y0
    x = (torch.arange(16 * nx, dtype=torch.float64) - (16 * nx - 1) / 2) * pixel / 16 - x0
    inside = ((x / a).square() + (y / b).square()[:, None] <= 1).double()
    return inside.view(ny, 16, nx, 16).mean((1, 3))


@pytest.mark.parametrize(("a", "b"), [(4.0, 4.0), (5.0, 2.5)])
@pytest.mark.parametrize("axis", [None, 50.2])
def test_an_ellipse_has_the_line_integrals_of_its_chords(
    a: float, b: float, axis: float | None
) -> None:
    x0, y0, pixel, pitch = 1.0, -0.7, 0.1, 0.15
    image = ellipse((120, 140), pixel, a, b, x0, y0)
    operator = ParallelBeam(ANGLES.double(), (120, 140), 100, axis=axis, pixel=pixel, pitch=pitch)
    rows = operator.forward(image[None, None])[0]
    inside_pixel = (torch.arange(40, dtype=torch.float64) - 19.5) / 40
    s = (torch.arange(100, dtype=torch.float64)[:, None] + inside_pixel - operator.axis) * pitch
    cos, sin = (f(ANGLES.double())[:, None, None] for f in (torch.cos, torch.sin))
    reach2 = (a * cos).square() + (b * sin).square()
    chord2 = (reach2 - (s - x0 * cos - y0 * sin).square()).clamp_min(0)
    chords = (2 * a * b * chord2.sqrt() / reach2).mean(2)
    assert (rows - chords).abs().max() < 0.02 * chords.max()
    assert (rows - chords).abs().mean() < 0.001 * chords.max()


def test_pixels_beyond_the_detector_are_not_projected() -> None:
    operator = ParallelBeam(ANGLES.double(), (8, 8), 5, axis=200.0)
    assert not operator.forward(noise(1, 1, 8, 8)).any()
    assert not operator.adjoint(noise(1, len(ANGLES), 5)).any()


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize(("alpha", "beta"), [(0.3, 0.7), (1e-3, 1.0)])
def test_solve_is_the_dense_solve(geometry: dict, alpha: float, beta: float) -> None:
    operator = make(geometry)
    pixels = math.prod(operator.shape)
    unit = torch.eye(pixels, dtype=torch.float64).view(-1, 1, *operator.shape)
    matrix = operator.forward(unit).flatten(1).T
    system = alpha * torch.eye(pixels, dtype=torch.float64) + beta * matrix.T @ matrix
    b = (matrix.T @ noise(matrix.shape[0], 2)).T
    solved = operator.solve(alpha, beta, b.reshape(2, 1, *operator.shape)).flatten(1)
    assert relative(solved @ system - b, b) < 2e-5


def test_scikit_image_agrees() -> None:
    transform = pytest.importorskip("skimage.transform")
    # It rotates about pixel n // 2: the middle of an odd image.
    image = ellipse((101, 101), 1.0, 30, 18, 6, -9)
    image += ellipse((101, 101), 1.0, 8, 8, -20, 15)
    image = torch.nn.functional.avg_pool2d(image[None], 5, 1, 2)[0]
    degrees = np.arange(0, 180, 15.0)
    theirs = transform.radon(image.numpy(), degrees, circle=True)
    # Its angles turn the other way: its y points up.
    operator = ParallelBeam(-torch.from_numpy(degrees).deg2rad(), (101, 101), 101)
    ours = operator.forward(image[None, None])[0].T
    assert relative(ours - torch.from_numpy(theirs), ours) < 5e-3


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("n", [64, 65])
def test_deepinv_agrees_once_its_centre_is_known(n: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its many imports
        physics = pytest.importorskip("deepinv.physics")
    degrees = torch.arange(0, 180, 15.0)
    tomography = physics.Tomography(degrees, n, circle=False, normalize=False)
    image = ellipse((n, n), 1.0, 20, 12, 4, -6)
    image = torch.nn.functional.avg_pool2d(image[None, None], 5, 1, 2).float()
    # Its axis is half a pixel beside the middle of the image, to a side that the first
    # projection of the middle: so is ours, of an image with one more row and column.
    middle = torch.zeros(1, 1, n, n)
    middle[..., (n - 1) // 2 : n // 2 + 1, (n - 1) // 2 : n // 2 + 1] = 1
    row = tomography.A(middle)[0, 0, :, 0]
    columns = len(row)
    beside = float(row @ torch.arange(columns, dtype=torch.float32) / row.sum()) - (columns - 1) / 2
    assert abs(beside) == pytest.approx(0.5, abs=0.01)
    pad = (1, 0, 1, 0) if beside > 0 else (0, 1, 0, 1)
    theirs = tomography.A(image)[0, 0].T
    operator = ParallelBeam(-degrees.deg2rad(), (n + 1, n + 1), columns)  # its y points up
    ours = operator.forward(torch.nn.functional.pad(image, pad))[0]
    assert relative(ours - theirs, ours) < 5e-3


@pytest.mark.gpu
@pytest.mark.parametrize("matrix_bytes", [2**30, 0])
def test_a_gpu_gives_the_same_projections(matrix_bytes: int) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    here = make(GEOMETRIES[1], torch.float32)
    there = ParallelBeam(ANGLES.cuda(), **GEOMETRIES[1], matrix_bytes=matrix_bytes)
    x = noise(3, 1, *here.shape, dtype=torch.float32)
    y = noise(3, len(ANGLES), here.n_columns, dtype=torch.float32)
    torch.testing.assert_close(there.forward(x.cuda()).cpu(), here.forward(x))
    torch.testing.assert_close(there.adjoint(y.cuda()).cpu(), here.adjoint(y))
    torch.testing.assert_close(there.solve(1.0, 0.1, x.cuda()).cpu(), here.solve(1.0, 0.1, x))


def test_wrong_geometry_is_refused() -> None:
    with pytest.raises(TiltkitError, match=r"shape \(2, 3\)"):
        ParallelBeam(torch.ones(2, 3), (4, 4), 4)
    with pytest.raises(TiltkitError, match=r"shape \(0,\)"):
        ParallelBeam(torch.ones(0), (4, 4), 4)
    with pytest.raises(TiltkitError, match="1 of 2 angles are not finite"):
        ParallelBeam(torch.tensor([0.0, math.nan]), (4, 4), 4)
    with pytest.raises(TiltkitError, match="image of 0 x 4 pixels"):
        ParallelBeam(ANGLES, (0, 4), 4)
    with pytest.raises(TiltkitError, match="pitch size is 0"):
        ParallelBeam(ANGLES, (4, 4), 4, pitch=0.0)
    with pytest.raises(TiltkitError, match="axis is at column nan"):
        ParallelBeam(ANGLES, (4, 4), 4, axis=math.nan)
