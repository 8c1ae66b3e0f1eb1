"""The contact sheet is written, and its reconstructions are sharpest at the right axis."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread
from tiltkit_ct.contact_sheet import axis_picture, reconstruct
from tiltkit_ct.data_exchange import DataExchange
from tiltkit_ct.options import PrepareOptions
from tiltkit_ct.prepare import Sinogram
from tiltkit_ct.select import select

from tiltkit.errors import UsageError


@pytest.mark.parametrize(
    ("turn", "axis", "radius"),
    [(np.pi, 60.0, 50.0), (2 * np.pi, 66.5, 50.0), (2 * np.pi, 15.3, 100.0)],
)
def test_a_reconstruction_at_the_axis_is_the_object(
    project: Callable[..., Any], turn: float, axis: float, radius: float
) -> None:
    angles = turn * np.arange(360) / 360
    values = 1.5 * project(angles, 128, axis, radius).astype(np.float32)
    sinogram = Sinogram(values, np.ones_like(values), None, None, angles)
    points = radius * np.array([-0.3, 0.0, 0.3])
    image = reconstruct(sinogram, axis, points, points) * radius
    # By hand from the list of ellipses: where the grid lies in the large one alone or outside.
    assert image[1, 1] == pytest.approx(1.0, abs=0.1)
    assert image[0, 0] == pytest.approx(1.0, abs=0.1)
    far = reconstruct(sinogram, axis, radius * np.array([0.8]), np.array([0.0])) * radius
    assert far[0, 0] == pytest.approx(0.0, abs=0.1)
    edge = radius * np.linspace(-0.9, 0.9, 60)
    wrong = reconstruct(sinogram, axis + 6, edge, edge)
    right = reconstruct(sinogram, axis, edge, edge)
    outside = np.hypot(edge, edge[:, None]) > 0.78 * radius
    assert np.abs(right[outside]).mean() < 0.4 * np.abs(wrong[outside]).mean()


def test_a_sheet_is_written_with_a_panel_for_each_candidate(
    simulate: Callable[..., Any], exchange: Callable[..., Path], tmp_path: Path
) -> None:
    sizes = []
    with DataExchange.open(exchange(simulate())) as opened:
        for candidates in ([65.0], [50.0, 65.0, 80.0]):
            path = tmp_path / "axis.png"
            axis_picture(select(opened, PrepareOptions()), candidates, path)
            image = imread(path)
            sizes.append(image.shape[:2])
            assert image[..., :3].std() > 0.05
    assert sizes[1][0] > 1.5 * sizes[0][0]
    assert sizes[1][1] > 1.5 * sizes[0][1]


@pytest.mark.parametrize(
    "candidates", [[], [-128.0], [60.0, 256.0], [float(i) for i in range(101)]]
)
def test_candidates_that_make_no_picture_are_refused(
    simulate: Callable[..., Any], exchange: Callable[..., Path], tmp_path: Path, candidates: Any
) -> None:
    with (
        DataExchange.open(exchange(simulate())) as opened,
        pytest.raises(UsageError, match=r"axis|candidates") as caught,
    ):
        axis_picture(select(opened, PrepareOptions()), candidates, tmp_path / "axis.png")
    assert caught.value.hint
    assert not (tmp_path / "axis.png").exists()
