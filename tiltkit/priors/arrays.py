"""Arrays and pictures from files that people have: NumPy, HDF5, safetensors, TIFF, PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiltkit.errors import InputError

__all__ = ["read_arrays", "read_images"]

Array = NDArray[Any]

_PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")


def read_arrays(path: Path) -> Mapping[str, Array]:
    """All arrays of an npz, npy, HDF5, safetensors or picture file, by name.

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
            case suffix if suffix in _PICTURES:
                from skimage.io import imread

                picture: Array = imread(path)
                return {"": picture}
    except InputError:
        raise
    except Exception as error:  # readers of damaged files raise anything
        reason = str(error).strip().split("\n")[0]
        raise InputError(f"{path} cannot be read: {reason}.", "check that it is whole.") from error
    raise InputError(
        f"{path} is of a kind that is not read here: {path.suffix or 'no suffix'}.",
        "use .npz, .npy, .h5, .safetensors, .tif or .png.",
    )


def read_images(paths: Sequence[Path], channels: int) -> list[Array]:
    """Images (channel, h, w) of all files, in order, real or complex, values as stored.

    An array of three axes is a stack of slices, one of four (slice, channel, h, w). Of several
    arrays in a file the one called image, images or data is taken, else the largest.

    Args:
        paths: The files.
        channels: Channels wanted, to tell colour pictures from stacks; 0 for any number.

    Raises:
        InputError: A file is no image file, or holds values that are not finite.
    """
    return [image for path in paths for image in _images_of(path, channels)]


def _read_hdf5(path: Path) -> dict[str, Array]:
    import h5py

    found: dict[str, Array] = {}

    def add(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.dtype.kind in "biufc":
            found[name] = item[()]

    with h5py.File(path) as file:
        file.visititems(add)
    return found


def _images_of(path: Path, channels: int) -> list[Array]:
    arrays = {n: a for n, a in read_arrays(path).items() if a.dtype.kind in "biufc" and a.ndim >= 2}
    if not arrays:
        raise InputError(f"{path} holds no image.", "name files with arrays of two axes or more.")
    named = [name for name in ("image", "images", "data") if name in arrays]
    name = named[0] if named else max(arrays, key=lambda key: arrays[key].size)
    array = arrays[name]
    if not np.isfinite(array).all():
        raise InputError(f"{path} holds values that are not finite.", "leave those images out.")
    colours = array.ndim == 3 and path.suffix.lower() in _PICTURES and array.shape[-1] in (3, 4)
    if colours:
        array = array[..., :3].transpose(2, 0, 1)[None]
        array = array if channels in (0, 3) else array.mean(1, keepdims=True)
    if array.ndim == 2:
        array = array[None]
    if array.ndim == 3:
        array = array[:, None]
    if array.ndim != 4:
        raise InputError(
            f"{path} holds an array of {array.ndim} axes.", "give slices (slice, h, w)."
        )
    return [image if image.dtype.kind == "c" else image.astype(np.float32) for image in array]
