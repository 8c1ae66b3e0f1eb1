"""Order of the axes of a k-space array: stated, usual, or recognised from the data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from tiltkit.errors import InputError, UsageError
from tiltkit.problem import Note
from tiltkit_mri.masks import middle_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Array", "Axes", "find_axes", "parse_axes"]

# Axes of images that show the same at different times.
_FRAMES = ("repetition", "phase", "average", "frame", "time")
_COIL, _ROW, _COLUMN, _PAIR = "coil", "row", "column", "pair"
# Usual orders by number of dimensions; all axes before "coil" number images, the first slowest.
_USUAL = {
    2: ("row", "column"),
    4: ("slice", "coil", "row", "column"),
    5: ("repetition", "slice", "coil", "row", "column"),
    6: ("echo", "repetition", "slice", "coil", "row", "column"),
}
_HINT = (
    "name its axes in order, for example -s task.axes=slice,coil,row,column ('pair' is an axis of"
    " real and imaginary parts)."
)
# Singular values below this share of the largest do not count; see `_dependence`.
_SMALLEST = 0.02
# Share of the energy in the strongest eighth of an axis: more along an axis of k-space, less along
# one of coils. Axes with fewer entries than the least are no axis of k-space.
_PEAKED, _EVEN, _LEAST = 0.7, 0.6, 16
# Images whose magnitudes correlate more are repetitions.
_SAME = 0.98
# Coils of one slice depend on each other more than this, slices less. On six scans coils have
# 0.26 to 0.70, slices of a head 2 mm apart 0.85.
_COILS = 0.75


class Array(Protocol):
    """An HDF5 dataset, or an array of numpy."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""

    @property
    def dtype(self) -> Any:
        """Its type."""

    def __getitem__(self, key: Any) -> Any: ...


@dataclass(frozen=True)
class Axes:
    """Names of the axes of an array.

    Attributes:
        names: One name per axis: row, column, perhaps coil, perhaps pair; others number images.
        shape: Shape of the array.
    """

    names: tuple[str, ...]
    shape: tuple[int, ...]

    def size(self, name: str) -> int:
        """Length of an axis; 1 where there is none."""
        return self.shape[self.names.index(name)] if name in self.names else 1

    @property
    def image_axes(self) -> tuple[str, ...]:
        """Axes that number images, slowest first."""
        return tuple(n for n in self.names if n not in (_COIL, _ROW, _COLUMN, _PAIR))

    @property
    def images(self) -> tuple[int, ...]:
        """Lengths of these axes."""
        return tuple(self.size(name) for name in self.image_axes)

    @property
    def image_names(self) -> tuple[str, ...]:
        """A name of each image; none where images are slices alone."""
        if self.image_axes in ((), ("slice",)):
            return ()
        return tuple(
            ", ".join(f"{n} {i}" for n, i in zip(self.image_axes[::-1], where[::-1], strict=True))
            for where in np.ndindex(*self.images)
        )

    @property
    def image_places(self) -> tuple[int, ...]:
        """A number for each image; images with the same number differ in their frame only."""
        shape = [1 if name in _FRAMES else self.size(name) for name in self.image_axes]
        if tuple(shape) == self.images:
            return ()
        numbers = np.arange(math.prod(shape)).reshape(shape)
        return tuple(np.broadcast_to(numbers, self.images).ravel().tolist())

    def read(self, data: Array, index: int) -> NDArray[Any]:
        """Read image ``index`` as complex (coil, row, column)."""
        where = iter(np.unravel_index(index, self.images)) if self.images else iter(())
        key = tuple(int(next(where)) if n in self.image_axes else slice(None) for n in self.names)
        part = np.asarray(data[key])
        kept = [name for name in self.names if name not in self.image_axes]
        if _PAIR in kept:
            part = np.moveaxis(part, kept.index(_PAIR), -1)
            part = part[..., 0] + 1j * part[..., 1]
            kept.remove(_PAIR)
        if _COIL not in kept:
            part, kept = part[None], [_COIL, *kept]
        return part.transpose([kept.index(name) for name in (_COIL, _ROW, _COLUMN)])


def parse_axes(text: str) -> tuple[str, ...]:
    """Names from a setting: ``"slice,coil,row,column"``.

    Raises:
        UsageError: A name occurs twice, or row or column is missing.
    """
    names = tuple(name.strip() for name in text.split(","))
    if len(set(names)) < len(names) or not {_ROW, _COLUMN} <= set(names) or "" in names:
        raise UsageError(
            f"The axes '{text}' are no order of axes: each name must occur once, row and column"
            " among them.",
            "name all axes, for example task.axes=slice,coil,row,column.",
        )
    return names


def find_axes(
    data: Array, path: Path, stated: Sequence[str] = (), *, usual: bool
) -> tuple[Axes, tuple[Note, ...]]:
    """The axes of a k-space array, and a note where they are assumed.

    Args:
        data: The array.
        path: The file, for messages.
        stated: Names that the user gives; empty to recognise them.
        usual: The file has marks of the fastMRI layout, in which three axes are (slice, row,
            column).

    Raises:
        InputError: The array has no such axes, or is not complex.
    """
    shape = tuple(data.shape)
    if stated:
        if len(stated) != len(shape):
            raise InputError(
                f"The k-space of {path} has {len(shape)} dimensions, shape {shape}, but"
                f" {len(stated)} axes are named: {','.join(stated)}.",
                "name each axis once in task.axes.",
            )
        axes = Axes(tuple(stated), shape)
        _check_numbers(data, axes, path)
        return axes, ()
    pair = None if data.dtype.kind == "c" else _pair_axis(data, path)
    rest = [n for i, n in enumerate(shape) if i != pair]
    if len(rest) == 3:
        names, sure = _three(data, pair, usual)
    elif len(rest) == 4 and pair is None:
        names, sure = _four(data)
    elif len(rest) in _USUAL:
        names, sure = _USUAL[len(rest)], len(rest) == 4
    else:
        raise InputError(
            f"The k-space of {path} has {len(shape)} dimensions, shape {shape}.", _HINT
        )
    if pair is not None:
        names = (*names[:pair], _PAIR, *names[pair:])
    axes = Axes(names, shape)
    if sure and pair is None:
        return axes, ()
    text = f"The axes of k-space, shape {shape}, are taken as ({', '.join(names)})."
    return axes, (Note("axes_assumed", f"{text} Other ones: -s task.axes=...", assumed=True),)


