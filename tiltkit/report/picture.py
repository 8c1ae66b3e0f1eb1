"""Writer of one picture: reconstruction without a prior, posterior mean, standard deviation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tiltkit.errors import InputError
from tiltkit.io.reading import read_estimate, read_finished, read_steps, read_title, read_units
from tiltkit.report.figures import common_window, middle_plane

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes

    from tiltkit.report.figures import Array, Window

__all__ = ["shown_planes", "write_png", "write_scan_pictures"]

# Inches along the longer side of an image, and dots per inch.
_SIDE, _DPI = 3.6, 150


def write_png(result: Path, output: Path) -> None:
    """Write the middle slice of a result, or middle plane of a volume, with colour bars.

    Args:
        result: A result file.
        output: PNG file to write; an existing file is replaced.

    Raises:
        InputError: The result cannot be read, or has no finished slice.
        OSError: The picture cannot be written.
    """
    from matplotlib.figure import Figure

    finished = read_finished(result)
    if not finished:
        raise InputError(f"{result} has no finished slice.", "run it again with --resume.")
    estimate = read_estimate(result, finished[len(finished) // 2])
    units, tall, wide = read_units(result), *read_steps(result)[-2:]
    mean, spread = middle_plane(estimate.mean), middle_plane(estimate.std)
    grey, heat = common_window([mean]), common_window([spread], "magma")
    panels = [
        ("without a prior", middle_plane(estimate.baseline), grey),
        ("posterior mean", mean, grey),
        ("posterior standard deviation", spread, heat),
    ]
    alone = "baseline_only" in estimate.diagnostics
    if np.isnan(spread).all():  # one sample has no spread
        panels = panels[: 1 if alone else 2]
    height, width = mean.shape[0] * tall, mean.shape[1] * wide
    scale = _SIDE / max(height, width)
    size = (len(panels) * (width * scale + 0.75), height * scale + 0.8)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, (title, array, window) in zip(axes, panels, strict=True):
        _draw(ax, array, window, title, aspect=tall / wide)
    samples = "" if alone else f"{len(estimate.samples)} samples"
    figure.suptitle(", ".join(filter(None, [read_title(result), samples, units])), fontsize=9)
    figure.savefig(output, format="png", dpi=_DPI)


def shown_planes(name: str, array: Array) -> dict[str, Array]:
    """Middle planes (row, column) of a picture of a scan by caption, as roots of their values.

    The square root shows faint light beside bright one, such as the rings of a point spread
    function.
    """
    title = f"{name.replace('_', ' ')}, square root"
    root = np.sqrt(np.asarray(array, np.float32).clip(0))
    if root.ndim < 3:
        return {title: root}
    return {f"{title}, xy": middle_plane(root), f"{title}, xz": root[:, root.shape[1] // 2]}


def write_scan_pictures(pictures: Mapping[str, Array], output: Path) -> None:
    """Write the pictures of a scan, see `Layout.metadata`, beside each other.

    Args:
        pictures: Arrays (row, column) or (plane, row, column) by name.
        output: PNG file to write; an existing file is replaced.

    Raises:
        OSError: The picture cannot be written.
    """
    from matplotlib.figure import Figure

    panels = [p for name, array in pictures.items() for p in shown_planes(name, array).items()]
    figure = Figure(figsize=(len(panels) * (_SIDE + 0.75), _SIDE + 0.8), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, (title, array) in zip(axes, panels, strict=True):
        _draw(ax, array, common_window([array]), title, aspect=1.0)
    figure.savefig(output, format="png", dpi=_DPI)


def _draw(ax: Axes, array: Array, window: Window, title: str, aspect: float) -> None:
    """Draw one image with its colour bar."""
    shown = ax.imshow(array, cmap=window.colours, vmin=window.low, vmax=window.high, aspect=aspect)
    ax.set_title(title, fontsize=9)
    ax.set_axis_off()
    figure = ax.get_figure()
    if figure is not None:
        bar = figure.colorbar(shown, ax=ax, shrink=0.85)
        bar.ax.tick_params(labelsize=7)
