"""Read the fastMRI layout: one dataset ``kspace`` at the root, with or without a mask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from tiltkit.errors import InputError
from tiltkit.io.opening import hdf5_file, open_hdf5
from tiltkit.problem import Note
from tiltkit_mri.array_scan import array_scan, array_scan_of_positions, image_shape
from tiltkit_mri.axes import find_axes
from tiltkit_mri.geometry import adapt_header, image_grid
from tiltkit_mri.header import parse_header, plain_text
from tiltkit_mri.kspace import KSpace

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FastMri", "stored_positions"]

# How many datasets of an unknown file an error message names.
_NAMED = 6


class FastMri:
    """Reader of single- and multi-coil files, of the training and of the test sets.

    Opening a file reads every slice once, one at a time, so that damaged values are found before
    any time is spent on sampling; nothing is kept. Columns may differ from slice to slice.
    """

    @staticmethod
    def matches(path: Path) -> bool:
        """True for a file with a dataset ``kspace`` at its root."""
        with hdf5_file(path) as file:
            return isinstance(file.get("kspace"), h5py.Dataset)

    @staticmethod
    @contextmanager
    def open(
        path: Path, axes: Sequence[str] = (), positions: NDArray[Any] | None = None
    ) -> Iterator[KSpace]:
        """Open a file read-only and check it.

        Args:
            path: The file.
            axes: Names of the axes of ``kspace`` in order; recognised when empty.
            positions: Positions of the samples, see `array_scan_of_positions`; when None those of
                a dataset ``trajectory`` or ``traj`` in the file.

        Raises:
            InputError: The file cannot be read, has another layout, or no slice that can be used.
        """
        with open_hdf5(path) as file:
            if positions is None:
                positions = stored_positions(file, path)
            if positions is None:
                yield _scan(file, path, axes)
            else:
                yield _scan_of_positions(file, positions, path, axes)


def _scan(file: h5py.File, path: Path, stated: Sequence[str]) -> KSpace:
    dataset = _kspace(file, path)
    usual = any(name in file for name in ("reconstruction_esc", "ismrmrd_header", "mask"))
    axes, assumed = find_axes(dataset, path, stated, usual=usual)
    taken = f"the axes are taken as {','.join(axes.names)}"
    shape = image_shape(axes, path, f"{taken}: name other ones with -s task.axes=...")
    header, notes = adapt_header(parse_header(_text(file.get("ismrmrd_header"))), shape)
    grid = image_grid(replace(header, recon=header.recon or _matrix(file)), shape)
    mask = _mask(file, path, shape)
    limits = _within(header.measured_columns, path, shape[1])
    marked = np.ones_like(limits) if mask is None else mask
    scan = array_scan(
        dataset, axes, path, "fastMRI", image=grid, limits=limits, mask=mask,
        notes=assumed + notes + _left_out(marked & ~limits),
    )  # fmt: skip
    return replace(scan, header=header, metadata=_metadata(file))


def _scan_of_positions(
    file: h5py.File, positions: NDArray[Any], path: Path, names: Sequence[str]
) -> KSpace:
    header = parse_header(_text(file.get("ismrmrd_header")))
    header = replace(header, recon=header.recon or _matrix(file))
    data = _kspace(file, path)
    layout = "HDF5 with trajectory"
    scan = array_scan_of_positions(data, positions, path, layout, header=header, names=names)
    return replace(scan, metadata=_metadata(file))


def stored_positions(file: h5py.File, path: Path) -> NDArray[Any] | None:
    """Positions of samples beside the k-space, or None."""
    found = next((file[name] for name in ("trajectory", "traj") if name in file), None)
    if found is None:
        return None
    if not isinstance(found, h5py.Dataset) or found.dtype.kind not in "iuf" or found.ndim < 2:
        raise InputError(
            f"The trajectory of {path} is no array of positions.",
            "store real numbers (readout, sample, 2).",
        )
    return np.asarray(found[()])


def _kspace(file: h5py.File, path: Path) -> h5py.Dataset:
    dataset = file.get("kspace")
    if not isinstance(dataset, h5py.Dataset):
        raise InputError(*_no_kspace(file, path))
    if 0 in dataset.shape:
        what = "slices" if dataset.shape and dataset.shape[0] == 0 else "samples"
        raise InputError(
            f"The k-space of {path} has no {what}: its shape is {dataset.shape}.",
            "check that the scan was saved completely.",
        )
    return dataset


def _no_kspace(file: h5py.File, path: Path) -> tuple[str, str]:
    """Message and hint for a file of another layout."""
    link = file.get("kspace", getlink=True)
    if isinstance(link, h5py.SoftLink | h5py.ExternalLink) and file.get("kspace") is None:
        target = f"{getattr(link, 'filename', '')} {link.path}".strip()
        return (
            f"The k-space of {path} is a link to {target}, which is not there.",
            "put the file that it points to in its place, or store the data itself.",
        )
    found: list[str] = []
    file.visititems(lambda name, item: found.append(name) if hasattr(item, "dtype") else None)
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    inside = f"its datasets are {', '.join(found[:_NAMED])}{more}" if found else "it is empty"
    return (
        f"{path} holds no k-space: {inside}.",
        "give a raw data file in the fastMRI layout, with a dataset 'kspace' at the root.",
    )


def _mask(file: h5py.File, path: Path, shape: tuple[int, int]) -> NDArray[np.bool_] | None:
    """Columns, or points (row, column), that the file's mask marks; None where it has none."""
    if "mask" not in file:
        return None
    mask = file.get("mask")
    if not isinstance(mask, h5py.Dataset) or mask.dtype.kind not in "biuf":
        kind = f"of type {mask.dtype}" if isinstance(mask, h5py.Dataset) else "no dataset"
        raise InputError(
            f"The mask of {path} is {kind}, it must hold numbers.",
            "give one number per column of k-space: 1 where it is measured, else 0.",
        )
    values = np.atleast_1d(np.squeeze(mask[()]))
    if values.shape not in (shape[1:], shape):
        raise InputError(
            f"The mask of {path} has shape {values.shape}, but its k-space has {shape[0]} rows and"
            f" {shape[1]} columns.",
            "give one value per column of k-space, or per row and column; where slices differ, give"
            " no mask and set to zero what is not measured.",
        )
    if not values.any():
        raise InputError(
            f"The mask of {path} marks no column as measured.", "set it for the measured columns."
        )
    return values.astype(np.bool_)


