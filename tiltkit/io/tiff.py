"""Writer of TIFF stacks for ImageJ, Fiji, napari and analysis pipelines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tiltkit.io.reading import open_result, read_axes, read_steps, read_units

__all__ = ["write_tiff"]

# ImageJ's names of the axes of a hyperstack, for images of two and of three axes.
_AXES = {3: "ZYX", 4: "TZYX"}


def write_tiff(result: Path, output: Path) -> None:
    """Write the posterior mean to ``OUTPUT`` and the standard deviation to ``OUTPUT.std.tif``.

    Both are float32 in the units of the result, one page per slice, with the pixel size if it is
    known. One page is in memory at a time.

    Args:
        result: A result file.
        output: Stack to write; an existing file is replaced.

    Raises:
        InputError: The result cannot be read.
        OSError: A stack cannot be written.
    """
    import tifffile

    tags = _tags(result)
    with open_result(result) as file:
        for name, path in (("data", output), ("std", output.with_suffix(".std.tif"))):
            data = file[f"entry/data/{name}"]
            tifffile.imwrite(
                path,
                (page for block in data for page in block.reshape(-1, *block.shape[-2:])),
                shape=data.shape,
                dtype=np.float32,
                imagej=True,
                **tags,
            )


def _tags(result: Path) -> dict[str, Any]:
    """TIFF tags for axes, pixel sizes and units."""
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
