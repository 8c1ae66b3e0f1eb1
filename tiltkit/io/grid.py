"""Volumes on one grid, made of the slices of a result."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tiltkit.errors import InputError
from tiltkit.io.places import Places
from tiltkit.io.reading import result_shape

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Grid", "make_grid"]

# Most planes of a volume, those between the slices included.
_MOST_PLANES = 2048
# Slices may be off their common grid by so much of a voxel.
_TOLERANCE = 0.05


@dataclass(frozen=True, slots=True)
class Grid:
    """Volumes on one grid, made of slices.

    Attributes:
        affine: Matrix (4, 4) from (column, row, plane) to coordinates in mm.
        shape: Columns, rows, planes and volumes.
        plane: Plane of each slice.
        volume: Volume of each slice.
        names: Names of the volumes; empty for a single one.
        whole: Whether each slice of the result is a whole volume.
    """

    affine: NDArray[np.float64]
    shape: tuple[int, int, int, int]
    plane: NDArray[np.intp]
    volume: NDArray[np.intp]
    names: tuple[str, ...]
    whole: bool = False

    def slices(self, volume: int) -> list[int | None]:
        """The slices of a volume in order of its planes; None where there is none."""
        if self.whole:
            return [volume]
        found: list[int | None] = [None] * self.shape[2]
        for index in np.flatnonzero(self.volume == volume):
            found[self.plane[index]] = int(index)
        return found


def make_grid(places: Places, result: Path) -> Grid:
    """Find the grid on which all slices lie.

    Slices of a subset leave planes between them empty. Slices at the same position are volumes of
    their own.

    Raises:
        InputError: Slices have different directions or pixel sizes, or irregular distances.
    """
    shape = result_shape(result)
    columns, rows = shape[-1], shape[-2] if len(shape) > 2 else 1
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 3] = places.right[0], places.down[0], places.first[0]
    names = tuple(dict.fromkeys(places.volumes))
    if len(shape) > 3:
        affine[:3, 2] = places.across[0]
        number = np.arange(shape[0])
        size = (columns, rows, shape[1], shape[0])
        several = names if shape[0] > 1 else ()
        return Grid(affine, size, np.zeros(shape[0], int), number, several, whole=True)
    _check_parallel(places, (columns, rows), result)
    plane, step = _planes(places, result)
    affine[:3, 2] = step
    affine[:3, 3] -= plane[0] * step
    volume = np.array([names.index(name) for name in places.volumes])
    if len(set(zip(plane, volume, strict=True))) < len(plane):
        # Several slices at one position: nothing states which belong together, but their order.
        volume = _repeats(plane)
        names = tuple(f"image {i}" for i in range(volume.max() + 1))
    size = (columns, rows, int(plane.max()) + 1, int(volume.max()) + 1)
    return Grid(affine, size, plane, volume, names if size[3] > 1 else ())


def _check_parallel(places: Places, shape: tuple[int, int], result: Path) -> None:
    """Refuse slices with different directions or pixel sizes: the far corners must agree."""
    corners = shape[0] * places.right, shape[1] * places.down
    limit = min(np.linalg.norm(places.right[0]), np.linalg.norm(places.down[0])) / 2
    same = [
        all(np.linalg.norm(corner[i] - corner[0]) < limit for corner in corners)
        for i in range(len(places.first))
    ]
    if not all(same):
        numbers = [n for n, here in zip(places.numbers, same, strict=True) if here]
        raise InputError(
            f"The slices of {result.name} have different directions or pixel sizes, and NIfTI has"
            f" one for all; slices {', '.join(map(str, numbers))} agree.",
            "choose slices that agree with --slices, or write DICOM.",
        )


def _planes(places: Places, result: Path) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Plane of each slice, counted from 0, and the step from plane to plane."""
    offsets = places.first - places.first[0]
    normal = np.cross(places.right[0], places.down[0])
    normal /= np.linalg.norm(normal)
    if places.across[0] @ normal < 0:
        normal = -normal
    distance = offsets @ normal
    thickness = float(np.linalg.norm(places.across[0]))
    gap = _common_gap(np.diff(np.unique(distance)), _TOLERANCE * thickness)
    if gap is None:
        return np.zeros(len(distance), int), normal * thickness
    number = np.rint(distance / gap)
    if distance[-1] < distance[0]:
        number, gap = -number, -gap
    step = offsets.T @ number / (number @ number)
    pixel = min(np.linalg.norm(places.right[0]), np.linalg.norm(places.down[0]), abs(gap))
    off = np.linalg.norm(offsets - number[:, None] * step, axis=1).max() / pixel
    plane = (number - number.min()).astype(int)
    if off > 2 * _TOLERANCE or plane.max() >= _MOST_PLANES:
        raise InputError(
            f"The slices of {result.name} have irregular distances, and NIfTI has one distance for"
            " all.",
            "choose slices at equal distances with --slices, or write DICOM.",
        )
    return plane, step


def _common_gap(gaps: NDArray[np.float64], tolerance: float) -> float | None:
    """The largest distance of which all gaps are multiples, about; None without gaps."""
    common: float | None = None
    for gap in gaps[gaps > tolerance]:
        a, b = max(common or gap, gap), min(common or gap, gap)
        while b > tolerance:
            a, b = b, abs(a - round(a / b) * b)
        common = float(a)
    return common


def _repeats(plane: NDArray[np.intp]) -> NDArray[np.intp]:
    """For each slice, the number of earlier slices in the same plane."""
    return np.array([int((plane[:i] == one).sum()) for i, one in enumerate(plane)])
