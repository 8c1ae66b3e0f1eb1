"""Report of a prior check: a PNG picture, or an HTML page with picture and tables."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tiltkit.errors import UsageError
from tiltkit.priors.check.findings import Finding, overall
from tiltkit.priors.check.record import Report
from tiltkit.report.html import png_address, render

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

__all__ = ["check_suffix", "write_page"]

_COLOURS = {"prior": "#1d5fa8", "TV": "#d9822b", "wavelet": "#1f9e89"}
_SAMPLES = 4


def check_suffix(path: Path) -> None:
    """Check the suffix of the report file.

    Raises:
        UsageError: The suffix is neither .png nor .html.
    """
    if path.suffix.lower() not in (".png", ".html", ".htm"):
        raise UsageError(f"{path.name} is neither .png nor .html.", "choose one of them for -o.")


def write_page(report: Report, found: list[Finding], path: Path) -> None:
    """Write a PNG picture or an HTML page; an existing file is replaced."""
    png = _png(_figure(report))
    if path.suffix.lower() == ".png":
        path.write_bytes(png)
        return
    text = render(
        "prior_check.html.j2",
        report=report,
        findings=found,
        overall=overall(found),
        picture=png_address(png),
    )
    path.write_text(text, encoding="utf-8")


def _figure(report: Report) -> Figure:
    """Draw curves (top), an image before and after denoising (middle) and samples (bottom)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 10.5), layout="constrained")
    curves, example, samples = figure.subfigures(3, 1)  # type: ignore[misc]
    left, right = curves.subplots(1, 2)
    _curves(left, report)
    _laws(right, report)
    _example(example, report)
    _samples(samples, report)
    return figure


def _curves(ax: Axes, report: Report) -> None:
    sigmas = [level.sigma for level in report.levels]
    rows = {"prior": [level.psnr for level in report.levels]}
    for name in report.levels[0].baselines:
        rows[name] = [level.baselines[name] for level in report.levels]
    for name, values in rows.items():
        label = report.name if name == "prior" else f"{name}, best weight"
        width = 2.2 if name == "prior" else 1.3
        ax.plot(sigmas, values, "o-", ms=4, lw=width, color=_COLOURS[name], label=label)
    ax.plot(sigmas, [level.noisy for level in report.levels], ":", color="#888", label="noisy")
    ax.set(xscale="log", xlabel="noise level", ylabel="PSNR in dB, peak 1", title="Denoising")
    _plain(ax)


def _laws(ax: Axes, report: Report) -> None:
    sigmas = [level.sigma for level in report.levels]
    rows = {
        "squared error / expected (1)": [level.error_ratio for level in report.levels],
        "foreseeable drift (0)": [level.drift for level in report.levels],
        "asymmetry (0)": [level.asymmetry for level in report.levels],
    }
    for (label, values), colour in zip(rows.items(), _COLOURS.values(), strict=True):
        ax.plot(sigmas, values, "o-", ms=4, color=colour, label=label)
    ax.axhline(1, color="#888", lw=0.8, ls=":")
    top = max(1.25, *(v for values in rows.values() for v in values if np.isfinite(v)))
    ax.set(xscale="log", xlabel="noise level", title="Laws of a true prior (value if it holds)")
    ax.set_ylim(0, min(top * 1.1, 5))
    _plain(ax)


def _plain(ax: Axes) -> None:
    ax.grid(alpha=0.25, which="both", lw=0.5)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=9)


def _example(figure: SubFigure, report: Report) -> None:
    one = report.example
    clean, noisy, out = (as_picture(x) for x in (one.clean, one.noisy, one.denoised))
    low, high = min(0.0, float(clean.min())), float(np.quantile(clean, 0.999))
    error = np.sqrt(((one.denoised - one.clean).square()).sum(0).numpy())
    axes = figure.subplots(1, 4)
    titles = ("clean image", f"with noise {one.sigma:g}", "denoised")
    for ax, image, title in zip(axes, (clean, noisy, out), titles, strict=False):
        _image(ax, image, low, high, title)
    _image(axes[3], error, 0, float(np.quantile(error, 0.999)) or 1, "error, own scale")


def _samples(figure: SubFigure, report: Report) -> None:
    images = [as_picture(x) for x in report.samples[:_SAMPLES]]
    axes = np.atleast_1d(figure.subplots(1, _SAMPLES))
    for ax in axes:
        ax.axis("off")
    if not images:
        return
    low = min(0.0, *(float(np.quantile(image, 0.002)) for image in images))
    high = max(float(np.quantile(image, 0.998)) for image in images)
    for k, (ax, image) in enumerate(zip(axes, images, strict=False), start=1):
        _image(ax, image, low, high, f"unconditional sample {k}")


def _image(ax: Axes, image: NDArray[np.float32], low: float, high: float, title: str) -> None:
    ax.imshow(image, cmap="gray", vmin=low, vmax=high if high > low else low + 1)
    ax.set_title(title, fontsize=10)
    ax.axis("off")


def as_picture(x: Tensor) -> NDArray[np.float32]:
    """Convert an image (channel, h, w) to (h, w): magnitude of two channels, else their mean."""
    flat = x.square().sum(0).sqrt() if len(x) == 2 else x.mean(0)
    picture: NDArray[np.float32] = flat.numpy()
    return picture


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()
