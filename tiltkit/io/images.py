"""Image files of many formats as arrays of slices, each through the library of its format."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiltkit.errors import InputError, TiltkitError, UsageError

__all__ = ["Contents", "is_image", "is_volume", "read_contents", "read_images", "read_nifti"]

# Names under which files with several arrays usually keep their images.
_USUAL = ("image", "images", "data")

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Contents:
    """An array as stored in its file.

    Attributes:
        values: Numbers, real or complex, with the file's own axes.
        slices: Axis that counts slices unless the recipe says otherwise; None for one image.
        channels: Axis of colours where the format says that there is one; else None.
        identity: Patient ID in the file; empty where there is none.
    """

    values: Array
    slices: int | None = 0
    channels: int | None = None
    identity: str = ""


def read_images(paths: Sequence[Path], channels: int) -> list[Array]:
    """Images (channel, row, column) of all files, in order, real or complex, values as stored.

    An array of three axes is a stack of slices unless its format names an axis of colours, one of
    four is (slice, channel, row, column). Of several arrays in a file the one called image, images
    or data is taken, else the largest.

    Args:
        paths: The files.
        channels: Channels wanted: colours become their mean for 1 and 2; 0 for any number.

    Raises:
        InputError: A file is missing, no image file, or holds values that are not finite.
        UsageError: The library that reads it is not installed.
    """
    return [image for path in paths for image in _images_of(path, channels)]


def _images_of(path: Path, channels: int) -> list[Array]:
    contents = read_contents([path], None)
    values = contents.values
    if not np.isfinite(values).all():
        raise InputError(f"{path} holds values that are not finite.", "leave those images out.")
    if contents.channels is not None:
        values = np.moveaxis(values, contents.channels, -3)[..., :3, :, :]  # without transparency
        values = values if channels in (0, 3) else values.mean(-3, keepdims=True)
    elif values.ndim == 3:
        values = np.moveaxis(values, contents.slices or 0, 0)[:, None]
    elif values.ndim == 2:
        values = values[None]
    values = values if values.ndim == 4 else values[None]
    if values.ndim != 4:
        raise InputError(
            f"{path} holds an array of {contents.values.ndim} axes.",
            "give slices (slice, row, column).",
        )
    return [image if np.iscomplexobj(image) else image.astype(np.float32) for image in values]


def read_contents(paths: Sequence[Path], dataset: str | None = "") -> Contents:
    """One volume or image: of one file, or of the DICOM files of one series.

    Args:
        paths: The file, or the files of the series.
        dataset: Name of the array in files that hold several; empty where there must be one alone;
            None for the one with a usual name, else the largest.

    Raises:
        InputError: The file is missing or damaged, or it is open which of its arrays is meant.
        UsageError: The library that reads it is not installed.
    """
    if not paths[0].is_file():
        raise InputError(f"There is no file {paths[0]}.", "check its name and folder.")
    reader = _DICOM if len(paths) > 1 else _reader_of(paths[0])
    if reader is None:
        raise InputError(
            f"{paths[0]} is of no kind that is read here.",
            f"convert it to one of: {' '.join(sorted(_READERS))}.",
        )
    with _readable(paths[0]):
        contents = reader(paths, dataset)
    if contents.values.dtype.kind not in "buifc":
        raise InputError(
            f"{paths[0]} holds {contents.values.dtype}, not numbers.",
            "name the dataset of the images.",
        )
    return contents


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn errors of a library into ones that name the file."""
    try:
        yield
    except (TiltkitError, MemoryError):
        raise
    except Exception as error:  # each library has errors of its own
        what = str(error).partition("\n")[0].rstrip(".") or type(error).__name__
        if "pickle" in what:  # numpy advises to load it unsafely
            what = "it holds no array of numbers, and nothing is unpickled here"
        raise InputError(
            f"{path} cannot be read: {what}.", "copy it again from its source, or leave it out."
        ) from error


def read_nifti(path: Path) -> tuple[Array, Any]:
    """Values of a NIfTI file, with its own axes, and the image of nibabel with its coordinates.

    Raises:
        InputError: There is no such file, or it cannot be read.
        UsageError: nibabel is not installed.
    """
    nibabel = _library("nibabel", "NIfTI")
    with _readable(path):
        if not path.is_file():
            raise InputError(f"There is no file {path}.", "check its name and folder.")
        image = nibabel.load(path)
        return np.asanyarray(image.dataobj), image


def is_image(path: Path) -> bool:
    """True where a reader has this kind of file."""
    return _reader_of(path) is not None


def is_volume(path: Path) -> bool:
    """True for a file that may hold a whole subject; DICOM files belong together."""
    return _reader_of(path) is not _DICOM


def _reader_of(path: Path) -> Callable[[Sequence[Path], str | None], Contents] | None:
    name = path.name.lower()
    for suffix, reader in _READERS.items():
        if name.endswith(suffix):
            return reader
    # scanners write DICOM files without a suffix; two marks identify them, and DICOMDIR lists them
    if name != "dicomdir" and (not path.suffix or path.suffix[1:].isdigit()):
        with path.open("rb") as file:
            if file.read(132)[128:] == b"DICM":
                return _DICOM
    return None


def _hdf5(paths: Sequence[Path], dataset: str | None) -> Contents:
    from tiltkit.io.reading import open_hdf5
    from tiltkit.io.sniff import datasets

    with open_hdf5(paths[0]) as file:
        found = datasets(file)
        arrays = {name: file[name] for name in found if file[name].ndim >= 2}
        sizes = {name: a.size for name, a in arrays.items() if a.dtype.kind in "uifc"}
        # Masks of truth values are images only where there is nothing else.
        sizes = sizes or {name: a.size for name, a in arrays.items() if a.dtype.kind == "b"}
        return Contents(np.asarray(file[_chosen(paths[0], dataset, list(found), sizes)][()]))


