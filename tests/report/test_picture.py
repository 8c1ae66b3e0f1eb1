"""One picture of a result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from tiltkit.io.result import ResultWriter
from tiltkit.posterior.outcome import Outcome
from tiltkit.protocols import Axis, Layout
from tiltkit.report.figures import common_window
from tiltkit.report.picture import write_png

Start = Callable[..., ResultWriter]
Make = Callable[..., Outcome]


def coloured(result: Path, panels: int) -> list[bool]:
    """Return for each panel of the picture, left to right, whether it has colours."""
    picture = result.with_suffix(".png")
    write_png(result, picture)
    parts = np.array_split(imread(picture)[..., :3], panels, axis=1)
    return [bool(np.ptp(part, axis=-1).max() > 0.2) for part in parts]


def test_images_are_grey_and_their_spread_is_coloured(result: Path) -> None:
    assert coloured(result, 3) == [False, False, True]


def test_the_picture_of_one_sample_has_no_map_of_spread(
    start: Start, outcome: Make, tmp_path: Path
) -> None:
    first = outcome()
    none = np.full_like(first.std, np.nan)
    with start() as writer:
        writer.write(0, replace(first, std=none))
    result = tmp_path / "out.h5.part"
    assert coloured(result, 2) == [False, False]


def test_a_volume_is_shown_by_its_middle_plane(
    start: Start, outcome: Make, layout: Layout, tmp_path: Path
) -> None:
    flat = outcome()
    shape = (5, *flat.mean.shape)
    planes = np.zeros(shape, np.float32)
    planes[2] = flat.mean
    changes = {
        "mean": planes, "std": planes, "baseline": planes, "phase": None,
        "samples": np.broadcast_to(planes, (4, *shape)),
        "quantiles": dict.fromkeys(flat.quantiles, planes),
    }  # fmt: skip
    axes = (layout.axes[0], Axis("plane", np.arange(5), "mm"), *layout.axes[1:])
    with start(layout=replace(layout, axes=axes)) as writer:
        writer.write(0, outcome(**changes))
    result = tmp_path / "out.h5.part"
    write_png(result, tmp_path / "out.png")
    inside = imread(tmp_path / "out.png")[..., :3]
    left, right = (inside[:, k] for k in (slice(20, 300), slice(-450, -170)))
    assert np.ptp(left) > 0.5  # the plane before or behind would be black
    assert np.ptp(right) > 0.5


def test_pixels_beyond_the_field_of_view_leave_the_greys_of_the_others(
    start: Start, outcome: Make
) -> None:
    image = outcome().mean
    marked = image.copy()
    marked.flat[:3] = np.nan
    assert common_window([marked]).high == pytest.approx(np.percentile(image.flat[3:], 99.7))
