"""Arrays of volumes, transformed along one axis and so cut into slices."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiltkit.errors import InputError
from tiltkit_mri.axes import Array, Axes
from tiltkit_mri.kspace import SLICE_AXES, VOLUME_AXES
from tiltkit_mri.slicing import ifft_along

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["volume_slices"]

# Bytes of slices that are computed and kept together.
_KEPT_BYTES = 2**29


def volume_slices(data: Array, axes: Axes, path: Path) -> tuple[Array, Axes, tuple[str, str, str]]:
    """Slices of volumes, where there are partitions; otherwise the array as it is.

    Where all partitions of the columns with data are measured, slices are partitions. Otherwise
    they are positions along the readout; rows are then the columns of the volume, and columns its
    partitions.

    Args:
        data: k-space.
        axes: Its axes.
        path: The file, for messages.

    Returns:
        An array and its axes, without partitions, and names of the axes for labels.

    Raises:
        InputError: Real and imaginary parts are apart.
    """
    if axes.size("partition") == 1:
        return data, axes, SLICE_AXES
    if "pair" in axes.names:
        raise InputError(
            f"{path} holds volumes with real and imaginary parts apart.", "store complex numbers."
        )
    number = "position" if "slice" in axes.names else "slice"
    measured = _measured(data, axes)
    if (measured.all(axis=-1) == measured.any(axis=-1)).all():
        names, axis, labels = {"partition": number}, "partition", SLICE_AXES
    else:
        names = {"row": number, "column": "row", "partition": "column"}
        axis, labels = "row", VOLUME_AXES
    cut = Axes(tuple(names.get(name, name) for name in axes.names), axes.shape)
    coil = axes.names.index("coil") if "coil" in axes.names else None
    return _Transformed(data, axes.names.index(axis), coil), cut, labels


def _measured(data: Array, axes: Axes) -> NDArray[np.bool_]:
    """Points (..., column, partition) with data in the middle of the readout."""
    middle = tuple(axes.size("row") // 2 if name == "row" else slice(None) for name in axes.names)
    kept = [name for name in axes.names if name != "row"]
    found = np.asarray(data[middle]) != 0
    if "coil" in kept:
        found = found.any(axis=kept.index("coil"))
        kept.remove("coil")
    last = [kept.index("column"), kept.index("partition")]
    moved: NDArray[np.bool_] = np.moveaxis(found, last, (-2, -1))
    return moved


@dataclass
class _Transformed:
    """An array with one axis of k-space transformed to image space.

    Attributes:
        data: The array.
        axis: Number of the axis; it is indexed by one number.
        coil: Axis that is read one index after the other, to save memory; None where there is none.
    """

    data: Array
    axis: int
    coil: int | None
    _kept: tuple[Any, NDArray[np.complex64]] | None = field(default=None, init=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.data.shape

    @property
    def dtype(self) -> Any:
        """Type of the values."""
        return np.dtype(np.complex64)

    def __getitem__(self, key: tuple[int | slice, ...]) -> NDArray[np.complex64]:
        """One slice; slices next to it are computed with it."""
        number = key[self.axis]
        assert isinstance(number, int)  # noqa: S101
        taken = [n if isinstance(k, slice) else 1 for n, k in zip(self.shape, key, strict=True)]
        step = max(1, _KEPT_BYTES // (8 * int(np.prod(taken))))
        first = number // step * step
        place = (*key[: self.axis], slice(first, first + step), *key[self.axis + 1 :])
        if self._kept is None or self._kept[0] != place:
            self._kept = place, self._read(place)
        return np.asarray(np.take(self._kept[1], number - first, axis=self._axis(place)))

    def _axis(self, key: tuple[Any, ...]) -> int:
        """Number of the transformed axis in an array without the axes that have one index."""
        return sum(isinstance(k, slice) for k in key[: self.axis])

    def _read(self, key: tuple[Any, ...]) -> NDArray[np.complex64]:
        """Some slices, transformed."""
        axis, wanted = self._axis(key), key[self.axis]
        whole = (*key[: self.axis], slice(None), *key[self.axis + 1 :])
        if self.coil is None:
            return _cut(ifft_along(np.asarray(self.data[whole]), axis), axis, wanted)
        coils = []
        for coil in range(self.shape[self.coil]):
            one = (*whole[: self.coil], slice(coil, coil + 1), *whole[self.coil + 1 :])
            coils.append(_cut(ifft_along(np.asarray(self.data[one]), axis), axis, wanted))
        return np.concatenate(coils, axis=sum(isinstance(k, slice) for k in key[: self.coil]))


def _cut(values: NDArray[np.complex64], axis: int, wanted: slice) -> NDArray[np.complex64]:
    return values[(slice(None),) * axis + (wanted,)].copy()
