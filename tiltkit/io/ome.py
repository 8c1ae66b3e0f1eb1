"""Writers of OME-TIFF and OME-Zarr: mean, standard deviation, 90 % interval, and samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from tiltkit.io.nifti import Images, stored_images
from tiltkit.io.reading import (
    open_result,
    read_axes,
    read_findings,
    read_steps,
    read_title,
    read_units,
    result_shape,
)
from tiltkit.io.units import LENGTHS, unit_size

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["OmeOptions", "write_ome_tiff", "write_ome_zarr"]

# Names of first axes that count times; all others count planes.
_TIMES = ("time", "repetition", "frame")
# Bytes from which on a TIFF file needs 64-bit offsets, with room for its headers.
_LARGE = 2**31


class OmeOptions(BaseModel):
    """Options of the writers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    samples: bool = Field(False, description="write the samples, too, as an image of their own")


# Gives the image of a slice by its number.
_Read = Callable[[int], "NDArray[Any]"]


@dataclass(frozen=True, slots=True)
class _Stack:
    """Arrangement of a result as times and planes.

    Attributes:
        shape: Numbers of times, planes, rows and columns.
        in_time: Slices of the result are times; else they are planes of one time.
        step: Distance between planes, rows and columns in micrometres; None where unknown.
    """

    shape: tuple[int, int, int, int]
    in_time: bool
    step: tuple[float | None, float | None, float | None]

    def planes(self, read: _Read, time: int) -> Iterator[NDArray[Any]]:
        """Planes (y, x) of a time; one slice of the result is in memory at a time."""
        for index in [time] if self.in_time else range(self.shape[1]):
            values = np.asarray(read(index), np.float32)
            yield from values if values.ndim == 3 else [values]


def write_ome_tiff(result: Path, output: Path, options: OmeOptions) -> list[str]:
    """Write an OME-TIFF file for microscopy programs.

    Its first image has mean, standard deviation, and the ends of the 90 % interval as channels; a
    second one has the samples as channels, if they are asked for. Values are float32 in the units
    of the result; planes are written one at a time.

    Args:
        result: A result file.
        output: The file to write.
        options: Whether to write samples.

    Returns:
        Sentences for the user: what is not known.

    Raises:
        InputError: The result cannot be read.
        OSError: The file cannot be written.
    """
    import tifffile

    stack, about = _arrange(result), _description(result)
    sizes = zip("ZYX", stack.step, strict=True)
    known = {f"PhysicalSize{axis}": step for axis, step in sizes if step is not None}
    units = {f"{name}Unit": "µm" for name in known}
    with open_result(result) as file:
        pictures = _pictures(stored_images(file, samples=options.samples))
        channels = sum(len(names) for names in pictures.values())
        large = 4 * int(np.prod(stack.shape)) * channels > _LARGE
        with tifffile.TiffWriter(output, ome=True, bigtiff=large) as writer:
            for name, reads in pictures.items():
                writer.write(
                    (
                        plane
                        for time in range(stack.shape[0])
                        for read in reads.values()
                        for plane in stack.planes(read, time)
                    ),
                    shape=(stack.shape[0], len(reads), *stack.shape[1:]),
                    dtype=np.float32,
                    photometric="minisblack",
                    metadata={
                        "axes": "TCZYX",
                        "Name": name,
                        "Description": about,
                        "Channel": {"Name": list(reads)},
                        **known,
                        **units,
                    },
                )
    return _remarks(stack)


