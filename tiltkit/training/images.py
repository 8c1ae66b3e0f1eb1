"""From files to images that can be trained on: slices, channels, one scale, nothing broken."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tiltkit.errors import InputError
from tiltkit.io.images import Contents, read_contents
from tiltkit.priors.scale import image_scale
from tiltkit.training.recipe import DataOptions
from tiltkit.training.subjects import find_subjects

__all__ = ["Image", "Subject", "load_subjects"]

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Image:
    """One image.

    Attributes:
        values: (channel, row, column), scaled so that bright is about 1; complex as (re, im).
        noise: Standard deviation of the noise in it, scaled alike; 0 in clean images.
        source: File and slice, for messages.
        digest: Digest of the values as stored in the file.
    """

    values: Array
    noise: float
    source: str
    digest: str


@dataclass(frozen=True, slots=True)
class Subject:
    """All images of one subject.

    Attributes:
        name: Name of the subject.
        images: Images in the order of files and slices; none where all were left out.
        identities: Patient IDs in its files; empty where there are none.
        constant: Number of slices that were left out because all their pixels are equal.
    """

    name: str
    images: list[Image]
    identities: frozenset[str] = frozenset()
    constant: int = 0


def load_subjects(options: DataOptions, crop: int) -> list[Subject]:
    """Read, check and scale all images.

    Args:
        options: Paths and layout of the files.
        crop: Smallest side of an image in pixels.

    Raises:
        InputError: No image, or one that cannot be trained on; names it and says why.
    """
    found = find_subjects(options)
    subjects = [_load(name, volumes, options) for name, volumes in found.items()]
    images = [image for subject in subjects for image in subject.images]
    if not images:
        raise InputError(
            f"All pixels of every image in {', '.join(options.paths)} are equal: there is nothing"
            " to learn from.",
            "name other files in data.paths, or another array with data.dataset.",
        )
    for image in images:
        _check_size(image, crop)
    whole = _scale(images, options)
    return [_scaled(subject, options, whole) for subject in subjects]


def _load(name: str, volumes: Sequence[Sequence[Path]], options: DataOptions) -> Subject:
    images, identities, constant = [], set(), 0
    for paths in volumes:
        contents = read_contents(paths, options.dataset)
        source = str(paths[0] if len(paths) == 1 else paths[0].parent)
        if options.patient_id:
            identities |= {contents.identity} - {""}
        for index, values in enumerate(_slices(contents, options, source)):
            where = f"{source}, slice {index}"
            if not np.isfinite(values).all():
                bad = int(values.size - np.isfinite(values).sum())
                raise InputError(
                    f"{where} has {bad} values that are NaN, infinite or too large for float32.",
                    "repair it, or leave that file out of data.paths.",
                )
            if np.ptp(values, axis=(1, 2)).max() == 0:
                constant += 1
                continue
            digest = hashlib.sha256(values.tobytes() + str(values.shape).encode()).hexdigest()
            images.append(Image(values, options.noise, where, digest))
    return Subject(name, images, frozenset(identities), constant)


def _slices(contents: Contents, options: DataOptions, source: str) -> Iterator[Array]:
    """The slices of an array as float32 (channel, row, column), not yet scaled."""
    values = contents.values
    channel_axis, slice_axis = _axes(contents, options, source)
    axes = list(range(values.ndim))
    channel = [] if channel_axis is None else [axes[channel_axis]]
    rest = [axis for axis in axes if axis not in channel]
    volume = [] if len(rest) == 2 else [axes[slice_axis]]
    if volume and volume[0] not in rest:
        # the default place of slices is taken by the channels: slices come next
        volume = [rest[0]]
    plane = [axis for axis in rest if axis not in volume]
    ordered = values.transpose(*volume, *channel, *plane)
    ordered = ordered if channel else np.expand_dims(ordered, -3)
    for one in ordered if volume else ordered[None]:
        yield _channels(one, options, source)


def _axes(contents: Contents, options: DataOptions, source: str) -> tuple[int | None, int]:
    """The axes that count channels, if one does, and slices, where there is more than one."""
    shape = contents.values.shape
    # One image has no slices: a recipe that names their axis means its other files.
    slices = None if contents.slices is None else options.axis
    channels = options.channel_axis
    for axis, name in ((slices, "axis"), (channels, "channel_axis")):
        if axis is not None and not -len(shape) <= axis < len(shape):
            raise InputError(
                f"{source} has an array of {_shape(shape)}, without axis {axis}.",
                f"correct data.{name}; axes count from 0.",
            )
    # A TIFF may call four slices colours: of three axes the recipe's own one counts slices, unless
    # the recipe has colours.
    if channels is None and (slices is None or len(shape) > 3 or options.channels > 1):
        channels = contents.channels
    n_axes = 2 + (channels is not None)
    same = slices is not None and channels is not None and (slices - channels) % len(shape) == 0
    if same or len(shape) not in (n_axes, n_axes + 1):
        raise InputError(
            f"{source} has an array of {_shape(shape)}, of which no slices can be taken.",
            "say with data.axis which axis counts slices, and with data.channel_axis which one"
            " channels; more axes than that must be split into several files.",
        )
    return channels, next((axis for axis in (slices, contents.slices) if axis is not None), 0)


def _channels(values: NDArray[np.generic], options: DataOptions, source: str) -> Array:
    """An image (channel, row, column) with the channels of the recipe."""
    given = len(values)
    real = not np.iscomplexobj(values)
    if options.kind == "complex":
        wanted = "one complex channel, or two real ones (re, im)"
        if real and given == 1:
            values = np.concatenate([values, np.zeros_like(values)])
            if options.augment != "mri":
                raise InputError(
                    f"{source} holds real images: their imaginary part would be zero.",
                    "set data.augment = 'mri', which makes up smooth phases, or data.kind ="
                    " 'magnitude'.",
                )
        elif not real and given == 1:
            values = np.concatenate([values.real, values.imag])
        fits = len(values) == 2 and not np.iscomplexobj(values)
    else:
        wanted = "1 channel" if options.channels == 1 else f"{options.channels} channels"
        values = values if real else np.abs(values)
        fits = given == options.channels
    if not fits:
        has = f"{given}{' complex' * (not real)} channel{'s' * (given != 1)}"
        raise InputError(
            f"{source} has images with {has}, not {wanted}.",
            "correct data.kind or data.channels, or say which axis counts channels"
            " (data.channel_axis) and which one slices (data.axis); coils must be combined first.",
        )
    with np.errstate(over="ignore"):  # what is too large for float32 is refused later
        return np.ascontiguousarray(values, np.float32) + np.float32(options.offset)


def _check_size(image: Image, crop: int) -> None:
    height, width = image.values.shape[-2:]
    if min(height, width) < crop:
        raise InputError(
            f"{image.source} is {height} x {width} pixels, smaller than a crop of {crop}.",
            f"set training.crop to at most {min(height, width)}, or leave that file out.",
        )


def _scaled(subject: Subject, options: DataOptions, whole: float) -> Subject:
    own = options.scale == "subject" and subject.images
    scale = _scale(subject.images, options) if own else whole
    with np.errstate(over="ignore"):  # a scale that small is refused later
        images = [
            replace(image, values=image.values / np.float32(scale), noise=image.noise / scale)
            for image in subject.images
        ]
    return replace(subject, images=images)


def _scale(images: Sequence[Image], options: DataOptions) -> float:
    """The value that becomes 1: the recipe's own, or the `image_scale` of all images."""
    if not isinstance(options.scale, str):
        return options.scale
    complex_ = options.kind == "complex"
    flat = [np.hypot(*x.values) if complex_ else np.abs(x.values) for x in images]
    return image_scale(np.concatenate([x.ravel() for x in flat]), options.percentile)


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
