"""Scans with samples anywhere in k-space: units of their positions, grid of their image."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiltkit.errors import InputError
from tiltkit.problem import Note
from tiltkit_mri.geometry import image_grid
from tiltkit_mri.header import Header
from tiltkit_mri.kspace import KSpace
from tiltkit_mri.samples import check_samples

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["in_cycles_per_pixel", "points_near_samples", "positions_of", "trajectory_scan"]

# Positions reach the edge of k-space, 0.5 cycles per pixel, within this share.
_EDGE = 0.06
# Positions that reach less than this share of the edge are taken for other units.
_LEAST = 0.2
# Sides of an image, in pixels.
_SMALLEST, _LARGEST = 8, 2**12

Read = Callable[[int], "tuple[NDArray[np.complex64], NDArray[np.float32]]"]


def trajectory_scan(
    read: Read, count: int, header: Header, path: Path, layout: str, notes: tuple[Note, ...] = ()
) -> KSpace:
    """The scan, with every slice checked.

    The image has the pixels of the encoded matrix and the field of view of the reconstruction;
    readout oversampling only adds samples.

    Args:
        read: Reads the samples (coil, sample) of a slice and their positions (2, sample), along
            rows and along columns, in the units of the file.
        count: Number of slices.
        header: Geometry. Without a matrix it is that of positions in cycles per field of view.
        path: The file.
        layout: Name of the file layout, for people.
        notes: Notes on the file, before those on its positions.

    Raises:
        InputError: No slice can be used, or positions have unknown units.
    """
    positions: list[NDArray[np.float32]] = []
    kept: list[NDArray[np.bool_]] = []
    found: dict[str, Note] = {}
    unusable: dict[int, str] = {}
    faults = []
    shape = _shape(header)
    for index in range(count):
        nothing = np.zeros((2, 0), np.float32)
        try:
            samples, values = read(index)
            if shape is None:
                shape = _shape_of(values, path)
            scaled, units = in_cycles_per_pixel(values, shape, header, path)
            inside = np.asarray((np.abs(scaled) <= 0.5).all(axis=0))
            check_samples(samples[:, None], np.ones((1, samples.shape[1]), np.bool_), path, index,
                          axes_known=True)  # fmt: skip
            found.update({note.code: note for note in (units, *_notes_on_samples(inside, samples))})
        except InputError as fault:
            unusable[index] = fault.message
            faults.append(fault)
            scaled, inside = nothing, np.ones(0, np.bool_)
        positions.append(np.ascontiguousarray(scaled[:, inside]))
        kept.append(inside)
    if len(unusable) == count:
        raise faults[0]
    assert shape is not None  # noqa: S101
    size = shape
    geometry = replace(header, encoded=size, encoded_fov=_field_of_view(header, size))
    n_coils = len(samples)

    def samples_of(index: int) -> NDArray[np.complex64]:
        if index in unusable:
            raise InputError(unusable[index], "leave it out with --slices.")
        return np.ascontiguousarray(read(index)[0][:, kept[index]])

    usable = np.array([[index not in unusable] for index in range(count)])
    return KSpace(
        path=path,
        n_slices=count,
        n_coils=n_coils,
        shape=size,
        columns=np.repeat(usable, size[1], axis=1),
        image=image_grid(geometry, size),
        read=samples_of,
        layout=layout,
        header=replace(geometry, centre=None, maximum=None),
        notes=(*notes, *found.values()),
        unusable=unusable,
        points=lambda index: points_near_samples(positions[index], size),
        trajectory=positions.__getitem__,
    )


def points_near_samples(trajectory: NDArray[Any], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Points of the Cartesian grid (row, column) with a sample within half a step.

    Args:
        trajectory: Positions (2, sample) in cycles per pixel.
        shape: Rows and columns.
    """
    size = np.array(shape)[:, None]
    place = np.rint(trajectory * size).astype(np.intp) + size // 2
    points = np.zeros(shape, dtype=np.bool_)
    inside = ((place >= 0) & (place < size)).all(axis=0)
    points[place[0, inside], place[1, inside]] = True
    return points


