"""One picture of a result: the image without a prior, the posterior mean, and its spread."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tiltkit.errors import InputError
from tiltkit.io.reading import read_estimate, read_finished, read_steps, read_title, read_units
from tiltkit.report.figures import plane, window_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from tiltkit.report.figures import Array, Window

__all__ = ["write_png"]

# Inches along the longer side of an image, and dots per inch.
_SIDE, _DPI = 3.6, 150


def write_png(result: Path, output: Path) -> None:
    """The middle slice of a result as one figure with colour bars; of a volume its middle plane.

    Args:
        result: A result file.
        output: The PNG file to write, replaced where it is there.

    Raises:
        InputError: The result cannot be read, or holds no finished slice.
        OSError: The picture cannot be written.
    """
    from matplotlib.figure import Figure

    finished = read_finished(result)
    if not finished:
        raise InputError(f"{result} holds no finished slice.", "run it again with --resume.")
    estimate = read_estimate(result, finished[len(finished) // 2])
    units, tall, wide = read_units(result), *read_steps(result)[-2:]
    mean, spread = plane(estimate.mean), plane(estimate.std)
    grey, heat = window_of([mean]), window_of([spread], "magma")
    panels = [
        ("without a prior", plane(estimate.baseline), grey),
        ("posterior mean", mean, grey),
        ("posterior standard deviation", spread, heat),
    ]
    if np.isnan(spread).all():  # one sample has no spread
        panels.pop()
    height, width = mean.shape[0] * tall, mean.shape[1] * wide
    scale = _SIDE / max(height, width)
    size = (len(panels) * (width * scale + 0.75), height * scale + 0.8)
    figure = Figure(figsize=size, layout="constrained")
    for ax, (title, array, window) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        _draw(ax, array, window, title, aspect=tall / wide)
    samples = f"{len(estimate.samples)} samples"
    figure.suptitle(", ".join(filter(None, [read_title(result), samples, units])), fontsize=9)
    figure.savefig(output, format="png", dpi=_DPI)


def _draw(ax: Axes, array: Array, window: Window, title: str, aspect: float) -> None:
    """One image with its colour bar."""
    shown = ax.imshow(array, cmap=window.colours, vmin=window.low, vmax=window.high, aspect=aspect)
    ax.set_title(title, fontsize=9)
    ax.set_axis_off()
    figure = ax.get_figure()
    if figure is not None:
        bar = figure.colorbar(shown, ax=ax, shrink=0.85)
        bar.ax.tick_params(labelsize=7)
