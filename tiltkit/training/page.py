"""One self-contained HTML page about a training: curve, table, samples, settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tiltkit.report import figures
from tiltkit.report.html import INK, render, svg
from tiltkit.report.tables import flat
from tiltkit.training.card import value_range
from tiltkit.training.outcome import Outcome

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["page"]


def page(outcome: Outcome) -> str:
    """The page as HTML that needs no other file and no network."""
    recipe, record = outcome.job.recipe, outcome.record
    window = figures.common_window([x.numpy() for x in outcome.held_out])
    values: dict[str, Any] = {
        "title": recipe.data.title,
        "file": outcome.job.output.name,
        "cautions": outcome.cautions(),
        "steps": outcome.steps,
        "best": outcome.best.step,
        "minutes": f"{record.seconds / 60:.1f}",
        "device": outcome.device,
        "levels": [f"{s:g}" for s in outcome.levels],
        "rows": {
            "this network": _figures(outcome.best.psnr),
            "total variation, best strength in hindsight": _figures(outcome.tv),
            "noise alone": _figures(outcome.noise_only),
        },
        "gain": f"{np.mean(outcome.gain):+.2f} dB",
        "curve": _curves(outcome),
        "samples": _pictures(outcome.samples, window),
        "held_out": _pictures(outcome.held_out, window),
        "facts": outcome.job.facts() | {"value range": value_range(outcome)},
        "settings": flat(recipe.model_dump(mode="json")),
        "sha256": outcome.sha256,
    }
    return render("training.html.j2", **values)


def _figures(row: Sequence[float]) -> list[str]:
    return [f"{value:.2f}" for value in row]


def _pictures(images: Tensor, window: figures.Window) -> list[str]:
    return [figures.image(x.numpy(), window) for x in images]


def _curves(outcome: Outcome) -> str:
    """Loss per step above, PSNR per noise level below, as an SVG element."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.2, 5.6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    steps, losses = _smooth(outcome.record.losses)
    above.plot(steps, losses, color="#2f7fd0", lw=1.5)
    above.set_ylabel("loss")
    checks = outcome.record.checks
    shades = np.linspace(1.0, 0.35, len(outcome.levels))
    for k, (level, shade) in enumerate(zip(outcome.levels, shades, strict=True)):
        points = [check.psnr[k] for check in checks]
        below.plot([check.step for check in checks], points, "o-", color="#1f9e89", ms=3,
                   alpha=float(shade), label=f"noise {level:g}")  # fmt: skip
        below.axhline(outcome.tv[k], color="#d9822b", lw=0.8, ls=(0, (4, 3)), alpha=float(shade))
    below.set_ylabel("PSNR (dB); dashed: TV")
    below.set_xlabel("step")
    below.legend(frameon=False, labelcolor=INK, ncols=6, fontsize=8, loc="lower right",
                 bbox_to_anchor=(1.0, 1.0))  # fmt: skip
    for ax in (above, below):
        figures.restyle(ax)
    return svg(figure)


def _smooth(losses: Sequence[float], points: int = 300) -> tuple[NDArray[Any], NDArray[Any]]:
    """Means over equal parts of the training, at their middles."""
    parts = np.array_split(np.asarray(losses), min(points, len(losses)))
    ends = np.cumsum([len(part) for part in parts])
    middles = ends - np.array([len(part) for part in parts]) / 2
    return middles, np.array([part.mean() for part in parts])
