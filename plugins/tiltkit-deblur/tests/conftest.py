"""Simulated microscopes: smooth blobs, a Gaussian blur, counts; files of other programs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Scene:
    """The object, its image on the camera, and the blur."""

    truth: Array
    readings: NDArray[np.float32]
    psf: NDArray[np.float32]


def simulate(
    shape: tuple[int, ...], *, sigma: float = 1.2, gain: float = 2.0, offset: float = 100.0,
    read_noise: float = 3.0, light: float = 400.0, seed: int = 0,
) -> Scene:  # fmt: skip
    """Blobs on a dark ground, cut out of a larger scene, so that light comes in from outside."""
    rng = np.random.default_rng(seed)
    wide = tuple(n + 16 for n in shape)
    spots = (rng.random(wide) < 0.01) * rng.random(wide)
    scene = gaussian_filter(spots, 1.0)
    scene *= light / scene.max()
    blurred = gaussian_filter(scene, sigma)
    inside = tuple(slice(8, 8 + n) for n in shape)
    counts = rng.poisson(blurred[inside] + 2.0)
    readings = gain * counts + offset + read_noise * rng.normal(size=shape)
    spot = np.zeros((13,) * len(shape))
    spot[(6,) * len(shape)] = 1
    return Scene(
        gain * scene[inside],
        readings.astype(np.float32),
        gaussian_filter(spot, sigma).astype(np.float32),
    )


@pytest.fixture(name="simulate", scope="session")
def _simulate() -> Callable[..., Scene]:
    """Makes a scene: ``simulate(shape, ...)``."""
    return simulate


@pytest.fixture(scope="session")
def scene() -> Scene:
    """A plane of 48 x 40 pixels."""
    return simulate((48, 40))


@pytest.fixture
def tiff(tmp_path: Path) -> Callable[..., Path]:
    """Writes an array as TIFF: ``tiff(name, array, **options of tifffile)``."""

    def make(name: str, array: Any, **options: Any) -> Path:
        tifffile.imwrite(tmp_path / name, array, **options)
        return tmp_path / name

    return make


@pytest.fixture
def imaris(tmp_path: Path) -> Callable[..., Path]:
    """Writes (time, channel, z, y, x) as Imaris 5.5, padded to its chunks."""

    def make(array: NDArray[np.uint16], voxel_um: tuple[float, float, float]) -> Path:
        path = tmp_path / "stack.ims"
        chunk = (4, 16, 16)
        size = array.shape[2:]
        padded = tuple(-(-n // c) * c for n, c in zip(size, chunk, strict=True))
        with h5py.File(path, "w") as file:
            for name, value in {
                "DataSetDirectoryName": "DataSet", "DataSetInfoDirectoryName": "DataSetInfo",
                "ImarisDataSet": "ImarisDataSet", "ImarisVersion": "5.5.0",
            }.items():  # fmt: skip
                file.attrs[name] = letters(value)
            file.attrs["NumberOfDataSets"] = np.array([1], np.uint32)
            for t in range(array.shape[0]):
                for c in range(array.shape[1]):
                    group = file.create_group(
                        f"DataSet/ResolutionLevel 0/TimePoint {t}/Channel {c}"
                    )
                    data = np.full(padded, 65535, array.dtype)
                    data[tuple(slice(n) for n in size)] = array[t, c]
                    group.create_dataset("Data", data=data, chunks=chunk)
                    for axis, n in zip("ZYX", size, strict=True):
                        group.attrs[f"ImageSize{axis}"] = letters(str(n))
                    group.attrs["HistogramMin"] = letters("0.000")
                    group.attrs["HistogramMax"] = letters("65535.000")
            image = file.create_group("DataSetInfo/Image")
            for i, (axis, n, step) in enumerate(
                zip("XYZ", size[::-1], voxel_um[::-1], strict=True)
            ):
                image.attrs[axis] = letters(str(n))
                image.attrs[f"ExtMin{i}"] = letters("5.0")
                image.attrs[f"ExtMax{i}"] = letters(f"{5 + n * step:.6f}")
            image.attrs["Unit"] = letters("um")
            for c in range(array.shape[1]):
                channel = file.create_group(f"DataSetInfo/Channel {c}")
                channel.attrs["Name"] = letters(f"dye {c}")
                channel.attrs["Color"] = letters("1.0 1.0 1.0")
            times = file.create_group("DataSetInfo/TimeInfo")
            times.attrs["DatasetTimePoints"] = letters(str(array.shape[0]))
            for t in range(array.shape[0]):
                times.attrs[f"TimePoint{t + 1}"] = letters(f"2026-01-01 00:00:0{t}.000")
        return path

    return make


def letters(text: str) -> NDArray[np.bytes_]:
    """A text as Imaris stores it."""
    return np.array([c.encode() for c in text], "S1")


@pytest.fixture
def counting() -> NDArray[np.uint16]:
    """(time, channel, z, y, x) in which every value encodes its position."""
    return np.arange(2 * 3 * 5 * 18 * 20, dtype=np.uint16).reshape(2, 3, 5, 18, 20)
