"""Filtered back-projection has the right values for every way of scanning."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from tiltkit_ct.parallel import ParallelBeam
from tiltkit_ct.ramp import angular_weights, filtered_back_projection, ramp_filter, widest_gap
from torch import Tensor

from tiltkit.errors import UsageError

PIXEL, RADIUS, X0, Y0, VALUE = 0.2, 6.0, 2.0, -1.0, 0.37


def radii(n: int, x: float = X0, y: float = Y0) -> Tensor:
    """Distance of each pixel from a point, the middle of the disc."""
    line = (torch.arange(n, dtype=torch.float64) - (n - 1) / 2) * PIXEL
    return torch.hypot(line[None, :] - x, line[:, None] - y)


def field_of_view(operator: ParallelBeam) -> float:
    """Distance from the axis within which every direction is measured, or its opposite."""
    return max(operator.axis, operator.n_columns - 1 - operator.axis) * operator.pitch


def chords(operator: ParallelBeam) -> Tensor:
    """Sinogram of the disc (angle, column), from the formula of a chord."""
    s = (torch.arange(operator.n_columns).double() - operator.axis) * operator.pitch
    middle = X0 * operator.angles.cos() + Y0 * operator.angles.sin()
    return 2 * VALUE * (RADIUS**2 - (s - middle[:, None]).square()).clamp_min(0).sqrt()


def half_circle(n: int) -> Tensor:
    return torch.arange(n, dtype=torch.float64) * math.pi / n


def uneven(n: int) -> Tensor:
    """Golden-angle directions."""
    return torch.arange(n, dtype=torch.float64) * math.pi * (math.sqrt(5) - 1) / 2


SCANS = {
    "180 degrees": (half_circle(180), {}),
    "180 degrees and the last projection again": (torch.linspace(0, math.pi, 181).double(), {}),
    "360 degrees": (2 * half_circle(300), {}),
    "backwards": (-half_circle(180) + 5, {}),
    "golden angle": (uneven(233), {}),
    "fine detector": (half_circle(180), {"n_columns": 160, "pitch": PIXEL / 1.6}),
    "coarse detector": (half_circle(180), {"n_columns": 70, "pitch": 1.5 * PIXEL}),
    "axis off the middle": (half_circle(180), {"n_columns": 110, "axis": 47.3}),
    "half acquisition, axis on the left": (2 * half_circle(300), {"n_columns": 70, "axis": 15.4}),
    "half acquisition, small offset": (2 * half_circle(300), {"n_columns": 90, "axis": 43.0}),
    "half acquisition, axis on the right": (2 * half_circle(300), {"n_columns": 70, "axis": 54.1}),
}


@pytest.mark.parametrize("n", [100, 101])
@pytest.mark.parametrize("window", ["ram-lak", "hann"])
@pytest.mark.parametrize("scan", SCANS)
def test_a_disc_has_its_value_inside_and_zero_outside(scan: str, window: str, n: int) -> None:
    angles, geometry = SCANS[scan]
    operator = ParallelBeam(angles, (n, n), **{"n_columns": 100, "pixel": PIXEL, **geometry})
    image = filtered_back_projection(chords(operator), operator, window)  # type: ignore[arg-type]
    assert image.shape == (1, n, n)
    inside = image[0][radii(n) < 0.8 * RADIUS] / VALUE
    assert abs(inside.mean() - 1) < 0.01
    assert inside.std() < 0.03
    within = radii(n, 0, 0) < field_of_view(operator)
    around = (radii(n) > 1.2 * RADIUS) & (radii(n) < 1.4 * RADIUS)
    assert abs((image[0][around & within] / VALUE).mean()) < 0.02


def test_a_missing_wedge_leaves_what_was_measured_at_its_value() -> None:
    angles = torch.linspace(-70, 70, 141, dtype=torch.float64).deg2rad()
    weights = angular_weights(angles)
    torch.testing.assert_close(weights, torch.full_like(weights, math.radians(1)))


def test_angular_weights_sum_to_the_half_circle() -> None:
    g = torch.Generator().manual_seed(0)
    for angles in (half_circle(7), uneven(50), 2 * half_circle(20), half_circle(1)):
        shuffled = angles[torch.randperm(len(angles), generator=g)] + 1
        weights = angular_weights(shuffled)
        assert (weights >= 0).all()
        assert float(weights.sum()) == pytest.approx(math.pi)


def test_angular_weights_follow_the_spacing() -> None:
    weights = angular_weights(torch.tensor([0.5, 0.0, 0.1, 0.3, 0.2, 0.7, 0.9, 1.1]).double())
    torch.testing.assert_close(weights[[2, 4]], torch.full((2,), 0.1).double())
    torch.testing.assert_close(weights[[5, 6]], torch.full((2,), 0.2).double())
    assert float(weights[3]) == pytest.approx(0.15)


@pytest.mark.parametrize("window", ["ram-lak", "shepp-logan", "cosine", "hamming", "hann"])
def test_windows_keep_low_frequencies_and_never_add(window: str) -> None:
    s = torch.arange(512, dtype=torch.float64)
    slow, fast = (torch.cos(2 * math.pi * f * s) for f in (0.02, 0.45))
    middle = slice(200, 312)
    for wave, low in ((slow, 0.95), (fast, 0.0)):
        bare = ramp_filter(wave, 1.0)[middle].norm()
        ratio = ramp_filter(wave, 1.0, window)[middle].norm() / bare  # type: ignore[arg-type]
        assert low <= ratio <= 1 + 1e-9


def test_the_ramp_multiplies_a_wave_by_its_frequency() -> None:
    s, pitch = torch.arange(2048, dtype=torch.float64), 0.25
    wave = torch.cos(2 * math.pi * 0.1 * s)
    filtered = ramp_filter(wave, pitch)[900:1150]
    torch.testing.assert_close(filtered, wave[900:1150] * 0.1 / pitch, atol=2e-3, rtol=0)


def test_wrong_windows_and_shapes_are_refused() -> None:
    operator = ParallelBeam(half_circle(5), (8, 8), 8)
    with pytest.raises(UsageError, match="no window 'hanning'"):
        filtered_back_projection(torch.zeros(5, 8), operator, "hanning")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"shape \(8, 5\), the scan \(5, 8\)"):
        filtered_back_projection(torch.zeros(8, 5), operator)


@pytest.mark.parametrize(
    ("degrees", "gap"),
    [
        (np.arange(0, 180, 2.0), 0.0),
        (np.arange(0, 360, 3.0), 0.0),
        (np.arange(-60, 61, 2.0), 58.0),
        (np.delete(np.arange(0, 180, 2.0), np.arange(20, 30)), 20.0),
        (np.arange(0, 300, 4.0), 0.0),
    ],
)
def test_the_widest_gap_is_that_of_directions_without_a_projection(
    degrees: Any, gap: float
) -> None:
    assert math.degrees(widest_gap(torch.from_numpy(np.radians(degrees)))) == pytest.approx(
        gap, abs=2
    )
