"""Figures for HTML pages: images as PNG data URIs, curves as SVG elements."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tiltkit.report.html import INK, png_address, svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Window", "colour_bar", "image", "ladder_plot", "restyle", "common_window"]

Array = NDArray[np.float32]

# Largest number of pixels along a side; larger images are averaged down.
LARGEST = 640
_ACCENT, _WARN = "#2f7fd0", "#d9822b"


@dataclass(frozen=True, slots=True)
class Window:
    """Display range of an image: values of the ends of the colour map, and its name."""

    low: float
    high: float
    colours: str = "gray"


def common_window(images: Sequence[Array], colours: str = "gray") -> Window:
    """Return a display range of images: from 0, or the 0.3rd percentile, to the 99.7th.

    Pixels outside of the field of view, which are NaN, do not count.
    """
    values = np.stack([middle_plane(x) for x in images])
    values = values[np.isfinite(values)]
    low, high = np.percentile(values, (0.3, 99.7)) if values.size else (0.0, 1.0)
    low = min(float(low), 0.0)
    return Window(low, float(high) if high > low else low + 1.0, colours)


def middle_plane(x: Array) -> Array:
    """Return the middle plane of a volume; an image is returned unchanged."""
    while x.ndim > 2:
        x = x[len(x) // 2]
    return x


def image(x: Array, window: Window, largest: int = LARGEST) -> str:
    """Return an image as PNG data URI, one pixel per value up to ``largest`` pixels per side."""
    from matplotlib.image import imsave
    from skimage.transform import downscale_local_mean

    flat = middle_plane(x)
    factor = -(-max(flat.shape) // largest)
    if factor > 1:
        shrink: Callable[..., Array] = downscale_local_mean
        flat = shrink(flat, (factor, factor))
    buffer = io.BytesIO()
    imsave(buffer, flat, format="png", cmap=window.colours, vmin=window.low, vmax=window.high)
    return png_address(buffer.getvalue())


def colour_bar(window: Window) -> str:
    """Return a horizontal colour bar of a window as PNG data URI."""
    ramp = np.linspace(window.low, window.high, 256, dtype=np.float32)[None]
    return image(ramp, window)


def ladder_plot(
    slices: Sequence[Mapping[str, Any]], shown: Mapping[str, Any], samples: int
) -> str | None:
    """Effective sample size against the noise level, as an SVG element.

    Args:
        slices: Diagnostics of all slices, drawn thin.
        shown: Diagnostics of the slice whose images are in the report, drawn bold.
        samples: Samples per slice.

    Returns:
        The SVG element; None if the sampler reported no effective sample size.
    """
    from matplotlib.figure import Figure

    if "ess" not in shown or "noise_level" not in shown:
        return None
    figure = Figure(figsize=(9.2, 3.1), layout="constrained")
    ax = figure.subplots()
    _draw_ess(ax, slices, shown, samples)
    ax.set_xlabel("noise level (the run goes from left to right)")
    ax.set_xscale("log")
    ax.invert_xaxis()
    restyle(ax)
    return svg(figure)


def _draw_ess(
    ax: Axes, slices: Sequence[Mapping[str, Any]], shown: Mapping[str, Any], samples: int
) -> None:
    from matplotlib.ticker import MaxNLocator

    _draw_curves(ax, slices, shown, "ess", _ACCENT)
    ax.set_ylim(0, samples * 1.06)
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_ylabel(f"ESS, of {samples} samples")
    pairs = zip(shown["ess"], shown.get("weight_power", ()), strict=False)
    flat = [k for k, (_, power) in enumerate(pairs) if power < 1]
    if flat:
        x, y = _curve(shown, "ess")
        ax.plot(x[flat], y[flat], "o", color=_WARN, ms=4.5, label="weights left out")
        ax.legend(frameon=False, labelcolor=INK, loc="lower right")


def _draw_curves(
    ax: Axes,
    slices: Sequence[Mapping[str, Any]],
    shown: Mapping[str, Any],
    name: str,
    colour: str,
) -> None:
    for one in slices:
        if one is not shown and name in one:
            ax.plot(*_curve(one, name), color=colour, lw=0.8, alpha=0.25)
    ax.plot(*_curve(shown, name), color=colour, lw=2)


def _curve(one: Mapping[str, Any], name: str) -> tuple[Array, Array]:
    """Noise levels and values, up to the length of the shorter one."""
    pairs = list(zip(one["noise_level"], one[name], strict=False))
    x, y = np.asarray(pairs, np.float32).reshape(-1, 2).T
    return x, y


def restyle(ax: Axes) -> None:
    """Style axes for pages: thin lines in the text colour and a light grid."""
    ax.patch.set_alpha(0)
    ax.grid(color=INK, alpha=0.12, lw=0.7)
    ax.tick_params(which="both", colors=INK, length=3, width=0.7)
    ax.xaxis.label.set_color(INK)
    ax.yaxis.label.set_color(INK)
    for side, spine in ax.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set(color=INK, alpha=0.5, linewidth=0.8)