def _check_numbers(data: Array, axes: Axes, path: Path) -> None:
    """Refuse real numbers without an axis of pairs."""
    has_pair = _PAIR in axes.names
    if (data.dtype.kind == "c") == has_pair or (has_pair and axes.size(_PAIR) != 2):
        raise InputError(
            f"The k-space of {path} has type {data.dtype} and shape {axes.shape}, which does not"
            f" fit the axes {','.join(axes.names)}.",
            "name an axis of length 2 'pair' where real and imaginary parts are apart, else none.",
        )


def _pair_axis(data: Array, path: Path) -> int:
    """The axis of real and imaginary parts: the last one if it has length 2, or else the first."""
    shape = tuple(data.shape)
    twos = [i for i, n in enumerate(shape) if n == 2]
    # Parts of complex numbers have both signs, magnitudes do not.
    if data.dtype.kind not in "fi" or not twos or not np.any(np.asarray(data[:1]) < 0):
        raise InputError(
            f"The k-space of {path} has type {data.dtype}, which is not complex, and shape"
            f" {shape} without an axis of real and imaginary parts.",
            "store complex numbers; magnitudes are not enough.",
        )
    return twos[-1] if twos[-1] == len(shape) - 1 else twos[0]


def _three(data: Array, pair: int | None, usual: bool) -> tuple[tuple[str, ...], bool]:
    """Names of three axes: slices of one coil, or coils of one slice."""
    slices, coils = ("slice", "row", "column"), ("coil", "row", "column")
    n = data.shape[0 if pair != 0 else 1]
    if usual or n == 1:
        return slices, True
    names = list(coils)
    if pair is not None:
        names.insert(pair, _PAIR)
    sample = Axes(tuple(names), tuple(data.shape)).read(data, 0)
    return (coils, False) if _dependence(sample[:8]) < _COILS else (slices, False)


def _four(data: Array) -> tuple[tuple[str, ...], bool]:
    """Names of four axes: the usual ones, unless the data contradict them.

    Coils on the last axis, for example, leave an axis of k-space in the place of the coils.
    """
    n_slices, n_coils = data.shape[:2]
    usual = _USUAL[4]
    if n_coils == 1 and n_slices > 1:
        slices = np.asarray(data[:8])[:, 0]
        coils = _dependence(slices) < _COILS and not _repeated(slices)
        return (("coil", "slice", "row", "column"), False) if coils else (usual, True)
    slice_ = np.asarray(data[n_slices // 2])
    if not np.isfinite(slice_).all():
        return usual, True
    energy = np.square(np.abs(slice_), dtype=np.float64)
    shares = [_strongest_share(energy.sum(axis=tuple({0, 1, 2} - {i}))) for i in range(3)]
    coil = int(np.argmin(shares))
    misplaced = coil > 0 and shares[0] > _PEAKED and shares[coil] < _EVEN
    if n_coils < _LEAST or not misplaced:
        return usual, True
    names = [_ROW, _COLUMN]
    names.insert(coil, _COIL)
    return ("slice", *names), False


def _strongest_share(profile: NDArray[np.float64]) -> float:
    """Share of the energy in the strongest eighth of a cyclic profile, entries side by side."""
    width = max(1, len(profile) // 8)
    sums = np.cumsum(np.concatenate([[0.0], profile, profile[: width - 1]]))
    return float((sums[width:] - sums[:-width]).max() / max(profile.sum(), 1e-300))


def _repeated(kspace: NDArray[Any]) -> bool:
    """True where the images of the first two entries (entry, row, column) are the same."""
    first, second = (np.abs(np.fft.ifft2(part)).ravel() for part in kspace[:2])
    return bool(np.corrcoef(first, second)[0, 1] > _SAME)


def _dependence(kspace: NDArray[Any], kernel: int = 5, block: int = 12) -> float:
    """Rank of the joint calibration matrix over the sum of the ranks of its parts.

    Patches at the centre of k-space of several coils are linearly dependent (Uecker et al.,
    ESPIRiT, 2014): the figure is near ``1 / len(kspace)``. Of different slices it is near 1. It is
    1 where the centre has too few samples.

    Args:
        kspace: (coil or slice, row, column).
        kernel: Side of a patch.
        block: Rows and columns on each side of the centre.
    """
    centre = middle_of(kspace, (kspace != 0).any(axis=(0, 1)), block)
    if min(centre.shape[1:]) < 2 * kernel or not np.isfinite(kspace).all():
        return 1.0
    patches = sliding_window_view(centre, (kernel, kernel), axis=(1, 2))
    parts = [part.reshape(-1, kernel**2) for part in patches]
    norms = [float(np.linalg.norm(part)) for part in parts]
    parts = [part / norm for part, norm in zip(parts, norms, strict=True) if norm > 0]
    if not parts:
        return 1.0
    return _rank(np.concatenate(parts, axis=1)) / sum(_rank(part) for part in parts)


def _rank(matrix: NDArray[Any]) -> int:
    values = np.linalg.svd(matrix, compute_uv=False)
    return int((values > _SMALLEST * values[0]).sum())
