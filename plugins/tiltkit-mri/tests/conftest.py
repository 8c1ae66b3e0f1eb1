"""Simulated scans: a smooth head-like object, smooth coils, files in the fastMRI layout."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

Complex = NDArray[np.complex128]


@dataclass(frozen=True)
class Simulated:
    """A fully sampled slice without noise, and the truth behind it."""

    image: Complex  # (ny, nx)
    maps: Complex  # (coil, ny, nx), squares of magnitudes sum to 1
    kspace: Complex  # (coil, ny, nx)

    @property
    def inside(self) -> NDArray[np.bool_]:
        """Mask of the object."""
        return np.abs(self.image) > 0.1

    def noisy(self, level: float, seed: int = 0) -> Complex:
        """k-space with white noise of a standard deviation per real component."""
        rng = np.random.default_rng(seed)
        noise = rng.normal(size=(*self.kspace.shape, 2)) @ np.array([1, 1j])
        return self.kspace + level * noise


def centred_fft(image: Complex) -> Complex:
    """The convention of MRI files, written with numpy alone."""
    axes = (-2, -1)
    shifted = np.fft.ifftshift(image, axes=axes)
    return np.fft.fftshift(np.fft.fft2(shifted, norm="ortho"), axes=axes)


def simulate(shape: tuple[int, int] = (64, 56), n_coils: int = 4) -> Simulated:
    """An ellipse with structure and a smooth phase, with coils around it and air on all sides."""
    ny, nx = shape
    y, x = np.meshgrid(np.arange(ny) / ny - 0.5, np.arange(nx) / nx - 0.5, indexing="ij")
    edge = 1 / (1 + np.exp((np.hypot(y / 0.34, x / 0.4) - 1) * 40))
    image = edge * (0.7 + 0.3 * np.cos(40 * y + 3) * np.sin(50 * x)) * np.exp(1j * (y + 2 * x * y))
    angles = 2 * np.pi * np.arange(n_coils) / n_coils
    coils = [
        np.exp(-((y - 0.6 * np.sin(a)) ** 2 + (x - 0.6 * np.cos(a)) ** 2) / 0.25 + 1j * (a + x * y))
        for a in angles
    ]
    maps = np.stack(coils)
    maps /= np.sqrt((np.abs(maps) ** 2).sum(0))
    return Simulated(image, maps, centred_fft(maps * image))


def sampling(columns: int, every: int = 4, lines: int = 16) -> NDArray[np.bool_]:
    """Every n-th column and some in the centre."""
    mask = np.zeros(columns, dtype=np.bool_)
    mask[::every] = True
    first = columns // 2 - lines // 2
    mask[first : first + lines] = True
    return mask


def header(
    encoded: tuple[int, int], recon: tuple[int, int], centre: int | None = None, last: int = 0
) -> str:
    """An ISMRMRD header; without ``centre`` it has no encoding limits."""
    limits = (
        f"<encodingLimits><kspace_encoding_step_1><minimum>0</minimum><maximum>{last}</maximum>"
        f"<center>{centre}</center></kspace_encoding_step_1></encodingLimits>"
        if centre is not None
        else ""
    )
    spaces = "".join(
        f"<{name}><matrixSize><x>{x}</x><y>{y}</y><z>1</z></matrixSize><fieldOfView_mm>"
        f"<x>{2 * x}</x><y>{2 * y}</y><z>5</z></fieldOfView_mm></{name}>"
        for name, (x, y) in (("encodedSpace", encoded), ("reconSpace", recon))
    )
    return (
        '<?xml version="1.0"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">'
        f"<encoding>{spaces}{limits}</encoding></ismrmrdHeader>"
    )


@pytest.fixture(scope="session")
def scan() -> Simulated:
    """64 x 56 pixels, four coils."""
    return simulate()


@pytest.fixture(name="simulate", scope="session")
def _simulate() -> Callable[..., Simulated]:
    """Makes a slice: ``simulate(shape, n_coils)``."""
    return simulate


@pytest.fixture(name="sampling", scope="session")
def _sampling() -> Callable[..., NDArray[np.bool_]]:
    """Makes a mask: ``sampling(columns, every, lines)``."""
    return sampling


@pytest.fixture(name="header", scope="session")
def _header() -> Callable[..., str]:
    """Makes an ISMRMRD header: ``header(encoded, recon, centre, last)``."""
    return header


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes datasets and attributes into a new HDF5 file."""

    def make(attrs: dict[str, Any] | None = None, **datasets: Any) -> Path:
        path = tmp_path / "scan.h5"
        with h5py.File(path, "w") as file:
            for name, value in datasets.items():
                file[name] = value
            file.attrs.update(attrs or {})
        return path

    return make


@pytest.fixture
def shared() -> Path:
    """The folder with real scans; the test is skipped where it is absent."""
    root = Path(__file__).parents[3]
    folder = Path(os.environ.get("TILTKIT_SHARED_DATA", root / "../shared/data"))
    if not (folder / "brain_8ch_4x.h5").is_file():
        pytest.skip("real scans are not here: set TILTKIT_SHARED_DATA")
    return folder
