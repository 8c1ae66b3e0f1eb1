"""Figures of regions of a result, with intervals from the posterior samples.

The figure of a region is computed for each sample, and its interval lies between order statistics
of these values. Intervals of single pixels cannot give it, because the errors of neighbouring
pixels are correlated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiltkit.errors import InputError
from tiltkit.io.images import read_contents
from tiltkit.io.reading import (
    open_result,
    read_axes,
    read_finished,
    read_steps,
    read_units,
    result_shape,
)  # fmt: skip

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]
    Mask = NDArray[np.bool_]

__all__ = ["RegionFigure", "box", "disk", "interval_ranks", "labels", "region_figures"]

# Probability that the intervals aim at.
_LEVEL = 0.9
# NIfTI files, whose axes have another order and direction than those of a result.
_NIFTI = (".nii", ".nii.gz")


@dataclass(frozen=True, slots=True)
class RegionFigure:
    """One figure of one region.

    Attributes:
        region: Name of the region.
        figure: ``mean``, ``sum`` or ``size above VALUE``.
        unit: Unit of the value; empty for arbitrary units.
        value: Figure of the posterior mean image; for sizes, the mean over samples.
        std: Standard deviation of the samples' figures.
        standard_error: Standard error of the mean of the samples' figures, ``std / sqrt(samples)``
            for independent samples.
        low: Lower end of the interval.
        high: Upper end of the interval.
        coverage: Probability of the interval under a right posterior with independent samples.
        samples: Number of samples.
        pixels: Number of pixels or voxels of the region.
    """

    region: str
    figure: str
    unit: str
    value: float
    std: float
    standard_error: float
    low: float
    high: float
    coverage: float
    samples: int
    pixels: int


def region_figures(
    result: Path, regions: Mapping[str, Mask], above: float | None = None
) -> list[RegionFigure]:
    """Compute mean and sum of each region, and its size above a value.

    Args:
        result: A finished result file.
        regions: Mask (slices, *image) of each region by name.
        above: Threshold in the units of the result; None without sizes.

    Raises:
        InputError: The result cannot be read, is not finished, has fewer than two samples, or a
            region is empty or holds values that are not finite.
    """
    shape, done = result_shape(result), read_finished(result)
    if len(done) < shape[0]:
        raise InputError(
            f"{result} has {len(done)} of {shape[0]} slices.",
            "finish it first: run the same command with --resume.",
        )
    unit, (size, size_unit) = read_units(result), _pixel_size(result)
    found = []
    for name, mask in regions.items():
        count = int(np.count_nonzero(mask))
        if not count:
            raise InputError(f"The region {name} has no pixels.", "give a region inside the image.")
        total, sums, counts = _sums(result, mask, above)
        if not np.isfinite([total, *sums]).all():
            raise InputError(
                f"The region {name} has pixels that are not finite.", "leave these pixels out."
            )
        sum_unit = f"{unit} {size_unit}".strip()
        found.append(_figure(name, "mean", unit, total / count, sums / count, count))
        found.append(_figure(name, "sum", sum_unit, total * size, sums * size, count))
        if above is not None:
            sizes = counts * size
            value = float(sizes.mean())
            found.append(_figure(name, f"size above {above:g}", size_unit, value, sizes, count))
    return found


def interval_ranks(samples: int) -> tuple[int, float]:
    """Rank from either end of the interval's ends among the samples, and the coverage.

    The truth and ``n`` samples are exchangeable under a right posterior. The truth then lies
    between the ``k``-th smallest and the ``k``-th largest sample with probability
    ``(n + 1 - 2 k) / (n + 1)``. The largest ``k`` with at least 0.9 is taken, or 1 for few samples.
    """
    rank = max(1, int((1 - _LEVEL) / 2 * (samples + 1) + 1e-9))
    return rank, (samples + 1 - 2 * rank) / (samples + 1)


def labels(path: Path, shape: tuple[int, ...]) -> dict[str, Mask]:
    """Masks of the regions of a label image, which are named by its values; 0 is left out.

    Args:
        path: File of whole numbers, ``.npy``, ``.tif`` or HDF5, in the order of the result's axes.
        shape: Shape (slices, *image) of the result.

    Raises:
        InputError: The file cannot be read, has another shape, or holds other numbers.
    """
    if path.name.lower().endswith(_NIFTI):
        raise InputError(
            f"{path} is NIfTI, whose axes differ from those of the result.",
            "save the labels as .npy or .tif, in the order of the result's axes.",
        )
    values = read_contents([path]).values
    if _core(values.shape) != _core(shape):
        raise InputError(
            f"The labels in {path} have shape {values.shape}, but the images {shape}.",
            "give one whole number for each pixel of the result.",
        )
    whole = values.dtype.kind in "biu" or (
        values.dtype.kind == "f" and bool(np.all(np.mod(values, 1) == 0))
    )
    if not whole:
        raise InputError(
            f"The labels in {path} are not whole numbers.", "save them as integers, 0 outside."
        )
    values = values.reshape(shape)
    return {f"label {value:g}": values == value for value in np.unique(values).tolist() if value}


def box(shape: tuple[int, ...], rows: slice, columns: slice, plane: int | None) -> Mask:
    """Mask of a rectangle in one plane, or in all planes.

    Args:
        shape: Shape (slices, *image) of the result.
        rows: First row and the one after the last.
        columns: First column and the one after the last.
        plane: Plane, counted from 0 over all slices; all of them when None.

    Raises:
        InputError: The rectangle or the plane is not inside the image.
    """
    *_, height, width = shape
    for name, part, length in (("rows", rows, height), ("columns", columns, width)):
        if not 0 <= part.start < part.stop <= length:
            raise InputError(
                f"The box has {name} {part.start}:{part.stop}, but the image has {length}.",
                f"give two {name} from 0 to {length}, the smaller one first.",
            )
    mask = np.zeros(shape, bool)
    mask.reshape(-1, height, width)[_planes(shape, plane), rows, columns] = True
    return mask


def disk(
    shape: tuple[int, ...], row: float, column: float, radius: float, plane: int | None
) -> Mask:
    """Mask of the pixels whose centres lie within a radius, in one plane or in all planes.

    Args:
        shape: Shape (slices, *image) of the result.
        row: Row of the centre in pixels.
        column: Column of the centre in pixels.
        radius: Radius in pixels.
        plane: Plane, counted from 0 over all slices; all of them when None.

    Raises:
        InputError: The disk is not wholly inside the image, or there is no such plane.
    """
    *_, height, width = shape
    inside = all(
        radius <= centre + 0.5 and centre + radius <= length - 0.5
        for centre, length in ((row, height), (column, width))
    )
    if radius < 0 or not inside:
        raise InputError(
            f"The disk at {row:g},{column:g} with radius {radius:g} is not inside the image of"
            f" {height} x {width} pixels.",
            "give row, column and radius in pixels.",
        )
    y, x = np.ogrid[:height, :width]
    mask = np.zeros(shape, bool)
    flat = mask.reshape(-1, height, width)
    flat[_planes(shape, plane)] = (y - row) ** 2 + (x - column) ** 2 <= radius**2
    return mask


def _planes(shape: tuple[int, ...], plane: int | None) -> slice:
    """Index of one plane among all planes of a result, or of all of them."""
    count = prod(shape[:-2])
    if plane is None:
        return slice(None)
    if not 0 <= plane < count:
        raise InputError(f"There is no plane {plane}; there are {count}.", "count planes from 0.")
    return slice(plane, plane + 1)


def _core(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape without leading axes of length 1."""
    first = next((k for k, length in enumerate(shape) if length > 1), len(shape))
    return shape[first:]


