"""Picture of a calibration: regions, coverage curves, rank histograms, ranks of functions."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tiltkit.calibration.exchange import central_intervals
from tiltkit.calibration.functionals import GROUPS
from tiltkit.report.figures import common_window, middle_plane

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from tiltkit.calibration.exchange import Curve
    from tiltkit.calibration.record import Calibration

__all__ = ["write_picture"]

_DPI = 130
_COLOURS = ("#222222", "#2f7fd0", "#1f9e89", "#d9822b", "#8e5fb0", "#b04a4a", "#777777")


def write_picture(calibration: Calibration, output: Path) -> None:
    """Write the picture of a calibration as PNG.

    Args:
        calibration: With at least one finished draw.
        output: The file; an existing one is replaced.

    Raises:
        OSError: The picture cannot be written.
    """
    from matplotlib.figure import Figure

    curves, verdict = calibration.test()
    regions = [curve for curve in curves if curve.name not in GROUPS]
    groups = [curve for curve in curves if curve.name in GROUPS]
    columns = max(len(regions), 4)
    figure = Figure(figsize=(3.1 * columns, 7.2), layout="constrained")
    axes = figure.subplots(2, columns)
    _draw_regions(axes[0, 0], calibration)
    _draw_coverage(axes[0, 1], regions, calibration.samples)
    for ax, part in zip(axes[0, 2:], (groups[:3], groups[3:]), strict=False):
        _draw_cumulative(ax, part)
    for ax in axes[0, 4:]:
        ax.set_axis_off()
    for k, ax in enumerate(axes[1]):
        if k < len(regions):
            _draw_histogram(ax, regions[k], _COLOURS[k % len(_COLOURS)])
        else:
            ax.set_axis_off()
    title = f"{verdict.status.upper()}: {verdict.text}"
    figure.suptitle("\n".join(textwrap.wrap(title, 36 * columns)), fontsize=10, x=0.01, ha="left")
    figure.savefig(output, format="png", dpi=_DPI)


def _draw_regions(ax: Axes, calibration: Calibration) -> None:
    """The mean image with its regions in colour; a curve for one-dimensional images."""
    mean, labels = calibration.mean, calibration.labels
    ax.set_title("regions", fontsize=9)
    names = calibration.plan.rows[1:]
    if mean.ndim < 2:
        x = np.arange(mean.size)
        for k, name in enumerate(names):
            inside = labels.ravel() == k
            ax.plot(x[inside], mean.ravel()[inside], ".", color=_COLOURS[1 + k % 6], label=name)
        ax.legend(fontsize=7)
        return
    plane, parts = (middle_plane(x.astype(np.float32)) for x in (mean, labels))
    window = common_window([plane])
    ax.imshow(plane, cmap="gray", vmin=window.low, vmax=window.high)
    for k, name in enumerate(names):
        colour = np.array([int(_COLOURS[1 + k % 6][i : i + 2], 16) / 255 for i in (1, 3, 5)])
        cover = np.zeros((*plane.shape, 4))
        cover[parts == k] = (*colour, 0.35)
        ax.imshow(cover)
        ax.plot([], [], "s", color=colour, label=name)
    ax.legend(fontsize=7, loc="lower right")
    ax.set_axis_off()


def _draw_coverage(ax: Axes, regions: list[Curve], samples: int) -> None:
    """Coverage of central intervals minus its nominal value, with bands."""
    nominal = 100 * central_intervals(samples)
    ax.axhline(0, color="0.6", lw=0.8)
    for curve, colour in zip(regions, _COLOURS * 9, strict=False):
        low, high = 100 * curve.coverage_band - nominal
        if curve is regions[0]:
            ax.fill_between(nominal, low, high, color=colour, alpha=0.15, lw=0)
        else:
            ax.plot(nominal, low, ":", nominal, high, ":", color=colour, lw=0.8)
        line = 100 * curve.coverage - nominal
        ax.plot(nominal, line, "o-", ms=3, color=colour, label=curve.name)
    ax.set_title("coverage of intervals", fontsize=9)
    ax.set_xlabel("nominal coverage / %", fontsize=8)
    ax.set_ylabel("measured minus nominal / %", fontsize=8)
    ax.legend(fontsize=7)
    ax.tick_params(labelsize=7)


def _draw_cumulative(ax: Axes, groups: list[Curve]) -> None:
    """Cumulative ranks of functions minus those of uniform ranks, with bands."""
    if not groups:
        ax.set_axis_off()
        return
    ax.axhline(0, color="0.6", lw=0.8)
    for curve, colour in zip(groups, _COLOURS[1:], strict=False):
        n = len(curve.cumulative)
        share = np.arange(1, n + 1) / (n + 1)
        low, high = curve.cumulative_band - share
        ax.plot(share, low, ":", share, high, ":", color=colour, lw=0.8)
        ax.plot(share, curve.cumulative - share, "o-", ms=3, color=colour, label=curve.name)
    ax.set_title("ranks of functions", fontsize=9)
    ax.set_xlabel("share of ranks", fontsize=8)
    ax.set_ylabel("measured minus uniform", fontsize=8)
    ax.legend(fontsize=7)
    ax.tick_params(labelsize=7)


def _draw_histogram(ax: Axes, curve: Curve, colour: str) -> None:
    """Rank histogram of the pixels of a region, over uniform ranks."""
    heights = curve.shares * len(curve.shares)
    ax.bar(np.arange(len(heights)), heights, width=1.0, color=colour, alpha=0.6)
    band = curve.shares_band * len(heights)
    ax.fill_between(
        np.arange(-0.5, len(heights)), np.append(band[0], band[0, -1]),
        np.append(band[1], band[1, -1]), step="post", color="0.3", alpha=0.25, lw=0,
    )  # fmt: skip
    ax.axhline(1, color="0.3", lw=0.8)
    ax.set_title(f"ranks: {curve.name} ({curve.weight:.0f} pixels a draw)", fontsize=9)
    ax.set_xlabel("rank of the truth among the samples", fontsize=8)
    ax.tick_params(labelsize=7)