def _within(limits: tuple[int, int] | None, path: Path, columns: int) -> NDArray[np.bool_]:
    """Columns inside the limits that the header gives."""
    first, last = limits or (0, columns)
    inside = np.zeros(columns, dtype=np.bool_)
    inside[max(first, 0) : max(last, 0)] = True
    if not inside.any():
        raise InputError(
            f"The encoding limits in the header of {path} are columns {first} to {last - 1}, all"
            f" outside of its k-space with {columns} columns.",
            "correct the dataset 'ismrmrd_header', or leave it out.",
        )
    return inside


def _left_out(columns: NDArray[np.bool_]) -> tuple[Note, ...]:
    """A note on columns, or points, that the mask has and the header does not."""
    count = int(np.atleast_2d(columns).any(axis=0).sum())
    text = f"{count} columns are left out: the header says that they are zero filling."
    return (Note("columns_left_out", text),) if count else ()


def _matrix(file: h5py.File) -> tuple[int, int] | None:
    """Rows and columns of the reconstruction that the file holds, or None."""
    images = (file.get(name) for name in ("reconstruction_rss", "reconstruction_esc"))
    stored = [image.shape[-2:] for image in images
              if isinstance(image, h5py.Dataset) and image.ndim >= 2 and image.size]  # fmt: skip
    return stored[0] if stored else None


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
    return plain_text(np.asarray(item[()]).reshape(-1)[0])


def _plain(value: Any) -> Any:
    """An attribute as a plain Python value."""
    if isinstance(value, bytes):
        return plain_text(value)
    return value.item() if isinstance(value, np.generic) else value
