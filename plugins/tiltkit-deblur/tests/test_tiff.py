"""TIFF files with several images, compressed ones, large ones."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from tiltkit_deblur.task import open_volume

from tiltkit.errors import InputError, UsageError

Write = Callable[..., Path]
PLANES = np.arange(3 * 20 * 24, dtype=np.uint16).reshape(3, 20, 24)


def positions(path: Path, *stacks: NDArray[Any]) -> Path:
    """An OME-TIFF with one image for each position, whose voxels differ."""
    with tifffile.TiffWriter(path, ome=True) as file:
        for number, stack in enumerate(stacks):
            size = {f"PhysicalSize{axis}": 0.1 * (number + 1) for axis in "ZYX"}
            about = {"axes": "ZYX", "Name": f"pos {number}", **size}
            file.write(stack, photometric="minisblack", metadata=about)
    return path


def test_a_position_of_several_is_asked_for_and_read_with_its_own_voxel(tmp_path: Path) -> None:
    path = positions(tmp_path / "a.ome.tif", PLANES, PLANES + 5000)
    with pytest.raises(UsageError, match=r"2 images.*pos 0.*pos 1") as caught:
        open_volume(path).__enter__()
    assert "task.series" in caught.value.hint
    with open_volume(path, series=1) as volume:
        np.testing.assert_array_equal(volume.read(0, 0), PLANES + 5000)
        assert volume.voxel_um == pytest.approx((0.2, 0.2, 0.2))
    with pytest.raises(UsageError, match="no series 2"):
        open_volume(path, series=2).__enter__()


def test_a_thumbnail_is_no_second_image_but_noted(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(PLANES[0, ::6, ::6].astype(np.uint8))
        file.write(PLANES, photometric="minisblack")
    with open_volume(path) as volume:
        np.testing.assert_array_equal(volume.read(0, 0), PLANES)
        assert [note.code for note in volume.notes] == ["series_chosen"]


def test_a_layout_with_one_image_has_no_series(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["data"] = PLANES
    with pytest.raises(UsageError, match="holds one image"):
        open_volume(tmp_path / "a.h5", series=1)


@pytest.mark.parametrize("compression", ["lzw", "zstd"])
def test_compressed_files_are_read(compression: str, tiff: Write) -> None:
    pytest.importorskip("imagecodecs")
    path = tiff("a.tif", PLANES, compression=compression, photometric="minisblack")
    with open_volume(path) as volume:
        np.testing.assert_array_equal(volume.read(0, 0), PLANES)
        assert not volume.notes


def test_lossy_compression_is_noted(tiff: Write) -> None:
    pytest.importorskip("imagecodecs")
    path = tiff("a.tif", PLANES.astype(np.uint8), compression="jpeg", photometric="minisblack")
    with open_volume(path) as volume:
        assert volume.read(0, 0).shape == PLANES.shape
        assert [note.code for note in volume.notes] == ["lossy_compression"]


def test_a_compression_without_its_package_names_the_extra(
    tiff: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: Any, **__: Any) -> Any:
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    path = tiff("a.tif", PLANES, compression="zlib", photometric="minisblack")
    monkeypatch.setattr(tifffile.TiffPageSeries, "asarray", missing)
    with open_volume(path) as volume, pytest.raises(InputError, match="imagecodecs") as caught:
        volume.read(0, 0)
    assert "tiltkit-deblur[codecs]" in caught.value.hint


@pytest.mark.parametrize(
    "options",
    [
        {"imagej": True, "metadata": {"axes": "ZYX"}},
        {"photometric": "minisblack"},
        {"photometric": "minisblack", "compression": "zlib"},
    ],
)
def test_a_plane_of_a_stack_is_read_without_the_rest(options: dict[str, Any], tiff: Write) -> None:
    stack = np.random.default_rng(0).integers(0, 9, (32, 256, 256), dtype=np.uint16)
    path = tiff("a.tif", stack, **options)
    with open_volume(path) as volume:
        tracemalloc.start()
        plane = volume.read(0, 0, (slice(7, 8), slice(None), slice(None)))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    np.testing.assert_array_equal(plane[0], stack[7])
    assert peak < stack.nbytes / 4
