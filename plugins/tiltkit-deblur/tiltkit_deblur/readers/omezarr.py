"""Read OME-Zarr folders, through zarr; versions 0.4 and 0.5 of the layout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tiltkit.errors import InputError
from tiltkit_deblur.volume import AXES, Volume, checked_voxel, micrometres, read_axes

__all__ = ["OmeZarr"]


class OmeZarr:
    """The first multiscale image of a group, at full resolution."""

    @staticmethod
    def matches(path: Path) -> bool:
        """By the files that every Zarr group has."""
        return path.is_dir() and any((path / name).exists() for name in (".zattrs", "zarr.json"))

    @staticmethod
    @contextmanager
    def open(path: Path) -> Iterator[Volume]:
        """Open the folder read-only.

        Raises:
            InputError: zarr is not installed, or the folder holds no OME-Zarr image.
        """
        try:
            import zarr
        except ImportError as error:
            raise InputError(
                f"{path} is OME-Zarr, which needs a package that is not installed.",
                "pip install 'tiltkit-deblur[zarr]'.",
            ) from error
        try:
            group = zarr.open(path, mode="r")
            attributes = dict(group.attrs)
        except (OSError, ValueError, KeyError) as error:
            raise InputError(
                f"{path} is no readable Zarr group: {error}.", "copy it again."
            ) from error
        if isinstance(group, zarr.Array):
            raise InputError(
                f"{path} is a Zarr array alone, without the metadata of OME-Zarr.",
                "write it as OME-Zarr, TIFF or HDF5, or name the folder that it lies in.",
            )
        image = _multiscale(attributes, path)
        finest = image["datasets"][0]
        array: Any = group.get(finest["path"])
        if array is None:
            raise InputError(f"{path} lacks the array {finest['path']}.", "copy it again.")
        names = _names(image, array.ndim, path)
        shape, block = read_axes(names, array.shape, array.__getitem__)
        yield Volume(
            path=path,
            layout=f"OME-Zarr, axes {names}",
            shape=shape,
            dtype=np.dtype(array.dtype),
            read_block=block,
            voxel_um=_voxel(image, finest, names),
            channels=_channels(attributes),
        )


def _multiscale(attributes: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    """Version 0.5 keeps its metadata under ``ome``, 0.4 beside all else."""
    images = dict(attributes.get("ome", attributes)).get("multiscales")
    if not images or not images[0].get("datasets"):
        raise InputError(
            f"{path} holds no multiscale image.", "name the folder of one image, not of a plate."
        )
    found: Mapping[str, Any] = images[0]
    return found


def _names(image: Mapping[str, Any], ndim: int, path: Path) -> str:
    axes = image.get("axes") or list(AXES[-ndim:])
    names = "".join(str(axis["name"] if isinstance(axis, Mapping) else axis) for axis in axes)
    if len(names) != ndim or set(names) - set(AXES) or not {"y", "x"} <= set(names):
        raise InputError(
            f"{path} has axes {names!r} for {ndim} dimensions.", "correct its metadata."
        )
    return names


def _voxel(
    image: Mapping[str, Any], dataset: Mapping[str, Any], names: str
) -> tuple[float, float, float] | None:
    """The scales of the image and of its finest level, multiplied."""
    scale = dict.fromkeys(names, 1.0)
    for step in (*dataset.get("coordinateTransformations", ()),
                 *image.get("coordinateTransformations", ())):  # fmt: skip
        if step.get("type") == "scale":
            for name, factor in zip(names, step["scale"], strict=True):
                scale[name] *= float(factor)
    units = {
        str(axis["name"]): micrometres(str(axis.get("unit", "")))
        for axis in image.get("axes", ())
        if isinstance(axis, Mapping)
    }
    if not units.get("y") or not units.get("x"):
        return None
    size = {name: scale[name] * (units.get(name) or 0.0) for name in names}
    return checked_voxel([size.get("z", size["y"]), size["y"], size["x"]])


def _channels(attributes: Mapping[str, Any]) -> list[str]:
    channels = dict(attributes.get("ome", attributes)).get("omero", {}).get("channels", ())
    return [str(channel.get("label", "")) for channel in channels]