def _matlab(paths: Sequence[Path], dataset: str | None) -> Contents:
    with paths[0].open("rb") as file:
        old = file.read(8) == b"MATLAB 5"
    if old:
        raise InputError(
            f"{paths[0]} is of a MATLAB version before 7.3, which is not read.",
            "save it with save(..., '-v7.3').",
        )
    return _hdf5(paths, dataset)


def _numpy(paths: Sequence[Path], dataset: str | None) -> Contents:
    with paths[0].open("rb") as file:
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return Contents(loaded)
        sizes = {name: loaded[name].size for name in loaded.files if loaded[name].ndim >= 2}
        return Contents(loaded[_chosen(paths[0], dataset, loaded.files, sizes)])


def _nifti(paths: Sequence[Path], _dataset: str | None) -> Contents:
    return Contents(read_nifti(paths[0])[0], slices=2)


def _tiff(paths: Sequence[Path], _dataset: str | None) -> Contents:
    tifffile = _library("tifffile", "TIFF")
    with tifffile.TiffFile(paths[0]) as file:
        series = file.series[0]
        colours = series.axes.find("S")
        return Contents(series.asarray(), channels=colours if colours >= 0 else None)


def _picture(paths: Sequence[Path], _dataset: str | None) -> Contents:
    from PIL import Image

    with Image.open(paths[0]) as picture:
        # a palette's numbers are names of colours, not brightnesses
        values: Array = np.asarray(picture.convert("RGB") if picture.mode == "P" else picture)
    return Contents(values, slices=None, channels=2 if values.ndim == 3 else None)


def _dicom(paths: Sequence[Path], _dataset: str | None) -> Contents:
    """Files of one series, in order of their place, values as the scanner means them."""
    pydicom = _library("pydicom", "DICOM")
    pixels = importlib.import_module("pydicom.pixels")
    slices = []
    for path in paths:
        with _readable(path):
            file = pydicom.dcmread(path)
            if not any(name in file for name in _PIXELS):
                raise InputError(
                    f"{path} cannot be read: it is DICOM of modality"
                    f" {file.get('Modality') or 'unknown'} without pixels, not an image.",
                    "leave it out of data.paths, for example by a pattern that only images match;"
                    " copy it again if it should be one.",
                )
            slices.append((file, pixels.apply_modality_lut(file.pixel_array, file)))
    series = {str(file.get("SeriesInstanceUID", "")) for file, _ in slices}
    if len(series) > 1:
        raise InputError(
            f"The folder {paths[0].parent} mixes {len(series)} DICOM series.",
            "give each series a folder of its own.",
        )
    slices.sort(key=lambda one: _place(one[0]))
    first, values = slices[0][0], [image for _, image in slices]
    shapes = {value.shape for value in values}
    if len(shapes) > 1:
        raise InputError(
            f"The DICOM files in {paths[0].parent} have different sizes: {sorted(shapes)}.",
            "give each size a folder of its own.",
        )
    one = values[0]
    colours = one.ndim - 1 if first.get("SamplesPerPixel", 1) > 1 else None
    identity = str(first.get("PatientID", "") or "")
    if len(values) == 1:
        return Contents(
            one, slices=0 if one.ndim > 2 else None, channels=colours, identity=identity
        )
    stacked = np.stack(values)
    return Contents(stacked, channels=None if colours is None else colours + 1, identity=identity)


def _place(file: Any) -> tuple[float, float]:
    """Distance of a slice along its normal, then its number."""
    directions, position = file.get("ImageOrientationPatient"), file.get("ImagePositionPatient")
    distance = 0.0
    if directions and position:
        row, column = np.array(directions, float).reshape(2, 3)
        distance = float(np.cross(row, column) @ np.array(position, float))
    return distance, float(file.get("InstanceNumber", 0) or 0)


def _chosen(path: Path, wanted: str | None, names: Sequence[str], sizes: Mapping[str, int]) -> str:
    """Name of the array to read, see `read_contents`.

    Args:
        path: The file, for messages.
        wanted: Name that was asked for.
        names: All datasets.
        sizes: Numbers of values of those that can be images.
    """
    there = f"there are: {', '.join(names) or 'none'}."
    if wanted:
        if wanted.strip("/") in names:
            return wanted.strip("/")
        raise InputError(f"{path} has no dataset {wanted!r}.", f"name another; {there}")
    if len(sizes) == 1:
        return next(iter(sizes))
    if sizes and wanted is None:
        usual = [name for name in _USUAL if name in sizes]
        return usual[0] if usual else max(sizes, key=lambda name: sizes[name])
    name_one = "name one (data.dataset in a recipe, --regions FILE::NAME)"
    raise InputError(
        f"{path} has {len(sizes) or 'no'} datasets that could be images.",
        f"{name_one}; {there}" if sizes else f"give another file; {there}",
    )


def _library(name: str, what: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(
            f"{what} files are read with {name}, which is not installed.",
            f"pip install {name}, or 'tiltkit[train]' for all formats.",
        ) from error


_DICOM = _dicom
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_READERS: dict[str, Callable[[Sequence[Path], str | None], Contents]] = {
    ".h5": _hdf5, ".hdf5": _hdf5, ".hdf": _hdf5, ".nxs": _hdf5, ".mat": _matlab,
    ".npy": _numpy, ".npz": _numpy,
    ".nii": _nifti, ".nii.gz": _nifti,
    ".tif": _tiff, ".tiff": _tiff,
    ".png": _picture, ".jpg": _picture, ".jpeg": _picture,
    ".dcm": _dicom, ".ima": _dicom,
}  # fmt: skip
