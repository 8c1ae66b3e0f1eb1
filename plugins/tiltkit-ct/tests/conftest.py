"""Simulated scans: ellipses whose projections are known in closed form, on a noisy camera."""

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

Array = NDArray[np.float64]

# x, y, half axes, angle, value; in units of the radius
ELLIPSES = (
    (0.0, 0.0, 0.72, 0.65, 0.3, 1.0),
    (0.2, 0.1, 0.15, 0.25, 0.5, -0.6),
    (-0.35, 0.15, 0.1, 0.12, 1.0, 0.9),
    (0.05, -0.35, 0.2, 0.08, 2.0, 0.7),
    (0.4, -0.2, 0.05, 0.06, 0.0, -0.9),
    (-0.1, 0.4, 0.04, 0.04, 0.0, 1.5),
)


def project(angles: Array, columns: int, axis: float, radius: float) -> Array:
    """Line integrals (angle, column) of the ellipses, largest near 1; averaged over a pixel."""
    parts = (np.arange(4) + 0.5) / 4 - 0.5
    s = ((np.arange(columns)[:, None] + parts).ravel() - axis) / radius
    total = np.zeros((len(angles), len(s)))
    for x, y, a, b, turned, value in ELLIPSES:
        width = np.hypot(a * np.cos(angles - turned), b * np.sin(angles - turned))[:, None]
        centre = (x * np.cos(angles) + y * np.sin(angles))[:, None]
        total += value * 2 * a * b / width * np.sqrt(np.maximum(1 - ((s - centre) / width) ** 2, 0))
    return total.reshape(len(angles), columns, -1).mean(axis=2) / 1.5


@dataclass(frozen=True)
class Simulated:
    """A scan and the truth behind it; frames are (n, row, column)."""

    truth: Array  # line integrals (angle, column), of every row
    angles: Array  # radians
    counts: Array
    flats: Array
    darks: Array
    photons: Array  # without sample, (row, column)


def simulate(
    *,
    n: int = 90,
    rows: int = 3,
    columns: int = 128,
    axis: float = 65.2,
    radius: float = 50.0,
    turn: float = np.pi,
    thickness: float = 2.0,
    photons: float = 5000.0,
    gain: float = 2.0,
    read_noise: float = 3.0,
    dark: float = 100.0,
    n_flats: int = 10,
    fluctuation: float = 0.01,
    seed: int = 0,
) -> Simulated:
    """Counts of a camera with unlike pixels behind a beam that is brighter in the middle."""
    rng = np.random.default_rng(seed)
    angles = turn * np.arange(n) / n
    truth = thickness * project(angles, columns, axis, radius)
    beam = photons * (1 + 0.2 * np.cos(np.linspace(-2, 2, columns)))
    beam = beam * rng.normal(1, 0.05, (rows, columns))

    def recorded(expected: Array) -> Array:
        noise = read_noise * rng.normal(size=expected.shape)
        return gain * rng.poisson(expected) + dark + noise

    flats = beam * rng.normal(1, fluctuation, (n_flats, 1, 1))
    return Simulated(
        truth=truth,
        angles=angles,
        counts=recorded(beam * np.exp(-truth)[:, None]),
        flats=recorded(flats),
        darks=recorded(np.zeros((n_flats, rows, columns))),
        photons=beam,
    )


def write(path: Path, attrs: dict[str, dict[str, Any]] | None = None, **datasets: Any) -> Path:
    """A new HDF5 file: names of datasets have ``__`` for ``/``; attributes by full name."""
    with h5py.File(path, "w") as file:
        for name, value in datasets.items():
            file[name.replace("__", "/")] = value
        for name, values in (attrs or {}).items():
            file.require_group(name) if name not in file else None
            file[name].attrs.update(values)
    return path


@pytest.fixture(name="project", scope="session")
def _project() -> Callable[..., Array]:
    """``project(angles, columns, axis, radius)``: line integrals in closed form."""
    return project


@pytest.fixture(name="simulate", scope="session")
def _simulate() -> Callable[..., Simulated]:
    """``simulate(n=, rows=, columns=, ...)``: a scan as a camera records it."""
    return simulate


@pytest.fixture(scope="session")
def scan() -> Simulated:
    """90 angles, 3 rows, 128 columns."""
    return simulate()


@pytest.fixture(name="write")
def _write(tmp_path: Path) -> Callable[..., Path]:
    """``write(attrs, a__b=array)``: an HDF5 file."""
    return lambda attrs=None, **datasets: write(tmp_path / "scan.h5", attrs, **datasets)


@pytest.fixture
def exchange(tmp_path: Path) -> Callable[..., Path]:
    """``exchange(simulated, exchange__theta=None, ...)``: a Data Exchange file; None leaves out."""

    def make(simulated: Simulated, attrs: Any = None, **changes: Any) -> Path:
        datasets = {
            "exchange__data": simulated.counts.astype(np.float32),
            "exchange__data_white": simulated.flats.astype(np.float32),
            "exchange__data_dark": simulated.darks.astype(np.float32),
            "exchange__theta": np.degrees(simulated.angles),
        } | changes
        kept = {name: value for name, value in datasets.items() if value is not None}
        return write(tmp_path / "scan.h5", attrs, **kept)

    return make


@pytest.fixture
def shared() -> Path:
    """The folder with real scans; the test is skipped where it is absent."""
    root = Path(__file__).parents[3]
    folder = Path(os.environ.get("TILTKIT_SHARED_DATA", root / "../shared/data"))
    if not (folder / "tooth_aps.h5").is_file():
        pytest.skip("real scans are not here: set TILTKIT_SHARED_DATA")
    return folder
