"""Values of a result along a line, with intervals from the posterior samples."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from math import ceil, hypot, prod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tiltkit.errors import InputError
from tiltkit.io.reading import check_finished, open_result, read_axes, read_units, result_shape
from tiltkit.report.regions import (
    RegionFigure,
    check_independent,
    independent_in_slice,
    region_figure,
    widening_factor,
)  # fmt: skip

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vector = NDArray[np.float64]

__all__ = ["ProfilePoint", "profile"]

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class ProfilePoint(RegionFigure):
    """The value at one point of a line.

    Attributes:
        distance: Distance from the first point, in `length_unit`.
        y: Position along the rows' axis of the result.
        x: Position along the columns' axis of the result.
        length_unit: Unit of positions; ``px`` where the axes have none, or two different ones.
    """

    distance: float
    y: float
    x: float
    length_unit: str


def profile(
    result: Path, name: str, start: Point, end: Point, plane: int | None
) -> list[ProfilePoint]:
    """Compute values along a line, at equal distances of at most one pixel.

    Images are interpolated linearly between the centres of pixels: the posterior mean, and each
    sample for the interval. Each interval holds for its point alone, not for all at once.

    Args:
        result: A finished result file.
        name: Name of the line.
        start: Row and column of the first point in pixels; 0,0 is the centre of the first pixel.
        end: Row and column of the last point.
        plane: Plane, counted from 0 over all slices; None where there is only one.

    Raises:
        InputError: The result cannot be read, is not finished, its samples are worth fewer than
            two independent ones, or the line is no line inside a plane with finite values.
    """
    shape = result_shape(result)
    check_finished(result)
    index = _plane_index(shape, plane)
    rows, columns = _points(shape, name, start, end)
    mean, values = _interpolated(result, index, rows, columns)
    if not np.isfinite(mean + values).all():
        raise InputError(f"The {name} has pixels that are not finite.", "move it.")
    worth = independent_in_slice(result, index[0], len(values))
    check_independent(result, len(values), worth)
    factor = widening_factor(result, index[0])
    unit, (y, x, length_unit) = read_units(result), _positions(result, rows, columns)
    found = []
    for i, value in enumerate(mean.tolist()):
        pixels = 2 ** int(rows[i] % 1 > 0) * 2 ** int(columns[i] % 1 > 0)
        figure = region_figure(name, "value", unit, value, values[:, i], worth, pixels, factor)
        distance = float(np.hypot(y[i] - y[0], x[i] - x[0]))
        contents = *astuple(figure), distance, float(y[i]), float(x[i]), length_unit
        found.append(ProfilePoint(*contents))
    return found


def _plane_index(shape: tuple[int, ...], plane: int | None) -> tuple[int, ...]:
    """Index of a plane: slice, and plane of a volume."""
    count = prod(shape[:-2])
    if len(shape) < 3:
        raise InputError("The images of this result have no rows and columns.", "use --regions.")
    if plane is None and count > 1:
        raise InputError(
            f"A profile lies in one plane, and the result has {count}.",
            f"add one from 0 to {count - 1} at the end.",
        )
    if not 0 <= (plane or 0) < count:
        raise InputError(f"There is no plane {plane}; there are {count}.", "count planes from 0.")
    return tuple(int(i) for i in np.unravel_index(plane or 0, shape[:-2]))


def _points(shape: tuple[int, ...], name: str, start: Point, end: Point) -> tuple[Vector, Vector]:
    """Rows and columns of the points of a line."""
    height, width = shape[-2:]
    inside = all(0 <= y <= height - 1 and 0 <= x <= width - 1 for y, x in (start, end))
    length = hypot(end[0] - start[0], end[1] - start[1])
    if not inside or not length > 0:
        raise InputError(
            f"The {name} does not run from one pixel to another of {height} x {width}.",
            f"give rows from 0 to {height - 1} and columns from 0 to {width - 1}.",
        )
    share = np.linspace(0, 1, ceil(length - 1e-9) + 1)
    rows, columns = (np.round(a + (b - a) * share, 9) for a, b in zip(start, end, strict=True))
    return rows, columns


def _interpolated(
    result: Path, index: tuple[int, ...], rows: Vector, columns: Vector
) -> tuple[Vector, Vector]:
    """Values of the mean (point,) and of the samples (sample, point)."""
    from scipy.ndimage import map_coordinates

    def at(plane: NDArray[np.float32]) -> Vector:
        found: Vector = map_coordinates(plane.astype(np.float64), [rows, columns], order=1)
        return found

    with open_result(result) as file:
        mean, samples = file["entry/data/data"], file["entry/samples/samples"]
        drawn = [at(samples[(k, *index)]) for k in range(len(samples))]
        return at(mean[index]), np.stack(drawn)


def _positions(result: Path, rows: Vector, columns: Vector) -> tuple[Vector, Vector, str]:
    """Positions along both axes, and their unit."""
    *_, (y, down), (x, across) = read_axes(result).items()
    if down != across or down in ("", "px"):
        return rows, columns, "px"
    with open_result(result) as file:
        axes = [np.asarray(file[f"entry/data/{name}"][()], float) for name in (y, x)]
    places = [
        np.interp(at, np.arange(len(axis)), axis)
        for at, axis in zip((rows, columns), axes, strict=True)
    ]
    return places[0], places[1], down
