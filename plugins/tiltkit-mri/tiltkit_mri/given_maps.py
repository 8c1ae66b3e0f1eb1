"""Coil maps, and positions of samples in k-space, from a file of their own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from tiltkit.errors import InputError
from tiltkit.io.opening import open_hdf5
from tiltkit_mri.arrays import open_cfl
from tiltkit_mri.fastmri import stored_positions
from tiltkit_mri.masks import whole_columns

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tiltkit_mri.kspace import KSpace

__all__ = ["read_maps", "read_positions"]

# Name of the dataset with maps; another one is taken where no other in the file is complex.
_DATASET = "maps"


def read_maps(path: Path, scan: KSpace, index: int) -> NDArray[np.complex64]:
    """Maps (coil, row, column) of one slice of a scan, in the file's units.

    Rows are those of k-space, or those of the image without readout oversampling; the result has
    the latter, but the former where the scan has rows or single points left out.
    A file with maps of one slice serves all slices.

    Args:
        path: BART's ``.cfl``, numpy's ``.npy``, or HDF5: an array (coil, row, column) or
            (slice, coil, row, column).
        scan: The scan.
        index: Slice number.

    Raises:
        InputError: The file cannot be read, or its maps do not belong to the scan.
    """
    maps = _read(path, index, scan)
    rows, columns = scan.recon[0], scan.shape[1]
    if not whole_columns(scan.mask(index)):
        rows = scan.shape[0]
    allowed = {(scan.n_coils, n, columns) for n in (scan.shape[0], rows)}
    if maps.shape not in allowed:
        shapes = " or ".join(" x ".join(map(str, shape)) for shape in sorted(allowed))
        raise InputError(
            f"The coil maps of {path} are {' x '.join(map(str, maps.shape))}, coils first, but"
            f" {scan.path} needs {shapes}.",
            "give maps of the same coils on the grid of k-space, or leave task.maps out.",
        )
    if not np.isfinite(maps).all() or not maps.any():
        what = "zero everywhere" if np.isfinite(maps).all() else "not finite everywhere"
        raise InputError(
            f"The coil maps of {path} are {what}.", "make them again, or leave task.maps out."
        )
    first = (maps.shape[1] - rows) // 2
    return np.array(maps[:, first : first + rows], dtype=np.complex64)


def read_positions(path: Path) -> NDArray[Any]:
    """Positions of samples, with an axis of length 2 or 3, as the file has them.

    Args:
        path: BART's ``.cfl``, numpy's ``.npy``, or HDF5 with a dataset ``trajectory`` or ``traj``.

    Raises:
        InputError: The file cannot be read, or holds no positions.
    """
    if not path.is_file():
        raise InputError(
            f"There is no file {path} with positions of samples.",
            "correct task.trajectory; name the file with its ending.",
        )
    if path.suffix in (".cfl", ".hdr"):
        return np.asarray(open_cfl(path))
    if path.suffix == ".npy":
        return np.asarray(_numpy(path))
    with open_hdf5(path) as file:
        found = stored_positions(file, path)
    if found is None:
        raise InputError(
            f"{path} has no dataset 'trajectory' or 'traj'.",
            "store positions of samples (readout, sample, 2) as 'trajectory'.",
        )
    return found


def _numpy(path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise InputError(
            f"{path} is damaged, or no plain array of numpy.", "save one array with numpy.save."
        ) from error
    return array


def _read(path: Path, index: int, scan: KSpace) -> NDArray[Any]:
    """Maps of a slice, with the rows that the file has."""
    if not path.is_file():
        raise InputError(
            f"There is no file {path} with coil maps.",
            "correct task.maps; name the file with its ending.",
        )
    if path.suffix in (".cfl", ".hdr"):
        return _of_slice(_bart(path), index, scan, path)
    if path.suffix == ".npy":
        return _of_slice(_numpy(path), index, scan, path)
    with open_hdf5(path) as file:
        return _of_slice(_dataset(file, path), index, scan, path)


def _of_slice(array: Any, index: int, scan: KSpace, path: Path) -> NDArray[Any]:
    """One slice of an array (coil, row, column) or (slice, coil, row, column)."""
    if array.dtype.kind != "c" or array.ndim not in (3, 4):
        raise InputError(
            f"The coil maps of {path} have type {array.dtype} and shape {array.shape}.",
            "give a complex array (coil, row, column) or (slice, coil, row, column).",
        )
    if array.ndim == 3:
        return np.asarray(array[()])
    if len(array) not in (1, scan.n_slices):
        raise InputError(
            f"The coil maps of {path} are of {len(array)} slices, but {scan.path} has"
            f" {scan.n_slices}.",
            "give maps of all slices, or of one for all of them.",
        )
    return np.asarray(array[0 if len(array) == 1 else index])


def _bart(path: Path) -> NDArray[np.complex64]:
    """Maps of BART's ``ecalib`` or ``caldir`` as (slice, coil, row, column)."""
    data = open_cfl(path)
    dims = [*data.shape, *[1] * (16 - data.ndim)]
    if dims[4] > 1:
        raise InputError(
            f"{path} holds {dims[4]} sets of coil maps, one is used.",
            "make one set: bart ecalib -m 1, or bart slice 4 0 IN OUT.",
        )
    # Rows are dimension 0; BART has them in dimension 1 for single images.
    row, column = (1, 2) if dims[0] == 1 and dims[2] > 1 else (0, 1)
    kept = (13, 3, row, column)
    gone = [i for i in range(16) if i not in kept]
    if any(dims[i] > 1 for i in gone):
        raise InputError(
            f"The coil maps of {path} have dimensions {data.shape}, more than rows, columns, coils"
            " and slices.",
            "give maps of two-dimensional slices.",
        )
    full = data.reshape(dims, order="F").transpose([*kept, *gone])
    return full.reshape([dims[i] for i in kept])


def _dataset(file: h5py.File, path: Path) -> h5py.Dataset:
    """The dataset with the maps."""
    found = file.get(_DATASET)
    if isinstance(found, h5py.Dataset):
        return found
    names: list[str] = []
    file.visititems(
        lambda name, item: (
            names.append(name)
            if isinstance(item, h5py.Dataset) and item.dtype.kind == "c" and item.ndim in (3, 4)
            else None
        )
    )
    if len(names) != 1:
        raise InputError(
            f"{path} has no dataset '{_DATASET}' with coil maps"
            + (f", but {', '.join(names[:4])}." if names else "."),
            f"store the maps as '{_DATASET}', complex, (coil, row, column).",
        )
    return file[names[0]]