def write_ome_zarr(result: Path, output: Path, options: OmeOptions) -> list[str]:
    """Write a folder of OME-Zarr 0.4, with the channels of `write_ome_tiff`.

    Samples are an image of their own, in the folder ``samples`` within.

    Args:
        result: A result file.
        output: The folder to write.
        options: Whether to write samples.

    Returns:
        Sentences for the user: what is not known.

    Raises:
        InputError: The result cannot be read.
        OSError: The folder cannot be written.
    """
    import zarr

    stack, about = _arrange(result), _description(result)
    with open_result(result) as file:
        pictures = _pictures(stored_images(file, samples=options.samples))
        for name, reads in pictures.items():
            folder = output if name == "posterior" else output / name
            group = zarr.open_group(folder, mode="w", zarr_format=2)
            array = group.create_array(
                "0",
                shape=(stack.shape[0], len(reads), *stack.shape[1:]),
                chunks=(1, 1, 1, *stack.shape[2:]),
                dtype=np.float32,
                chunk_key_encoding={"name": "v2", "separator": "/"},
            )
            ranges = []
            for channel, read in enumerate(reads.values()):
                low, high = [0.0], [0.0]
                for time in range(stack.shape[0]):
                    for z, plane in enumerate(stack.planes(read, time)):
                        array[time, channel, z] = plane
                        finite = plane[np.isfinite(plane)]
                        low.append(float(finite.min(initial=0.0)))
                        high.append(float(finite.max(initial=0.0)))
                ranges.append((min(low), max(high)))
            channels = dict(zip(reads, ranges, strict=True))
            group.attrs.update(_multiscale(stack, name, channels, about))
    return _remarks(stack)


write_ome_tiff.Options = OmeOptions  # type: ignore[attr-defined]
write_ome_zarr.Options = OmeOptions  # type: ignore[attr-defined]


def _arrange(result: Path) -> _Stack:
    shape, axes = result_shape(result), read_axes(result)
    lengths = [unit_size(unit, LENGTHS) for unit in axes.values()]
    steps = [
        None if unit is None else step * unit / LENGTHS["um"]
        for step, unit in zip(read_steps(result), lengths, strict=True)
    ]
    in_time = len(shape) == 4 or next(iter(axes)) in _TIMES
    planes = shape[1] if len(shape) == 4 else 1
    times, depth = (shape[0], planes) if in_time else (1, shape[0])
    across = steps[-3] if len(shape) == 4 or not in_time else None
    return _Stack((times, depth, shape[-2], shape[-1]), in_time, (across, steps[-2], steps[-1]))


def _pictures(stored: Iterable[Images]) -> dict[str, dict[str, _Read]]:
    """Channels of every picture to write, by name."""
    found: dict[str, dict[str, _Read]] = {"posterior": {}}
    for images in stored:
        if images.name == "samples":
            draws = enumerate(images.draws, start=1)
            found["samples"] = {f"sample {number}": read for number, read in draws}
        else:
            found["posterior"][images.name] = images.draws[0]
    return found


def _multiscale(
    stack: _Stack, name: str, channels: Mapping[str, tuple[float, float]], about: str
) -> dict[str, Any]:
    """Metadata of OME-Zarr 0.4, from the lowest and highest value of every channel."""
    space: list[dict[str, str]] = [{"name": axis, "type": "space"} for axis in "zyx"]
    for axis, step in zip(space, stack.step, strict=True):
        if step is not None:
            axis["unit"] = "micrometer"
    scale = [1.0, 1.0, *(1.0 if step is None else step for step in stack.step)]
    axes = [{"name": "t", "type": "time"}, {"name": "c", "type": "channel"}, *space]
    dataset = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}
    return {
        "multiscales": [
            {
                "version": "0.4",
                "name": name,
                "axes": axes,
                "datasets": [dataset],
                "metadata": {"description": about},
            }
        ],
        "omero": {
            "channels": [
                {
                    "label": label,
                    "active": number == 0,
                    "color": "FFFFFF",
                    "window": {"min": low, "max": high, "start": low, "end": high},
                }
                for number, (label, (low, high)) in enumerate(channels.items())
            ]
        },
    }


def _description(result: Path) -> str:
    """Title, unit, warnings and verdict."""
    unit = read_units(result) or "arbitrary units"
    return f"{read_title(result)}: posterior by tiltkit, in {unit}. {read_findings(result)}"


def _remarks(stack: _Stack) -> list[str]:
    unknown = [name for name, step in zip("zyx", stack.step, strict=True) if step is None]
    unknown = [name for name in unknown if name != "z" or stack.shape[1] > 1]
    return [f"The pixel size along {', '.join(unknown)} is not known."] if unknown else []
