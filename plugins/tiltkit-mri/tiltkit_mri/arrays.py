"""Read k-space from plain arrays: BART's ``.cfl`` with ``.hdr``, and ``.npy``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiltkit.errors import InputError
from tiltkit.problem import Note
from tiltkit_mri.array_scan import array_scan, array_scan_of_positions, image_shape
from tiltkit_mri.axes import Axes, find_axes
from tiltkit_mri.geometry import Grid
from tiltkit_mri.kspace import KSpace
from tiltkit_mri.volume_array import volume_slices

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tiltkit_mri.axes import Array

__all__ = ["Cfl", "Npy", "open_cfl"]

# BART's dimensions by number; those without a name must have length 1.
_BART = {
    0: "row", 1: "column", 2: "partition", 3: "coil", 5: "echo", 10: "repetition", 11: "phase",
    13: "slice", 14: "average", 15: "batch",
}  # fmt: skip


class Cfl:
    """Reader of BART's format: complex numbers in ``.cfl``, dimensions in ``.hdr``.

    Dimensions are those of BART: 0 readout, 1 phase encoding, 2 partitions, 3 coils, 5 echoes,
    10 repetitions, 11 phases, 13 slices. Where the readout has length 1, as BART stores single
    images, rows are dimension 1 and columns dimension 2.
    """

    @staticmethod
    def matches(path: Path) -> bool:
        """True for a ``.cfl`` file with its ``.hdr``, or the other way round."""
        return path.suffix in (".cfl", ".hdr") and all(file.is_file() for file in _pair(path))

    @staticmethod
    @contextmanager
    def open(path: Path, positions: NDArray[Any] | None = None) -> Iterator[KSpace]:
        """Open both files read-only and check them.

        Args:
            path: Either file.
            positions: Positions of the samples, see `array_scan_of_positions`; None for Cartesian
                scans.

        Raises:
            InputError: The files do not belong together, or hold no k-space that can be used.
        """
        data, axes = _bart(path)
        if positions is not None:
            yield array_scan_of_positions(data, positions, path, "BART", names=axes.names)
            return
        yield _kspace(data, axes, path, "BART", ())


class Npy:
    """Reader of one complex array in numpy's format."""

    @staticmethod
    def matches(path: Path) -> bool:
        """True for a file with numpy's signature."""
        if path.suffix != ".npy" or not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(6) == b"\x93NUMPY"

    @staticmethod
    @contextmanager
    def open(
        path: Path, axes: Sequence[str] = (), positions: NDArray[Any] | None = None
    ) -> Iterator[KSpace]:
        """Open a file read-only and check it.

        Args:
            path: The file.
            axes: Names of the axes in order; recognised when empty.
            positions: Positions of the samples, see `array_scan_of_positions`; None for Cartesian
                scans.

        Raises:
            InputError: The file is damaged, or holds no k-space that can be used.
        """
        try:
            data = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise InputError(
                f"{path} is damaged or holds Python objects: {error}".splitlines()[0] + ".",
                "save a plain complex array with numpy.save.",
            ) from error
        if positions is not None:
            yield array_scan_of_positions(data, positions, path, "npy", names=axes)
            return
        found, notes = find_axes(data, path, axes, usual=False)
        yield _kspace(data, found, path, "npy", notes)


def _pair(path: Path) -> tuple[Path, Path]:
    return path.with_suffix(".cfl"), path.with_suffix(".hdr")


def open_cfl(path: Path) -> NDArray[np.complex64]:
    """The array of BART's ``.cfl`` and ``.hdr``, either of which is given; not read yet.

    Raises:
        InputError: The files do not belong together.
    """
    samples, header = _pair(path)
    dims = _dimensions(header)
    size, needed = samples.stat().st_size, 8 * math.prod(dims)
    if size != needed:
        raise InputError(
            f"{samples} has {size} bytes, but dimensions {dims} in {header.name} need {needed}.",
            "copy both files again: they do not belong together, or one is truncated.",
        )
    return np.memmap(samples, np.complex64, "r", shape=tuple(dims), order="F")


def _bart(path: Path) -> tuple[NDArray[np.complex64], Axes]:
    """The array without axes of length 1, rows and columns last, and its axes."""
    data, samples = open_cfl(path), _pair(path)[0]
    dims = list(data.shape)
    names = dict(_BART)
    if dims[0] == 1 and len(dims) > 2 and dims[2] > 1:
        names = {**names, 0: "readout", 1: "row", 2: "column"}
    unknown = [i for i, n in enumerate(dims) if n > 1 and i not in names]
    if unknown:
        raise InputError(
            f"{samples} has length {dims[unknown[0]]} in BART's dimension {unknown[0]}, which"
            " k-space has not: these seem to be coil maps or coefficients.",
            "give the k-space, with dimensions readout, phase encoding, partitions, coils.",
        )
    kept = [i for i, n in enumerate(dims) if n > 1 or names.get(i) in ("row", "column")]
    # Highest dimension first: images, coil, then row, column and partition.
    order = sorted(kept, key=lambda i: (i < 3, i if i < 3 else -i))
    gone = [i for i in range(len(dims)) if i not in kept]
    array = data.transpose([*order, *gone]).reshape([dims[i] for i in order], order="A")
    return array, Axes(tuple(names[i] for i in order), array.shape)


def _dimensions(header: Path) -> list[int]:
    """Dimensions that a ``.hdr`` file states, at least two."""
    lines = header.read_text(errors="replace")[:4096].splitlines()
    numbers = next((line for line in lines if line and not line.startswith("#")), "")
    try:
        dims = [int(word) for word in numbers.split()]
    except ValueError:
        dims = []
    if not dims or min(dims) < 1 or len(dims) > 16:
        raise InputError(
            f"{header} states no dimensions: {numbers[:40]!r}.",
            "write it with BART, or one line of whole numbers below '# Dimensions'.",
        )
    return dims + [1] * (2 - len(dims))


def _kspace(data: Array, axes: Axes, path: Path, layout: str, notes: tuple[Note, ...]) -> KSpace:
    """A scan without header: every point with data is measured."""
    taken = f"the axes are taken as {','.join(axes.names)}"
    data, axes, labels = volume_slices(data, axes, path)
    shape = image_shape(axes, path, f"{taken}: store rows and columns of one image as two axes.")
    scan = array_scan(data, axes, path, layout, image=Grid(shape, shape), notes=notes)
    return replace(scan, axes=labels)
