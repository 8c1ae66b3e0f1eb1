"""Reader of results for the viewer napari, named in its manifest ``tiltkit/io/napari.yaml``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tiltkit.io.reading import (
    is_result,
    open_result,
    read_findings,
    read_steps,
    read_title,
    read_units,
)

__all__ = ["layers_of_result", "result_reader"]

# Data, keyword arguments and kind of a layer.
Layer = tuple[Any, dict[str, Any], str]
# Largest size of the samples, which are read into memory.
_MOST_BYTES = 2**31


def result_reader(path: str | Sequence[str]) -> Callable[[str], list[Layer]] | None:
    """The function that reads a file; None where it is no single result of tiltkit."""
    if not isinstance(path, str) or not Path(path).is_file():
        return None
    try:
        with h5py.File(path, "r") as file:
            return layers_of_result if is_result(file) else None
    except OSError:
        return None


def layers_of_result(path: str) -> list[Layer]:
    """Layers of mean, standard deviation, ends of the 90 % interval, baseline, and samples.

    The mean is visible, all others are hidden. Samples have a first axis of their own; they are
    left out where they are larger than 2 GiB.

    Args:
        path: A result file.

    Raises:
        InputError: The result cannot be read.
    """
    steps = read_steps(Path(path))
    with open_result(Path(path)) as file:
        entry = file["entry"]
        quantiles, samples = entry["quantiles/quantiles"], entry["samples/samples"]
        levels = entry["quantiles/level"][()]
        images = {
            "mean": entry["data/data"][()],
            "standard deviation": entry["data/data_errors"][()],
            f"quantile {levels[0]:.0%}": quantiles[0],
            f"quantile {levels[-1]:.0%}": quantiles[len(levels) - 1],
            "without prior": entry["baseline/baseline"][()],
        }
        if samples.size * samples.dtype.itemsize <= _MOST_BYTES:
            images["samples"] = samples[()]
    about = _about(Path(path))
    return [
        (
            np.asarray(values),
            {
                "name": f"{Path(path).stem}: {name}",
                "scale": (*(1.0,) * (values.ndim - len(steps)), *steps),
                "visible": name == "mean",
                "metadata": about,
            },
            "image",
        )
        for name, values in images.items()
    ]


def _about(path: Path) -> dict[str, str]:
    return {
        "title": read_title(path),
        "units": read_units(path) or "arbitrary",
        "verdict": read_findings(path),
    }
