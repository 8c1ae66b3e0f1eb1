"""Every layout gives the same volume, whoever wrote it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray
from tiltkit_deblur.readers.bdv import BigDataViewer
from tiltkit_deblur.readers.hdf5 import PlainHdf5
from tiltkit_deblur.readers.imaris import Imaris
from tiltkit_deblur.readers.omezarr import OmeZarr
from tiltkit_deblur.readers.tiff import Tiff
from tiltkit_deblur.task import open_volume

from tiltkit.errors import InputError, UsageError

VOXEL = (0.5, 0.1, 0.1)
Write = Callable[[Path, NDArray[np.uint16]], Path]


def write_bdv(path: Path, array: NDArray[np.uint16]) -> Path:
    npy2bdv = pytest.importorskip("npy2bdv")
    writer = npy2bdv.BdvWriter(str(path / "stack.h5"), nchannels=array.shape[1], overwrite=True)
    for t, c in np.ndindex(*array.shape[:2]):
        writer.append_view(
            array[t, c], time=t, channel=c, voxel_size_xyz=VOXEL[::-1], voxel_units="um"
        )
    writer.write_xml()
    writer.close()
    return path / "stack.h5"


def write_ome_tiff(path: Path, array: NDArray[np.uint16]) -> Path:
    tifffile = pytest.importorskip("tifffile")
    sizes = {f"PhysicalSize{axis}": v for axis, v in zip("ZYX", VOXEL, strict=True)}
    units = {f"PhysicalSize{axis}Unit": "µm" for axis in "ZYX"}
    tifffile.imwrite(path / "a.ome.tif", array, metadata={"axes": "TCZYX", **sizes, **units})
    return path / "a.ome.tif"


def write_imagej(path: Path, array: NDArray[np.uint16]) -> Path:
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(
        path / "a.tif", array.transpose(0, 2, 1, 3, 4), imagej=True,
        resolution=(1 / VOXEL[2], 1 / VOXEL[1]),
        metadata={"axes": "TZCYX", "spacing": VOXEL[0], "unit": "um"},
    )  # fmt: skip
    return path / "a.tif"


def write_ilastik(path: Path, array: NDArray[np.uint16]) -> Path:
    axes = [
        {"key": key, "typeFlags": flag, "resolution": 0, "description": ""}
        for key, flag in (("t", 8), ("z", 2), ("y", 2), ("x", 2), ("c", 1))
    ]
    with h5py.File(path / "a.h5", "w") as file:
        file["exported_data"] = array.transpose(0, 2, 3, 4, 1)
        file["exported_data"].attrs["axistags"] = json.dumps({"axes": axes})
        file["exported_data"].attrs["element_size_um"] = VOXEL
    return path / "a.h5"


def write_zarr(path: Path, array: NDArray[np.uint16]) -> Path:
    with warnings.catch_warnings():  # of its own dependencies
        warnings.simplefilter("ignore")
        zarr = pytest.importorskip("zarr")
        writer = pytest.importorskip("ome_zarr.writer")
        formats = pytest.importorskip("ome_zarr.format")
        axes = [{"name": "t", "type": "time"}, {"name": "c", "type": "channel"}]
        axes += [{"name": n, "type": "space", "unit": "micrometer"} for n in "zyx"]
        root = zarr.open_group(str(path / "a.zarr"), mode="w", zarr_format=2)
        writer.write_image(
            array, root, axes=axes, fmt=formats.FormatV04(), scaler=None,
            coordinate_transformations=[[{"type": "scale", "scale": [1.0, 1.0, *VOXEL]}]],
        )  # fmt: skip
        # Versions of the writer differ in which of these they take from the arguments.
        images = root.attrs["multiscales"]
        images[0]["axes"] = axes
        images[0]["datasets"][0]["coordinateTransformations"] = [
            {"type": "scale", "scale": [1.0, 1.0, *VOXEL]}
        ]
        root.attrs["multiscales"] = images
    return path / "a.zarr"


WRITERS = {
    "BigDataViewer by npy2bdv": (write_bdv, BigDataViewer),
    "OME-TIFF by tifffile": (write_ome_tiff, Tiff),
    "ImageJ TIFF by tifffile": (write_imagej, Tiff),
    "ilastik": (write_ilastik, PlainHdf5),
    "OME-Zarr by ome-zarr": (write_zarr, OmeZarr),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_volume_is_what_another_program_wrote(
    name: str, tmp_path: Path, counting: NDArray[np.uint16]
) -> None:
    write, reader = WRITERS[name]
    path = write(tmp_path, counting)
    assert reader.matches(path)
    with open_volume(path) as volume:
        assert volume.shape == counting.shape
        assert volume.voxel_um == pytest.approx(VOXEL, rel=1e-5)
        assert volume.saturation == 65535
        for t, c in np.ndindex(2, 3):
            np.testing.assert_array_equal(volume.read(t, c), counting[t, c])
        window = (slice(1, 4), slice(3, 9), slice(5, 6))
        np.testing.assert_array_equal(volume.read(1, 2, window), counting[1, 2][window])


def test_an_imaris_file_is_read_as_another_reader_reads_it(
    imaris: Callable[..., Path], counting: NDArray[np.uint16]
) -> None:
    path = imaris(counting, VOXEL)
    with open_volume(path) as volume:
        assert volume.layout == "Imaris"
        assert volume.shape == counting.shape
        assert volume.voxel_um == pytest.approx(VOXEL, rel=1e-5)
        assert list(volume.channels) == ["dye 0", "dye 1", "dye 2"]
        mine = volume.read(1, 2)
    np.testing.assert_array_equal(mine, counting[1, 2])
    with warnings.catch_warnings():  # it leaves files open
        warnings.simplefilter("ignore")
        other = pytest.importorskip("imaris_ims_file_reader.ims")
        theirs = other.ims(str(path), squeeze_output=False)
        np.testing.assert_array_equal(np.squeeze(theirs[1, 2, :, :, :]), mine)
        theirs.hf.close()


def test_either_file_of_bigdataviewer_may_be_named(
    tmp_path: Path, counting: NDArray[np.uint16]
) -> None:
    path = write_bdv(tmp_path, counting)
    with open_volume(path.with_suffix(".xml")) as volume:
        np.testing.assert_array_equal(volume.read(0, 1), counting[0, 1])


def test_bigdataviewer_pixels_above_half_of_the_range_are_positive(tmp_path: Path) -> None:
    bright = np.full((1, 1, 4, 8, 8), 60000, np.uint16)
    with open_volume(write_bdv(tmp_path, bright)) as volume:
        assert volume.read(0, 0).min() == 60000


def test_a_missing_xml_file_is_named(tmp_path: Path, counting: NDArray[np.uint16]) -> None:
    path = write_bdv(tmp_path, counting)
    path.with_suffix(".xml").unlink()
    with pytest.raises(InputError, match=r"XML file stack\.xml is not beside it"):
        open_volume(path).__enter__()


def test_a_view_that_the_xml_promises_but_the_pixels_lack_is_named(
    tmp_path: Path, counting: NDArray[np.uint16]
) -> None:
    path = write_bdv(tmp_path, counting)
    with h5py.File(path, "r+") as file:
        del file["t00000/s00"]
    with pytest.raises(InputError, match="t00000/s00/0/cells"):
        open_volume(path).__enter__()


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((6, 7), (1, 1, 1, 6, 7)),
        ((5, 6, 7), (1, 1, 5, 6, 7)),
        ((12, 5, 6, 7), (12, 1, 5, 6, 7)),
        ((3, 10, 6, 7), (1, 3, 10, 6, 7)),
        ((9, 10, 11, 2), (1, 2, 9, 10, 11)),
        ((2, 3, 4, 6, 7), (2, 3, 4, 6, 7)),
    ],
)
def test_axes_without_names_are_guessed_by_number_and_length(
    shape: tuple[int, ...], expected: tuple[int, ...], tmp_path: Path
) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["anything"] = np.zeros(shape, np.float32)
    with open_volume(path) as volume:
        assert volume.shape == expected


def test_axes_can_be_given_in_any_order(tmp_path: Path, counting: NDArray[np.uint16]) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["data"] = counting[0, 0].transpose(2, 0, 1)
    with open_volume(path, axes="xzy") as volume:
        np.testing.assert_array_equal(volume.read(0, 0), counting[0, 0])


@pytest.mark.parametrize("axes", ["zy", "zyq", "zzy", "tcz"])
def test_axes_that_do_not_fit_are_refused(axes: str, tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["data"] = np.zeros((5, 6, 7), np.float32)
    with pytest.raises(UsageError, match="axes"):
        open_volume(path, axes=axes).__enter__()


def test_one_of_several_arrays_must_be_chosen(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["left"], file["right"] = np.zeros((6, 7), "f4"), np.ones((6, 7), "f4")
    with pytest.raises(InputError, match="left") as caught:
        open_volume(path).__enter__()
    assert "task.dataset" in caught.value.hint
    with open_volume(path, dataset="right") as volume:
        assert volume.read(0, 0).min() == 1
    with pytest.raises(UsageError, match="middle"):
        open_volume(path, dataset="middle").__enter__()


def test_broken_files_are_explained(tmp_path: Path) -> None:
    tiff = tmp_path / "a.tif"
    tiff.write_bytes(b"II*\0" + b"\xff" * 20)
    xml = tmp_path / "a.xml"
    xml.write_text("<SpimData><ImageLoader format='bdv.hdf5'>")
    text = tmp_path / "a.h5"
    text.write_text("hello")
    for path in (tiff, xml, text, tmp_path / "missing.tif"):
        with pytest.raises(InputError) as caught:
            open_volume(path).__enter__()
        assert caught.value.hint
    with pytest.raises(InputError, match="XML"):
        BigDataViewer.open(xml).__enter__()
    with pytest.raises(InputError, match="holds no image"):
        Tiff.open(tiff).__enter__()
    with pytest.raises(InputError, match="Imaris"):
        _empty(tmp_path)


def _empty(tmp_path: Path) -> Any:
    path = tmp_path / "empty.ims"
    h5py.File(path, "w").close()
    return Imaris.open(path).__enter__()


@pytest.mark.parametrize("dtype", ["complex64", "bool"])
def test_values_that_are_no_intensities_are_refused(dtype: str, tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["data"] = np.zeros((6, 7), dtype)
    with pytest.raises(InputError, match=dtype):
        open_volume(path).__enter__()


def test_a_zarr_array_without_metadata_is_explained(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    zarr.save(str(tmp_path / "a.zarr"), np.zeros((5, 6, 7), np.uint16))
    with pytest.raises(InputError, match="array alone"):
        open_volume(tmp_path / "a.zarr").__enter__()
