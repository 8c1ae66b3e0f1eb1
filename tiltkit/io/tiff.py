"""Write a result as TIFF stacks, for ImageJ, Fiji, napari and analysis pipelines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tiltkit.io.reading import open_result, read_axes, read_steps, read_units

__all__ = ["write_tiff"]

# ImageJ's names of the axes of a hyperstack, for images of two and of three axes.
_AXES = {3: "ZYX", 4: "TZYX"}


def write_tiff(result: Path, output: Path) -> None:
    """The posterior mean as ``OUTPUT``, its standard deviation beside it as ``OUTPUT.std.tif``.

    Both are float32 in the units of the result, one page per slice, with the pixel size where it
    is known; written page by page.

    Args:
        result: A result file.
        output: The stack to write, replaced where it is there.

    Raises:
        InputError: The result cannot be read.
        OSError: A stack cannot be written.
    """
    import tifffile

    facts = _facts(result)
    with open_result(result) as file:
        for name, path in (("data", output), ("std", output.with_suffix(".std.tif"))):
            data = file[f"entry/data/{name}"]
            tifffile.imwrite(
                path,
                (page for block in data for page in block.reshape(-1, *block.shape[-2:])),
                shape=data.shape,
                dtype=np.float32,
                imagej=True,
                **facts,
            )


def _facts(result: Path) -> dict[str, Any]:
    """What a TIFF file says about its pixels: axes, their sizes, the unit of the values."""
    axes = read_axes(result)
    steps = read_steps(result)
    unit = list(axes.values())[-1]
    return {
        "resolution": (1 / steps[-1], 1 / steps[-2]),
        "metadata": {
            "axes": _AXES[len(axes)],
            "spacing": steps[-3],
            "unit": unit,
            "values": read_units(result) or "arbitrary",
        },
    }
