"""FITS, CZI and ND2: parts, positions and voxels as other libraries wrote them."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tiltkit_deblur.readers.nd2 import Nd2
from tiltkit_deblur.task import open_volume

from tiltkit.errors import InputError, UsageError

WINDOW = (slice(1, 4), slice(3, 9), slice(5, 6))


@pytest.mark.parametrize(
    ("dtype", "saturation"),
    [("uint16", 65535), ("int16", 32767), ("uint8", 255), ("float32", np.inf)],
)
def test_fits_images_are_read_in_parts_with_their_own_type(
    dtype: str, saturation: float, tmp_path: Path, counting: NDArray[np.uint16]
) -> None:
    fits = pytest.importorskip("astropy.io.fits")
    stack = (counting[1, 2] % 250).astype(dtype)
    fits.PrimaryHDU(stack).writeto(tmp_path / "a.fits")
    with open_volume(tmp_path / "a.fits") as volume:
        assert volume.shape == (1, 1, *stack.shape)
        assert volume.saturation == saturation
        np.testing.assert_array_equal(volume.read(0, 0, WINDOW), stack[WINDOW])
        np.testing.assert_array_equal(volume.read(0, 0), stack)


def test_blank_pixels_of_fits_have_no_reading(tmp_path: Path) -> None:
    fits = pytest.importorskip("astropy.io.fits")
    image = np.arange(30, dtype=np.int16).reshape(5, 6)
    hdu = fits.PrimaryHDU(image)
    hdu.header["BLANK"] = 7
    hdu.writeto(tmp_path / "a.fits")
    with open_volume(tmp_path / "a.fits") as volume:
        assert np.argwhere(np.isnan(volume.read(0, 0)[0])).tolist() == [[1, 1]]


def test_the_science_image_of_fits_is_taken_and_others_can_be_chosen(tmp_path: Path) -> None:
    fits = pytest.importorskip("astropy.io.fits")
    images = [fits.ImageHDU(np.full((6, 7), i, np.float32), name=n)
              for i, n in enumerate(("ERR", "SCI"))]  # fmt: skip
    fits.HDUList([fits.PrimaryHDU(), *images]).writeto(tmp_path / "a.fits")
    with open_volume(tmp_path / "a.fits") as volume:
        assert volume.read(0, 0).max() == 1
        assert [note.code for note in volume.notes] == ["series_chosen"]
    with open_volume(tmp_path / "a.fits", series=0) as volume:
        assert volume.read(0, 0).max() == 0
        assert not volume.notes
    cut = (tmp_path / "a.fits").read_bytes()[:2900]
    (tmp_path / "cut.fits").write_bytes(cut)
    with warnings.catch_warnings():  # of the library, about the cut file
        warnings.simplefilter("ignore")
        with pytest.raises(InputError):
            open_volume(tmp_path / "cut.fits").__enter__()


def write_czi(path: Path, array: NDArray[np.uint16], scenes: int = 1) -> Path:
    czi = pytest.importorskip("pylibCZIrw.czi")
    with czi.create_czi(str(path)) as file:
        for scene in range(scenes):
            for t, c, z in np.ndindex(*array.shape[:3]):
                plane = {"T": t, "C": c, "Z": z, "B": 0}
                file.write(array[t, c, z] + scene, plane=plane, scene=scene,
                           location=(1000 * scene, 0))  # fmt: skip
        file.write_metadata(
            "test", {0: "blue", 1: "green", 2: "red"}, scale_x=1e-7, scale_y=1e-7, scale_z=5e-7
        )
    return path


def test_czi_is_read_in_parts_with_voxels_and_channels(
    tmp_path: Path, counting: NDArray[np.uint16]
) -> None:
    path = write_czi(tmp_path / "a.czi", counting)
    with open_volume(path) as volume:
        assert volume.shape == counting.shape
        assert volume.voxel_um == pytest.approx((0.5, 0.1, 0.1))
        assert list(volume.channels) == ["blue", "green", "red"]
        assert volume.saturation == 65535
        np.testing.assert_array_equal(volume.read(1, 2, WINDOW), counting[1, 2][WINDOW])


def test_a_scene_of_several_is_asked_for(tmp_path: Path, counting: NDArray[np.uint16]) -> None:
    path = write_czi(tmp_path / "a.czi", counting, scenes=2)
    with pytest.raises(UsageError, match="2 images"):
        open_volume(path).__enter__()
    with open_volume(path, series=1) as volume:
        np.testing.assert_array_equal(volume.read(1, 2), counting[1, 2] + 1)


class FakeNd2:
    """A stand-in for nd2.ND2File: (time, position, z, channel, y, x), frames in this order."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.array, self.dtype = array, array.dtype
        self.sizes = dict(zip("TPZCYX", array.shape, strict=True))
        self.loop_indices = [{"T": t, "P": p, "Z": z} for t, p, z in np.ndindex(*array.shape[:3])]
        channels = [SimpleNamespace(channel=SimpleNamespace(name=f"dye {c}")) for c in range(3)]
        self.metadata = SimpleNamespace(channels=channels)

    def read_frame(self, number: int) -> NDArray[Any]:
        return self.array.reshape(-1, *self.array.shape[3:])[number]

    def voxel_size(self) -> SimpleNamespace:
        return SimpleNamespace(x=0.1, y=0.1, z=0.5)

    def __enter__(self) -> FakeNd2:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def test_frames_of_nd2_are_found_by_time_position_and_plane(
    tmp_path: Path, counting: NDArray[np.uint16], monkeypatch: pytest.MonkeyPatch
) -> None:
    nd2 = pytest.importorskip("nd2")
    path = tmp_path / "a.nd2"
    path.write_bytes(b"\xda\xce\xbe\x0a" + bytes(20))
    with pytest.raises(InputError, match="ND2"):
        open_volume(path).__enter__()
    zcyx = counting.transpose(0, 2, 1, 3, 4)
    both = np.stack([zcyx, zcyx + 7], axis=1)
    monkeypatch.setattr(nd2, "ND2File", lambda _: FakeNd2(both))
    assert Nd2.matches(path)
    with pytest.raises(UsageError, match="position 1"):
        open_volume(path).__enter__()
    with open_volume(path, series=1) as volume:
        assert volume.shape == counting.shape
        assert volume.voxel_um == (0.5, 0.1, 0.1)
        np.testing.assert_array_equal(volume.read(1, 2), counting[1, 2] + 7)
        np.testing.assert_array_equal(volume.read(0, 1, WINDOW), counting[0, 1][WINDOW] + 7)
