"""The arrays of a NumPy, HDF5 or safetensors file by name, such as the parameters of a prior."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiltkit.errors import InputError

__all__ = ["read_arrays"]

Array = NDArray[Any]


def read_arrays(path: Path) -> Mapping[str, Array]:
    """All arrays of an npz, npy, HDF5 or safetensors file, by name.

    Raises:
        InputError: The file is missing, damaged or of another kind.
    """
    if not path.is_file():
        raise InputError(f"There is no file {path}.", "check its name and folder.")
    try:
        match path.suffix.lower():
            case ".npz":
                with np.load(path, allow_pickle=False) as file:
                    return dict(file.items())
            case ".npy":
                return {"": np.load(path, allow_pickle=False)}
            case ".h5" | ".hdf5" | ".nxs":
                return _read_hdf5(path)
            case ".safetensors":
                from safetensors.numpy import load_file

                return load_file(path)
    except InputError:
        raise
    except Exception as error:  # readers of damaged files raise anything
        reason = str(error).strip().split("\n")[0]
        raise InputError(f"{path} cannot be read: {reason}.", "check that it is whole.") from error
    raise InputError(
        f"{path} is of a kind that is not read here: {path.suffix or 'no suffix'}.",
        "use .npz, .npy, .h5 or .safetensors.",
    )


def _read_hdf5(path: Path) -> dict[str, Array]:
    import h5py

    found: dict[str, Array] = {}

    def add(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.dtype.kind in "biufc":
            found[name] = item[()]

    with h5py.File(path) as file:
        file.visititems(add)
    return found
