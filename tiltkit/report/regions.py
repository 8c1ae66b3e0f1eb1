"""Figures of regions of a result, with intervals from the posterior samples.

The figure of a region is computed for each sample, and its interval lies between order statistics
of these values. Intervals of single pixels cannot give it, because the errors of neighbouring
pixels are correlated.

Samples with common ancestors count as copies of one another. Where ``n`` samples are worth ``e``
independent ones (`independent_samples` of the certificate), the interval is that of ``e`` distinct
values, ``n / e`` copies of each: wider, and with the coverage of ``e`` samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tiltkit.errors import InputError
from tiltkit.io.reading import (
    check_finished,
    open_result,
    read_axes,
    read_provenance,
    read_slice_diagnostics,
    read_units,
    result_shape,
)  # fmt: skip

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Region = NDArray[np.intp]

__all__ = [
    "RegionFigure", "check_independent", "independent_in_slice", "interval_ranks",
    "region_figure", "region_figures", "widening_factor",
]  # fmt: skip

# Probability that the intervals aim at.
_LEVEL = 0.9


@dataclass(frozen=True, slots=True)
class RegionFigure:
    """One figure of one region.

    Attributes:
        region: Name of the region.
        figure: ``mean``, ``sum`` or ``size above VALUE``.
        unit: Unit of the value; empty for arbitrary units.
        value: Figure of the posterior mean image; for sizes, the mean over samples.
        std: Standard deviation of the samples' figures, with Bessel's correction for `independent`
            samples.
        standard_error: Standard error of the mean of the samples' figures,
            ``std / sqrt(independent)``.
        low: Lower end of the interval.
        high: Upper end of the interval.
        coverage: Probability of the interval under a right posterior.
        samples: Number of samples.
        independent: Number of independent samples that they are worth: the least of the slices
            that the region reaches.
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
    independent: float
    pixels: int


