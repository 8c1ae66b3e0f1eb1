"""The command line in the process of the tests, and small scans."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tiltkit.cli import main

# A run of about a second: a closed-form prior and a short ladder.
FAST = (
    "--prior",
    "gaussian",
    "--samples",
    "3",
    "-s",
    "sampler.levels=5",
    "-s",
    "sampler.collect=1",
)


@dataclass(frozen=True)
class Done:
    """Exit code and output of a command."""

    code: int
    out: str
    err: str


@pytest.fixture
def tilt(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """``tilt("run", ...)``: exit code and what was printed."""

    def call(*arguments: object) -> Done:
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        code = stop.value.code
        printed = capsys.readouterr()
        assert isinstance(code, int)
        return Done(code, printed.out, printed.err)

    return call


def samples_of(result: Path) -> np.ndarray:
    """The samples in a result file."""
    with h5py.File(result) as file:
        return file["entry/samples/samples"][()]


def write_scan(path: Path, n_slices: int = 1, **changes: Any) -> Path:
    """A scan of a bright ellipse by three coils, every third column and a full centre."""
    rng = np.random.default_rng(5)
    ny, nx, coils = 40, 36, 3
    y, x = np.meshgrid(np.linspace(-1, 1, ny), np.linspace(-1, 1, nx), indexing="ij")
    image = (x**2 + y**2 < 0.35) * (1 + 0.5 * np.sin(6 * x))
    maps = [np.exp(-((x - a) ** 2) - (y - b) ** 2) for a, b in ((-1, 0), (1, 0.5), (0, -1))]
    full = np.fft.ifftshift(np.stack(maps) * image, axes=(1, 2))
    kspace = np.fft.fftshift(np.fft.fft2(full, norm="ortho"), axes=(1, 2))
    noise = rng.normal(size=(n_slices, coils, ny, nx, 2)) @ [0.01, 0.01j]
    mask = np.arange(nx) % 3 == 0
    mask[10:26] = True
    content: dict[str, Any] = {
        "kspace": ((kspace + noise) * mask * 1e-5).astype(np.complex64),
        "mask": mask,
    }
    with h5py.File(path, "w") as file:
        for name, value in (content | changes).items():
            if value is not None:
                file[name] = value
    return path


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return write_scan(tmp_path / "scan.h5")


@pytest.fixture
def scan_of() -> Callable[..., Path]:
    return write_scan