def _sums(
    result: Path, mask: Mask, above: float | None
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Sum of the posterior mean, sums (sample,), and numbers (sample,) of pixels above a value."""
    with open_result(result) as file:
        mean, samples = file["entry/data/data"], file["entry/samples/samples"]
        if len(samples) < 2:
            raise InputError(
                f"{result} has {len(samples)} sample; an interval needs two or more.",
                "run again with --samples 19 or more.",
            )
        total, sums, counts = 0.0, np.zeros(len(samples)), np.zeros(len(samples))
        for index, part in _parts(mask):
            total += float(mean[index][part].sum(dtype=np.float64))
            for k in range(len(samples)):  # one image in memory at a time
                values = samples[k, index][part]
                sums[k] += values.sum(dtype=np.float64)
                counts[k] += 0 if above is None else np.count_nonzero(values > above)
    return total, sums, counts


def _parts(mask: Mask) -> Iterator[tuple[int, Mask]]:
    """Position and mask of each slice that a region reaches."""
    return ((index, part) for index, part in enumerate(mask) if part.any())


def _figure(
    region: str, figure: str, unit: str, value: float, values: NDArray[np.float64], pixels: int
) -> RegionFigure:
    """Record of a figure from its values (sample,)."""
    rank, coverage = interval_ranks(len(values))
    ordered, std = np.sort(values), float(values.std(ddof=1))
    return RegionFigure(
        region, figure, unit, value, std, std / len(values) ** 0.5,
        float(ordered[rank - 1]), float(ordered[-rank]), coverage, len(values), pixels,
    )  # fmt: skip


def _pixel_size(result: Path) -> tuple[float, str]:
    """Volume of a voxel and its unit; 1 and ``px`` where not all axes of the image have one unit.

    The slice axis counts where it has a unit of length too; else the size is an area, or the
    volume of one voxel of a volume.
    """
    units, steps = list(read_axes(result).values()), read_steps(result)
    axes = [k for k in range(len(units)) if k or units[0] == units[-1]]
    names = {units[k] for k in axes}
    if len(names) > 1 or names <= {"", "px"}:
        return 1.0, "px"
    return prod(steps[k] for k in axes), f"{names.pop()}^{len(axes)}"
