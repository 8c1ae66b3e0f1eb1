"""What benchmarks with a true image share: settings, the last step, coverage and pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiltkit.posterior.outcome import Outcome

__all__ = ["coverage", "last", "pictures", "setting"]


def setting(text: str) -> tuple[str, str]:
    """``key=value`` of the options of a sampler or prior; their model converts it."""
    key, _, value = text.partition("=")
    return key, value


def last(steps: Iterator[Any]) -> Outcome:
    """Run to the end and give the outcome."""
    *_, outcome = steps
    assert isinstance(outcome, Outcome)
    return outcome


def coverage(low: Any, high: Any, truth: Any, where: NDArray[np.bool_]) -> float:
    """Share of pixels inside an interval."""
    return float(((low <= truth) & (truth <= high))[where].mean())


def pictures(
    path: Path,
    outcome: Outcome,
    truth: NDArray[np.float64],
    top: float,
    *,
    names: tuple[str, str],
    height: float,
) -> None:
    """Truth, plain image, mean, spread, error and one sample, side by side.

    Args:
        path: The picture to write.
        outcome: What was sampled.
        truth: The true image.
        top: Value that is white.
        names: Of the truth and of the plain image.
        height: Of the figure in inches; it is 15 wide.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    error = np.abs(outcome.mean - truth)
    panels = {
        names[0]: (truth, top), names[1]: (outcome.baseline, top),
        "posterior mean": (outcome.mean, top), "spread x 10": (outcome.std, top / 10),
        "error x 10": (error, top / 10), "a sample": (outcome.samples[0], top),
    }  # fmt: skip
    figure, axes = plt.subplots(2, 3, figsize=(15, height))
    for axis, (title, (image, limit)) in zip(axes.flat, panels.items(), strict=True):
        axis.imshow(image, cmap="gray", vmin=0, vmax=limit)
        axis.set_title(title)
        axis.axis("off")
    figure.tight_layout()
    figure.savefig(path, dpi=80)
