"""Further images of a result: in files, in memory, and from one to the other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

import tiltkit
from tests.conftest import NX, NY, SAMPLES, SLICES
from tiltkit.io.nexus import image_bytes
from tiltkit.io.result import ResultWriter
from tiltkit.io.stored import StoredInFile, StoredInMemory
from tiltkit.posterior.further import further_images
from tiltkit.posterior.outcome import FurtherImage, Outcome
from tiltkit.problem import ImageMap, Problem


def further(seed: int) -> dict[str, FurtherImage]:
    rng = np.random.default_rng(seed)
    drawn = rng.normal(size=(SAMPLES, NY, NX, 2)) @ np.array([1, 1j])
    return {
        "snr": FurtherImage(rng.random((NY, NX), np.float32), "mean over spread", ""),
        "complex_samples": FurtherImage(drawn.astype(np.complex64), "complex sample"),
    }


@pytest.fixture
def stored(start: Callable[..., ResultWriter], outcome: Callable[..., Outcome]) -> Path:
    with start() as writer:
        for index in range(SLICES):
            writer.write(index, outcome(index, further=further(index)))
        writer.finish()
    return writer.path


def check(found: dict[str, FurtherImage]) -> None:
    assert set(found) == {"snr", "complex_samples"}
    assert found["complex_samples"].values.dtype == np.complex64
    for index in range(SLICES):
        for name, one in further(index).items():
            at = (slice(None), index) if name == "complex_samples" else index
            np.testing.assert_array_equal(found[name].values[at], one.values)


def test_a_file_gives_back_further_images_with_units(stored: Path) -> None:
    result = StoredInFile(stored)
    check(result.further())
    one = result.further(2)["snr"]
    np.testing.assert_array_equal(one.values, further(2)["snr"].values)
    assert (one.long_name, one.units) == ("mean over spread", "")
    with h5py.File(stored) as file:
        group = file["entry/further/complex_samples"]
        assert group.attrs["signal"] == "complex_samples"
        assert list(group.attrs["axes"]) == ["sample", "z", "y", "x"]


def test_tiles_make_whole_images(
    start: Callable[..., ResultWriter], outcome: Callable[..., Outcome], recipe: Any
) -> None:
    left, right = (slice(0, NY), slice(0, 4)), (slice(0, NY), slice(4, NX))

    def part(index: int, window: tuple[slice, ...]) -> Outcome:
        whole = outcome(index)
        cut: dict[str, Any] = {
            name: getattr(whole, name)[(..., *window)]
            for name in ("mean", "std", "samples", "baseline", "phase")
        }
        cut["quantiles"] = {q: image[window] for q, image in whole.quantiles.items()}
        cut["further"] = {
            name: FurtherImage(one.values[(..., *window)], one.long_name, one.units)
            for name, one in further(index).items()
        }
        return outcome(index, **cut)

    writer = start()
    memory = StoredInMemory.empty(writer._layout, SAMPLES, recipe, {})
    with writer:
        for sink in (writer, memory):
            for index in range(SLICES):
                for window in (left, right):
                    sink.write_tile(index, window, part(index, window))
                sink.close_slice(index, {"ess_min": 1.0})
        writer.finish()
    check(StoredInFile(writer.path).further())
    check(memory.further())
    np.testing.assert_array_equal(
        memory.further(1)["complex_samples"].values, further(1)["complex_samples"].values
    )


def test_saving_a_loaded_result_keeps_further_images(stored: Path, tmp_path: Path) -> None:
    loaded = tiltkit.load_result(stored)
    assert loaded.further["snr"].shape == (SLICES, NY, NX)
    loaded.save(tmp_path / "again.h5")
    check(StoredInFile(tmp_path / "again.h5").further())
    data = loaded.to_xarray()
    assert data["complex_samples"].dims == ("sample", "z", "y", "x")
    assert data["snr"].attrs["units"] == ""


def test_results_without_further_images_have_none(result: Path) -> None:
    assert tiltkit.load_result(result).further == {}


def test_the_size_of_a_result_counts_further_images(
    start: Callable[..., ResultWriter], outcome: Callable[..., Outcome], layout: Any
) -> None:
    shape = (2, NY, NX)
    problem = Problem(
        None, None, shape,  # type: ignore[arg-type]
        complex_image=lambda x: torch.complex(x[:, 0], x[:, 1]),
        maps={"snr": ImageMap(lambda mean, std: mean / std, "mean over spread")},
    )  # fmt: skip
    image = torch.ones(NY, NX)
    x = torch.ones(SAMPLES, *shape)
    made = further_images(problem, image, image, x, x[0])
    with start() as writer:
        for index in range(SLICES):
            writer.write(index, outcome(index, further=made))
        writer.finish()
    sizes = {}

    def visit(_name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.ndim >= 3:
            sizes[h5py.h5o.get_info(item.id).addr] = item.id.get_storage_size()

    with h5py.File(writer.path) as file:
        file.visititems(visit)
    # Checksums add 4 bytes to each plane.
    assert sum(sizes.values()) == pytest.approx(image_bytes(layout, SAMPLES, problem), rel=0.02)