def region_figures(
    result: Path, regions: Mapping[str, Region], above: float | None = None
) -> list[RegionFigure]:
    """Compute mean and sum of each region, and its size above a value.

    Args:
        result: A finished result file.
        regions: Positions of pixels in the flattened result (slices, *image), rising, by name.
        above: Threshold in the units of the result; None without sizes.

    Raises:
        InputError: The result cannot be read, is not finished, its samples are worth fewer than
            two independent ones, or a region is empty or holds values that are not finite.
    """
    check_finished(result)
    unit, (size, size_unit) = read_units(result), _pixel_size(result)
    found = []
    for name, region in regions.items():
        if not len(region):
            raise InputError(f"The region {name} has no pixels.", "give a region inside the image.")
    slices, *image = result_shape(result)
    pixels = prod(image)
    sums = _sums(result, list(regions.values()), pixels, above)
    samples = sums[1].shape[1]
    worths = [independent_in_slice(result, index, samples) for index in range(slices)]
    factors = [widening_factor(result, index) for index in range(slices)]
    for (name, region), total, values, counts in zip(regions.items(), *sums, strict=True):
        if not np.isfinite([total, *values]).all():
            raise InputError(
                f"The region {name} has pixels that are not finite.", "leave these pixels out."
            )
        count, reached = len(region), np.unique(region // pixels).tolist()
        worth = min(worths[index] for index in reached)
        factor = max(factors[index] for index in reached)
        check_independent(result, samples, worth)
        figures = {
            "mean": (unit, total / count, values / count),
            "sum": (f"{unit} {size_unit}".strip(), total * size, values * size),
        }
        if above is not None:
            sizes = counts * size
            figures[f"size above {above:g}"] = size_unit, float(sizes.mean()), sizes
        found += [
            region_figure(name, figure, *of, worth, count, factor) for figure, of in figures.items()
        ]
    return found


def widening_factor(result: Path, index: int) -> float:
    """Standard deviations that an interval of a slice reaches at least on both sides.

    This is the largest conformal factor of the calibration where it widened the intervals of the
    slice, and 0 elsewhere.
    """
    notes = read_slice_diagnostics(result, index).get("notes", ())
    if all(note.code != "intervals_widened" for note in notes):
        return 0.0
    return float(max(read_provenance(result)["calibration"]["factors"].values()))


def interval_ranks(samples: int, independent: float | None = None) -> tuple[int, float]:
    """Rank from either end of the interval's ends among the samples, and the coverage.

    The truth and ``e`` independent samples are exchangeable under a right posterior. The truth then
    lies between the ``k``-th smallest and the ``k``-th largest of them with probability
    ``(e + 1 - 2 k) / (e + 1)``. The largest ``k`` with at least 0.9 is taken, or 1 for few samples.
    Where each is there ``n / e`` times, the first copy of the ``k``-th has rank
    ``(k - 1) n / e + 1``.

    Args:
        samples: Number of samples ``n``.
        independent: Number of independent samples ``e`` that they are worth; ``n`` when None.
    """
    whole = int((samples if independent is None else independent) + 1e-9)
    k = max(1, int((1 - _LEVEL) / 2 * (whole + 1) + 1e-9))
    return int((k - 1) * samples / whole + 1e-9) + 1, (whole + 1 - 2 * k) / (whole + 1)


def independent_in_slice(result: Path, index: int, samples: int) -> float:
    """Number of independent samples that the samples of a slice are worth, to 3 decimals."""
    worth = float(read_slice_diagnostics(result, index).get("independent_samples", samples))
    # Rounding errors must not take a sample away.
    return min(round(worth, 3), float(samples))


def check_independent(result: Path, samples: int, worth: float) -> None:
    """Check that samples are worth two independent ones.

    Raises:
        InputError: They are not.
    """
    if worth < 2:
        several = f"{samples} samples worth {worth:.1f} independent ones"
        number = several if samples > 1 else "1 sample"
        raise InputError(
            f"{result} has {number}; an interval needs two or more.",
            "run again with --samples 19 or more.",
        )


def region_figure(
    region: str,
    figure: str,
    unit: str,
    value: float,
    values: NDArray[np.float64],
    worth: float,
    pixels: int,
    factor: float = 0.0,
) -> RegionFigure:
    """Record of a figure from its values (sample,).

    The interval contains ``value +- factor std`` unless the factor is 0; see `widening_factor`.
    """
    rank, coverage = interval_ranks(len(values), worth)
    ordered, std = np.sort(values), float(values.std() / (1 - 1 / worth) ** 0.5)
    low, high = float(ordered[rank - 1]), float(ordered[-rank])
    if factor:
        low, high = min(low, value - factor * std), max(high, value + factor * std)
    return RegionFigure(
        region, figure, unit, value, std, std / worth**0.5, low, high, coverage, len(values),
        worth, pixels,
    )  # fmt: skip


def _sums(
    result: Path, regions: Sequence[Region], pixels: int, above: float | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Sums of the posterior mean and of the samples, and numbers of pixels above a value.

    Args:
        result: A result file.
        regions: The regions.
        pixels: Pixels of a slice.
        above: The value; None for numbers of 0.

    Returns:
        Sums (region,) of the mean, sums (region, sample), numbers (region, sample).
    """
    with open_result(result) as file:
        mean, samples = file["entry/data/data"], file["entry/samples/samples"]
        totals = np.zeros(len(regions))
        sums, counts = np.zeros((2, len(regions), len(samples)))
        for index in range(len(mean)):
            parts = list(_parts(regions, index * pixels, (index + 1) * pixels))
            if not parts:
                continue
            image = mean[index].reshape(-1)
            for row, part in parts:
                totals[row] += image[part].sum(dtype=np.float64)
            for k in range(len(samples)):  # one image in memory at a time
                image = samples[k, index].reshape(-1)
                for row, part in parts:
                    values = image[part]
                    sums[row, k] += values.sum(dtype=np.float64)
                    counts[row, k] += 0 if above is None else np.count_nonzero(values > above)
    return totals, sums, counts


def _parts(regions: Sequence[Region], first: int, end: int) -> Iterator[tuple[int, Region]]:
    """Number of each region that reaches into a slice, and its positions there."""
    for row, region in enumerate(regions):
        inside = region[slice(*np.searchsorted(region, (first, end)))]
        if len(inside):
            yield row, inside - first


def _pixel_size(result: Path) -> tuple[float, str]:
    """Volume of a voxel and its unit; 1 and ``px`` where not all axes of the image have one unit.

    Slices have a thickness where there are several, at equal distances in the unit of the image.
    Elsewhere the size of a pixel of a slice is its area, that of a volume the volume of its voxels.
    """
    with open_result(result) as file:
        data = file["entry/data"]
        places = [data[name][:] for name in data.attrs["axes"]]
    units = list(read_axes(result).values())
    steps = [np.abs(np.diff(place)) if len(place) > 1 else np.ones(1) for place in places]
    thick = len(places[0]) > 1 and np.allclose(steps[0], steps[0][0], rtol=1e-3)
    axes = range(0 if thick and units[0] == units[-1] else 1, len(units))
    names = {units[k] for k in axes}
    if len(names) > 1 or names <= {"", "px"}:
        return 1.0, "px"
    return prod(float(steps[k][0]) for k in axes), f"{names.pop()}^{len(axes)}"
