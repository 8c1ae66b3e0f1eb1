"""The task ``deblur``: posterior of images or volumes that a point spread function blurred."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import h5py
from pydantic import BaseModel

from tiltkit.errors import InputError, UsageError
from tiltkit.io.sniff import find_reader
from tiltkit_deblur.channels import ChannelsScan, open_channels
from tiltkit_deblur.options import DeblurOptions
from tiltkit_deblur.readers.hdf5 import PlainHdf5
from tiltkit_deblur.readers.tiff import Tiff
from tiltkit_deblur.scan import DeblurScan

if TYPE_CHECKING:
    from tiltkit_deblur.volume import Volume

__all__ = ["Deblur", "DeblurOptions", "DeblurScan", "open_volume"]


class Deblur:
    """Deconvolve images or volumes, with the noise of a camera, and values of zero or more.

    A 2-D point spread function deblurs every plane by itself, a 3-D one deblurs volumes, whose
    planes the prior is applied to.
    """

    Options: ClassVar[type[BaseModel]] = DeblurOptions
    default_prior: ClassVar[str] = "deblur.microscopy"

    def __init__(self, options: DeblurOptions) -> None:
        self.options = options

    @contextmanager
    def open(self, path: Path) -> Iterator[DeblurScan | ChannelsScan]:
        """Open a file read-only, and find its point spread function and its noise.

        Raises:
            InputError: A file cannot be read, or holds unusable values.
            UsageError: There is no such channel or time, or no point spread function is named.
        """
        o = self.options
        with open_volume(path, o.dataset, o.axes, o.series) as volume:
            scan = (
                open_channels(volume, o)
                if o.channel == "all"
                else DeblurScan(volume, o, _channel(volume, o.channel))
            )
            for one in scan.scans if isinstance(scan, ChannelsScan) else [scan]:
                one.faults, one.photometry.camera, one.grid  # noqa: B018  (faults show here, before any output)
            yield scan


def open_volume(
    path: Path, dataset: str | None = None, axes: str | None = None, series: int | None = None
) -> AbstractContextManager[Volume]:
    """A file through the reader that any plugin brings for it.

    A file that no reader recognises goes to `PlainHdf5`, which says best what is wrong with it; one
    whose array or axes are given can only be HDF5 or TIFF.
    """
    if dataset is not None:
        return PlainHdf5.open(path, dataset, axes)
    try:
        reader = find_reader(path, gives="deblur.volume")
    except InputError:
        if not path.is_file() or not h5py.is_hdf5(path):
            raise
        reader = PlainHdf5
    if axes is not None and reader is Tiff:
        return Tiff.open(path, axes, series)
    if axes is not None:
        return PlainHdf5.open(path, axes=axes)
    if series is not None:
        return _open_series(reader, path, series)
    opened: AbstractContextManager[Volume] = reader.open(path)
    return opened


def _open_series(reader: Any, path: Path, series: int) -> AbstractContextManager[Volume]:
    if "series" not in signature(reader.open).parameters:
        raise UsageError(
            f"{path} is of a layout that holds one image, but series {series} was asked for.",
            "leave series out; see the layouts with 'tiltkit list reader'.",
        )
    opened: AbstractContextManager[Volume] = reader.open(path, series=series)
    return opened


def _channel(volume: Volume, asked: int | None) -> int:
    there = volume.shape[1]
    named = f" ({', '.join(volume.channels)})" if volume.channels else ""
    if asked is None and there > 1:
        raise UsageError(
            f"{volume.path} has {there} channels{named}, which have PSFs of their own.",
            "choose one with -s task.channel=NUMBER, or -s task.channel=all.",
        )
    if asked is not None and asked >= there:
        raise UsageError(
            f"{volume.path} has no channel {asked}; it has {there}{named}.",
            "count channels from 0.",
        )
    return asked or 0