def in_cycles_per_pixel(
    values: NDArray[Any], shape: tuple[int, int], header: Header, path: Path
) -> tuple[NDArray[np.float32], Note]:
    """Positions in cycles per pixel, and a note on the units that they are taken to be in.

    The units are those in which the positions reach the edge of k-space.

    Args:
        values: Positions (2, sample) in the units of the file.
        shape: Rows and columns of the image.
        header: Geometry.
        path: The file, for messages.

    Raises:
        InputError: Positions are not finite, or reach the edge in no known units.
    """
    if not np.isfinite(values).all():
        raise InputError(
            f"The trajectory of {path} has {values.size - np.isfinite(values).sum()} positions that"
            " are not finite.",
            "export the scan again.",
        )
    reach = float(np.abs(values).max(initial=0))
    units = list(_units(shape, header))
    fits = [(abs(2 * reach * max(factor) - 1) <= _EDGE, name, factor) for name, factor in units]
    certain = next((fit for fit in fits if fit[0]), None)
    if certain is None:  # a scan of lower resolution than its pixels
        low = [fit for fit in fits[:2] if _LEAST <= 2 * reach * max(fit[2]) <= 1]
        if not low:
            raise InputError(
                f"The positions of the trajectory of {path} reach {reach:.4g}, the edge of k-space"
                f" of {shape[0]} x {shape[1]} pixels in none of the known units"
                f" ({', '.join(name for name, _ in units)}).",
                "store positions in cycles per pixel, from -0.5 to 0.5.",
            )
        certain = low[0]
    sure, name, factor = certain
    text = f"Positions in k-space reach {reach:.4g} and are taken to be in {name}."
    if not sure:
        text += " They end before the edge of k-space: the image is blurred, or the units differ."
    scaled = (values * np.array(factor)[:, None]).astype(np.float32)
    return scaled, Note("trajectory_units", text, assumed=not sure)


def _units(
    shape: tuple[int, int], header: Header
) -> Iterator[tuple[str, tuple[float, float]]]:  # fmt: skip
    """Names of units, and their factors to cycles per pixel along rows and columns."""
    yield "cycles per pixel", (1.0, 1.0)
    yield "cycles per field of view", (1 / shape[0], 1 / shape[1])
    if header.encoded and header.encoded != shape:
        encoded = header.encoded
        yield "cycles per encoded field of view", (1 / encoded[0], 1 / encoded[1])
    yield "radians per pixel", (0.5 / math.pi, 0.5 / math.pi)
    fov = _field_of_view(header, shape)
    if fov:
        pixel = fov[0] / shape[0], fov[1] / shape[1]
        yield "cycles per mm", pixel
        yield "cycles per m", (pixel[0] / 1000, pixel[1] / 1000)


def _notes_on_samples(inside: NDArray[np.bool_], samples: NDArray[np.complex64]) -> Iterator[Note]:
    if not inside.all():
        text = f"{(~inside).sum()} samples beyond the edge of k-space are left out."
        yield Note("samples_left_out", text)
    empty = int((samples == 0).all(axis=1).sum())
    if empty:
        text = (
            f"Coils without any data are left out, {empty} of a slice: check that the scan was"
            " saved completely."
        )
        yield Note("coils_empty", text, assumed=True)


def _shape(header: Header) -> tuple[int, int] | None:
    """Rows and columns of the image: the pixels of the encoded matrix, the reconstruction's view.

    None where the header has no matrix.
    """
    matrix = header.recon or header.encoded
    if matrix is None or header.encoded is None:
        return matrix
    if header.recon_fov is None or header.encoded_fov is None:
        return min(matrix[0], header.encoded[0]), min(matrix[1], header.encoded[1])
    rows, columns = (
        max(1, round(n * mine / whole))
        for n, mine, whole in zip(header.encoded, header.recon_fov, header.encoded_fov, strict=True)
    )
    return rows, columns


def _field_of_view(header: Header, shape: tuple[int, int]) -> tuple[float, float] | None:
    """Height and width of the image in mm, with the encoded pixels; None if unknown."""
    if header.recon_fov or not (header.encoded_fov and header.encoded):
        return header.recon_fov
    (height, width), (rows, columns) = header.encoded_fov, header.encoded
    return height * shape[0] / rows, width * shape[1] / columns


def _shape_of(values: NDArray[Any], path: Path) -> tuple[int, int]:
    """A square image that positions in cycles per field of view reach the edge of."""
    side = 2 * round(float(np.nan_to_num(np.abs(values)).max(initial=0)))
    if not _SMALLEST <= side <= _LARGEST:
        raise InputError(
            f"{path} states no matrix, and the positions of its trajectory, which reach"
            f" {side / 2:.4g}, are in no cycles per field of view.",
            "give them in cycles per field of view, from -N/2 to N/2 for N x N pixels.",
        )
    return side, side


def positions_of(values: Sequence[NDArray[np.float32]], path: Path) -> NDArray[np.float32]:
    """Positions (2, sample) of readouts (sample, dimension): x along rows, y along columns.

    Args:
        values: Positions of each readout. A third dimension may hold weights for gridding.
        path: The file, for messages.

    Raises:
        InputError: Positions are missing, or have three dimensions.
    """
    dimensions = {part.shape[1] for part in values}
    if len(dimensions) != 1 or not dimensions <= {2, 3}:
        found = ", ".join(map(str, sorted(dimensions)))
        raise InputError(
            f"The trajectory of {path} has {found} dimensions; images need 2.",
            "store the positions (x, y) of each sample.",
        )
    together = np.concatenate(values)
    if together.shape[1] == 3 and (together[:, 2] < 0).any():
        raise InputError(
            f"The trajectory of {path} has three dimensions, which is not supported.",
            "transform a stack of stars or spirals along its partitions first.",
        )
    return np.ascontiguousarray(together[:, :2].T)
