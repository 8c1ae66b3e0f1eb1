"""Reference images of the user as images of a problem, in the prior's value range."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from tiltkit.errors import InputError
from tiltkit.io.images import is_image, read_contents, read_images
from tiltkit.priors.scale import image_scale
from tiltkit.recon.pixels import find_pixel_map

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tiltkit.problem import Problem

__all__ = ["Units", "image_files", "invert", "reference_images"]

Units = Literal["prior", "scan"]


def image_files(paths: Sequence[Path]) -> list[Path]:
    """Files of images: those given, and all image files of folders in order of their names.

    Raises:
        InputError: A path is missing, or a folder has no image file.
    """
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise InputError(f"There is no file {path}.", "check its name and folder.")
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.is_file() and is_image(p))
            if not inside:
                raise InputError(f"The folder {path} has no images.", "name another with --images.")
            found += inside
        else:
            found.append(path)
    return found


def reference_images(files: Sequence[Path], problem: Problem, units: Units) -> NDArray[np.float32]:
    """Read images for a problem, (image, channel, *space) in the prior's value range.

    They are cropped or padded with zeros around their centre to the size of the problem. Real
    images of a complex problem have phase 0. Values outside of the problem's constraint become 0.

    Args:
        files: Image files; a file may hold a stack of images.
        problem: The problem.
        units: ``prior`` scales each image as tasks scale measured data, so that its bright pixels
            are those of the prior's training images. ``scan`` takes the values as they are, in the
            units of the result.

    Raises:
        InputError: A file cannot be read, has no signal, or has a wrong number of axes.
    """
    channels, space = problem.shape[0], problem.shape[1:]
    if len(space) == 2:
        found = [(path, image) for path in files for image in read_images([path], channels)]
    else:
        found = [(path, _volume(path, len(space))) for path in files]
    images = [_placed(path, image, channels, space) for path, image in found]
    factor = _unit(problem) if units == "scan" else 0.0
    scaled = [_scaled(*pair, factor) for pair in zip((p for p, _ in found), images, strict=True)]
    stacked = np.stack(scaled).astype(np.float32)
    return _constrained(stacked, problem)


def invert(images: NDArray[Any], problem: Problem) -> NDArray[np.float32] | None:
    """Images (n, channel, *space) in the prior's units, from those (n, *image) of a result.

    None where `Problem.to_image` is no factor and offset for each pixel: magnitudes of complex
    images and cropped images cannot be undone.
    """
    if problem.shape[0] != 1 or problem.shape[1:] != images.shape[1:]:
        return None
    blank = torch.zeros(problem.shape, device=_device(problem))
    pixels = find_pixel_map(problem, blank)
    if pixels is None:
        return None
    given = torch.from_numpy(np.asarray(images)).to(blank.device)
    return np.stack([pixels.particle(image, blank).cpu().numpy() for image in given])


def _volume(path: Path, axes: int) -> NDArray[Any]:
    """One image with a channel axis, of a problem that is not two-dimensional."""
    values = np.asarray(read_contents([path], None).values)
    values = values[None] if values.ndim == axes else values
    if values.ndim != axes + 1:
        raise InputError(
            f"{path} holds an array of {values.ndim} axes.",
            f"images of this scan have {axes}: give one file for each image.",
        )
    return values


def _placed(
    path: Path, image: NDArray[Any], channels: int, space: tuple[int, ...]
) -> NDArray[np.float64]:
    """An image (channel, *any) as (channels, *space)."""
    if not np.isfinite(image).all():
        raise InputError(f"{path} holds values that are not finite.", "leave that image out.")
    if channels == 2 and len(image) == 1:
        image = np.concatenate([image.real, image.imag])
    elif np.iscomplexobj(image):
        image = np.abs(image)
    if len(image) != channels:
        raise InputError(
            f"{path} has {len(image)} channels, but images of this scan have {channels}.",
            "give images of one channel, or of as many.",
        )
    for axis, size in enumerate(space, start=1):
        image = _centred(image, size, axis)
    return image.astype(np.float64)


def _centred(image: NDArray[Any], size: int, axis: int) -> NDArray[Any]:
    """Crop or pad one axis; the centre is pixel ``n // 2``."""
    have = image.shape[axis]
    first = have // 2 - size // 2
    if first >= 0 and have >= size:
        return image.take(range(first, first + size), axis)
    before = size // 2 - have // 2
    pads = [(0, 0)] * image.ndim
    pads[axis] = (before, size - have - before)
    return np.pad(image, pads)


def _scaled(path: Path, image: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
    """An image in the prior's units; ``factor`` is the value of 1 in the scan's units, or 0."""
    scale = factor or image_scale(np.sqrt(np.square(image).sum(0)))
    if not scale > 0:
        raise InputError(f"{path} holds an image without signal.", "leave it out.")
    return image / scale


def _device(problem: Problem) -> torch.device:
    device: torch.device = getattr(problem.likelihood, "y", torch.zeros(1)).device
    return device


def _unit(problem: Problem) -> float:
    """Value, in the units of the result, of an image of ones in the prior's units."""
    ones = torch.zeros((1, *problem.shape), device=_device(problem))
    ones[:, 0] = 1
    return float(problem.to_image(ones).median())


def _constrained(images: NDArray[np.float32], problem: Problem) -> NDArray[np.float32]:
    constraint = problem.constraint
    if constraint is None:
        return images
    if constraint.nonnegative:
        images = np.maximum(images, 0)
    if constraint.support is not None:
        images = np.where(constraint.support.cpu().numpy(), images, 0).astype(np.float32)
    return images
