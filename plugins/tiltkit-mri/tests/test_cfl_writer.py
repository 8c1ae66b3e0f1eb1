"""BART's files, read by numpy and by BART itself."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from tiltkit_mri.cfl_writer import CflOptions, write_cfl

from tiltkit import reconstruct
from tiltkit.errors import UsageError

FAST = {"sampler.levels": 5, "sampler.collect": 1}


def read(base: Path) -> np.ndarray:
    """An array as BART's manual describes it: column-major complex64."""
    dims = [int(word) for word in Path(f"{base}.hdr").read_text().splitlines()[1].split()]
    return np.fromfile(f"{base}.cfl", np.complex64).reshape(dims, order="F")


@pytest.fixture
def result(tmp_path: Path, write: Callable[..., Path], scan: Any, sampling: Any) -> Path:
    """Two repetitions of two slices, without the last one."""
    mask = sampling(56)
    data = np.stack([scan.noisy(0.01, seed) * mask for seed in range(4)])
    path = write(kspace=data.reshape(2, 2, *data.shape[1:]).astype(np.complex64))
    reconstruct(
        "mri-recon", path, output=tmp_path / "o.h5", prior="gaussian", samples=3, slices="0:3",
        settings={"task.axes": "repetition,slice,coil,row,column", **FAST},
    )  # fmt: skip
    assert write_cfl(tmp_path / "o.h5", tmp_path / "o.cfl", CflOptions(samples=True)) == [
        "1 images of the .cfl files are not in the result: zeros."
    ]
    return tmp_path / "o.h5"


def test_repetitions_and_slices_are_on_the_dimensions_of_bart(result: Path) -> None:
    with h5py.File(result) as file:
        mean, phase = file["entry/data/data"][()], file["entry/phase/phase"][()]
        spread, samples = file["entry/data/std"][()], file["entry/samples/samples"][()]
    written = read(result.with_suffix(""))
    assert written.shape == (64, 56, *[1] * 8, 2, 1, 1, 2, 1, 1)
    images = written.reshape(64, 56, 2, 2, order="F")  # repetition, slice
    for index, (repetition, slice_) in enumerate([(0, 0), (0, 1), (1, 0)]):
        image = images[:, :, repetition, slice_]
        np.testing.assert_allclose(np.abs(image), mean[index], rtol=1e-5)
        np.testing.assert_allclose(
            np.exp(1j * np.angle(image)), np.exp(1j * phase[index]), atol=1e-4
        )
    assert not images[:, :, 1, 1].any()
    std = read(result.with_suffix(".std")).reshape(64, 56, 2, 2, order="F")
    np.testing.assert_array_equal(std[:, :, 0, 1], spread[1])
    drawn = read(result.with_suffix(".samples"))
    assert drawn.shape[15] == len(samples)
    last = drawn.reshape(64, 56, 2, 2, 3, order="F")[..., 1, 0, 2]
    np.testing.assert_array_equal(last, samples[2, 2])


def test_complex_images_of_a_result_are_written_as_they_are(
    tmp_path: Path, write: Callable[..., Path], scan: Any, sampling: Any
) -> None:
    data = (scan.noisy(0.01) * sampling(56)).astype(np.complex64)
    result = reconstruct(
        "mri-recon", write(kspace=data[None]), output=tmp_path / "c.h5", prior="gaussian",
        samples=3, settings={"task.output": "complex", **FAST},
    )  # fmt: skip
    write_cfl(tmp_path / "c.h5", tmp_path / "c.cfl", CflOptions(samples=True))
    mean, samples = (result.further[f"complex_{name}"] for name in ("mean", "samples"))
    np.testing.assert_array_equal(read(tmp_path / "c").squeeze(), mean[0])
    drawn = read(tmp_path / "c.samples").squeeze()
    np.testing.assert_array_equal(np.moveaxis(drawn, -1, 0), samples[:, 0])


def test_the_name_must_be_that_of_a_cfl_file(result: Path) -> None:
    with pytest.raises(UsageError, match=r"does not end with \.cfl"):
        write_cfl(result, result.with_name("out"), CflOptions())


@pytest.mark.skipif(shutil.which("bart") is None, reason="BART is not installed")
def test_bart_reads_what_was_written(result: Path, tmp_path: Path) -> None:
    def bart(*words: object) -> str:
        command = ["bart", *map(str, words)]
        return subprocess.run(
            command, check=True, capture_output=True, text=True, cwd=tmp_path
        ).stdout

    base = result.with_suffix("")
    assert bart("show", "-d", 10, base).strip() == "2"
    assert bart("show", "-d", 13, base).strip() == "2"
    bart("slice", 10, 0, 13, 1, base, "one")
    bart("extract", 0, 30, 31, 1, 20, 23, "one", "few")
    shown = [complex(word.replace("i", "j")) for word in bart("show", "few").split()]
    expected = read(base)[30, 20:23].reshape(3, 2, 2, order="F")[:, 0, 1]
    np.testing.assert_allclose(shown, expected, rtol=1e-5)
    bart("toimg", "one", "picture")
    assert (tmp_path / "picture.png").stat().st_size > 1000
