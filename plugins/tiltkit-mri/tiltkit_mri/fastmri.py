"""Read the fastMRI layout: one dataset ``kspace`` at the root, with or without a mask."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from tiltkit.errors import InputError
from tiltkit.files import open_hdf5
from tiltkit_mri.header import Header, parse_header
from tiltkit_mri.kspace import KSpace

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FastMri"]

# How many datasets of an unknown file an error message names.
_NAMED = 6


class FastMri:
    """Reader of single- and multi-coil files, of the training and of the test sets.

    Opening a file reads every slice once, one at a time, so that damaged values are found before
    any time is spent on sampling; nothing is kept.
    """

    @staticmethod
    def matches(path: Path) -> bool:
        """Whether there is a dataset ``kspace`` at the root."""
        with h5py.File(path, "r") as file:
            return isinstance(file.get("kspace"), h5py.Dataset)

    @staticmethod
    @contextmanager
    def open(path: Path) -> Iterator[KSpace]:
        """Open a file read-only and check it.

        Raises:
            InputError: The file cannot be read, has another layout, or holds unusable values.
        """
        with open_hdf5(path) as file:
            yield _scan(file, path)


def _scan(file: h5py.File, path: Path) -> KSpace:
    dataset = _kspace(file, path)
    n_slices, (rows, columns) = dataset.shape[0], dataset.shape[-2:]
    header = parse_header(_text(file.get("ismrmrd_header")))

    def read(index: int) -> NDArray[np.complex64]:
        data = np.asarray(dataset[index], dtype=np.complex64)
        return data if data.ndim == 3 else data[None]

    measured = _mask(file, path, columns) & _filled(read, n_slices, columns, path)
    measured &= _within(header.measured_columns, columns)
    if not measured.any():
        raise InputError(
            f"{path} has no measured column: the mask and the k-space do not overlap.",
            "check that mask and k-space belong together.",
        )
    return KSpace(
        path=path,
        n_slices=n_slices,
        n_coils=dataset.shape[1] if dataset.ndim == 4 else 1,
        shape=(rows, columns),
        columns=measured,
        recon=_recon(file, header, (rows, columns)),
        read=read,
        header=header,
        metadata=_metadata(file),
    )


def _kspace(file: h5py.File, path: Path) -> h5py.Dataset:
    dataset = file.get("kspace")
    if not isinstance(dataset, h5py.Dataset):
        raise InputError(*_no_kspace(file, path))
    if dataset.ndim not in (3, 4):
        raise InputError(
            f"The k-space of {path} has {dataset.ndim} dimensions, shape {dataset.shape}.",
            "store it as (slice, coil, row, column), or (slice, row, column) for one coil.",
        )
    if dataset.dtype.kind != "c":
        raise InputError(
            f"The k-space of {path} has type {dataset.dtype}, which is not complex.",
            "store complex numbers, not magnitudes or separate real and imaginary parts.",
        )
    if 0 in dataset.shape:
        what = "slices" if dataset.shape[0] == 0 else "samples"
        raise InputError(
            f"The k-space of {path} has no {what}: its shape is {dataset.shape}.",
            "check that the scan was saved completely.",
        )
    return dataset


def _no_kspace(file: h5py.File, path: Path) -> tuple[str, str]:
    """Message and hint for a file of another layout."""
    if any(isinstance(g, h5py.Group) and {"xml", "data"} <= set(g) for g in file.values()):
        return (
            f"{path} has the ISMRMRD raw data layout, which is not supported yet.",
            "convert it to the fastMRI layout: a complex dataset 'kspace' at the root.",
        )
    found: list[str] = []
    file.visititems(lambda name, item: found.append(name) if hasattr(item, "dtype") else None)
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    inside = f"its datasets are {', '.join(found[:_NAMED])}{more}" if found else "it is empty"
    return (
        f"{path} holds no k-space: {inside}.",
        "give a raw data file in the fastMRI layout, with a dataset 'kspace' at the root.",
    )


def _mask(file: h5py.File, path: Path, columns: int) -> NDArray[np.bool_]:
    """Columns that the file says are measured: all of them where it has no mask."""
    if "mask" not in file:
        return np.ones(columns, dtype=np.bool_)
    mask = np.atleast_1d(np.squeeze(file["mask"][()]))
    if mask.shape != (columns,):
        raise InputError(
            f"The mask of {path} has shape {mask.shape}, but its k-space has {columns} columns.",
            "give one value per column of k-space.",
        )
    if mask.dtype.kind not in "biuf" or not mask.any():
        raise InputError(
            f"The mask of {path} marks no column as measured.", "set it for the measured columns."
        )
    return mask.astype(np.bool_)


def _filled(read: Any, n_slices: int, columns: int, path: Path) -> NDArray[np.bool_]:
    """Columns that are not zero everywhere; checks all values on the way."""
    filled = np.zeros(columns, dtype=np.bool_)
    for index in range(n_slices):
        data = read(index)
        bad = data.size - int(np.isfinite(data).sum())
        if bad:
            raise InputError(
                f"The k-space of {path} has {bad} NaN or infinite values in slice {index}.",
                "export the scan again; setting them to zero would hide a fault.",
            )
        some = (data != 0).any(axis=(0, 1))
        if not some.any():
            raise InputError(
                f"The k-space of {path} is zero everywhere in slice {index}.",
                "check that the scan was saved completely.",
            )
        filled |= some
    return filled


def _within(limits: tuple[int, int] | None, columns: int) -> NDArray[np.bool_]:
    """Columns inside the limits that the header gives."""
    inside = np.ones(columns, dtype=np.bool_)
    if limits is not None:
        inside[: max(limits[0], 0)] = False
        inside[max(limits[1], 0) :] = False
    return inside


def _recon(file: h5py.File, header: Header, shape: tuple[int, int]) -> tuple[int, int]:
    """Size of the image: from the header, or the file's own reconstruction, or k-space."""
    stored = [file[name].shape[-2:] for name in ("reconstruction_rss", "reconstruction_esc")
              if name in file]  # fmt: skip
    rows, columns = header.recon or (stored[0] if stored else shape)
    if shape[1] < columns:  # fastMRI's own rule for narrow scans
        rows = columns = shape[1]
    return min(rows, shape[0]), columns


def _metadata(file: h5py.File) -> dict[str, Any]:
    """Header and attributes, for the result to carry."""
    metadata: dict[str, Any] = {name: _plain(value) for name, value in file.attrs.items()}
    if header := _text(file.get("ismrmrd_header")):
        metadata["ismrmrd_header"] = header
    return metadata


def _text(item: Any) -> str:
    """A stored string, whatever way it is stored; empty where there is none."""
    if not isinstance(item, h5py.Dataset) or item.size != 1:
        return ""
    value = np.asarray(item[()]).reshape(-1)[0]
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _plain(value: Any) -> Any:
    """An attribute as a plain Python value."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value.item() if isinstance(value, np.generic) else value
