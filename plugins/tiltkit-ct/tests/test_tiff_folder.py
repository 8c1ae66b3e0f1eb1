"""Scans in TIFF files: which files are projections, flats and darks, and in which order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from tiltkit_ct.options import PrepareOptions
from tiltkit_ct.sources import open_projections
from tiltkit_ct.task import CtOptions, CtRecon
from tiltkit_ct.tiff_folder import TiffFolder

from tiltkit.errors import InputError, UsageError

RNG = np.random.default_rng(0)
FRAMES = RNG.integers(100, 4000, (12, 3, 5)).astype(np.uint16)
FLATS = RNG.integers(3000, 4000, (4, 3, 5)).astype(np.uint16)
DARKS = RNG.integers(90, 110, (2, 3, 5)).astype(np.uint16)


def save(folder: Path, name: str, frames: Any, **options: Any) -> None:
    """One file per frame; the numbers in their names have no leading zeros."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, frame in enumerate(frames):
        tifffile.imwrite(folder / name.format(i), frame, **options)


def check(path: Path, flat_times: Any = None) -> None:
    assert TiffFolder.matches(path)
    with TiffFolder.open(path) as scan:
        band = scan.read(0, 3)
        np.testing.assert_array_equal(band.counts, FRAMES)
        np.testing.assert_array_equal(band.flats, FLATS)
        np.testing.assert_array_equal(band.darks, DARKS)
        np.testing.assert_array_equal(scan.read(1, 2).counts, FRAMES[:, 1:2])
        if flat_times is not None:
            np.testing.assert_array_equal(band.flat_times, flat_times)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_names_of_files_tell_flats_and_darks_from_projections(
    tmp_path: Path, compression: str | None
) -> None:
    save(tmp_path, "tooth_{}.tif", FRAMES, compression=compression)
    save(tmp_path, "tooth_flat_{}.tif", FLATS, compression=compression)
    save(tmp_path, "tooth_DARK_{}.TIFF", DARKS, compression=compression)
    check(tmp_path)


def test_words_that_all_names_share_do_not_count(tmp_path: Path) -> None:
    save(tmp_path, "dark_chocolate_proj_{}.tif", FRAMES)
    save(tmp_path, "dark_chocolate_white_{}.tif", FLATS)
    with TiffFolder.open(tmp_path) as scan:
        np.testing.assert_array_equal(scan.read(0, 3).counts, FRAMES)
        assert scan.darks is None


def test_folders_of_flats_and_darks_are_found_and_placed_in_time(tmp_path: Path) -> None:
    save(tmp_path / "Tomo", "sample_Tomo_{}.tif", FRAMES)
    save(tmp_path / "Flat_After", "sample_{}.tif", FLATS[:1])
    save(tmp_path / "Flat_Before", "sample_{}.tif", FLATS[1:])
    save(tmp_path / "Dark_Before", "sample_{}.tif", DARKS)
    save(tmp_path / "180deg", "sample_{}.tif", FRAMES[:1])
    check(tmp_path, [11.5, -0.5, -0.5, -0.5])


def test_projections_may_lie_beside_folders_of_flats_and_darks(tmp_path: Path) -> None:
    save(tmp_path, "{}.tif", FRAMES)
    save(tmp_path / "flats", "{}.tif", FLATS)
    save(tmp_path / "darks", "{}.tif", DARKS)
    check(tmp_path)


def test_pages_of_a_file_are_frames(tmp_path: Path) -> None:
    for name, frames in (("scan", FRAMES), ("flats", FLATS), ("darks", DARKS)):
        tifffile.imwrite(tmp_path / f"{name}.tif", frames, photometric="minisblack")
    check(tmp_path)
    flats, darks = (str(tmp_path / f"{name}.tif") for name in ("flats", "darks"))
    options = PrepareOptions(flats=flats, darks=darks)
    with open_projections(tmp_path / "scan.tif", options) as scan:
        np.testing.assert_array_equal(scan.read(0, 3).flats, FLATS)
        np.testing.assert_array_equal(scan.read(0, 3).counts, FRAMES)


@pytest.mark.parametrize("header", ["", "angle (deg)\n"])
def test_a_list_beside_the_files_gives_the_angles(tmp_path: Path, header: str) -> None:
    save(tmp_path, "{}.tif", FRAMES)
    angles = np.linspace(-70, 70, 12)
    lines = "".join(f"{i}, {angle}\n" for i, angle in enumerate(angles))
    (tmp_path / "angles.txt").write_text(header + lines)
    with TiffFolder.open(tmp_path) as scan:
        np.testing.assert_allclose(np.degrees(scan.angles), angles)
    (tmp_path / "angles.txt").write_text(lines + "12, 75\n")
    with pytest.raises(InputError, match="13 angles for 12 projections"), TiffFolder.open(tmp_path):
        pass


def test_two_sets_of_projections_are_refused_with_their_names(tmp_path: Path) -> None:
    save(tmp_path / "first", "{}.tif", FRAMES)
    save(tmp_path / "second", "{}.tif", FRAMES)
    assert TiffFolder.matches(tmp_path)
    with pytest.raises(InputError, match="first/ and second/"), TiffFolder.open(tmp_path):
        pass


def test_frames_of_unlike_shapes_are_refused_with_the_file(tmp_path: Path) -> None:
    save(tmp_path, "{}.tif", FRAMES)
    tifffile.imwrite(tmp_path / "7.tif", FRAMES[7, :2])
    with TiffFolder.open(tmp_path) as scan, pytest.raises(InputError, match=r"7\.tif has shape"):
        scan.read(0, 1)
    save(tmp_path / "flats", "{}.tif", FLATS[:, :, 1:])
    with pytest.raises(InputError, match="flats/ has frames of shape"), TiffFolder.open(tmp_path):
        pass


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    save(tmp_path, "{}.tif", FRAMES)
    (tmp_path / "3.tif").write_bytes(b"II*\0 nothing more")
    with TiffFolder.open(tmp_path) as scan, pytest.raises(InputError, match=r"3\.tif is no TIFF"):
        scan.read(0, 1)


def test_other_folders_and_files_are_no_scan(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert not TiffFolder.matches(tmp_path / "empty")
    text = tmp_path / "text.tif"
    text.write_text("no image")
    assert not TiffFolder.matches(text)


def test_a_folder_gives_the_images_of_the_same_scan_in_one_file(
    simulate: Callable[..., Any], exchange: Callable[..., Path], tmp_path: Path
) -> None:
    made = simulate(n=60, rows=2)
    folder = tmp_path / "scan"
    save(folder, "proj_{}.tif", made.counts.astype(np.float32))
    save(folder, "flat_{}.tif", made.flats.astype(np.float32))
    save(folder, "dark_{}.tif", made.darks.astype(np.float32))
    with (
        CtRecon(CtOptions()).open(folder) as scan,
        CtRecon(CtOptions()).open(exchange(made)) as one,
    ):
        np.testing.assert_allclose(scan.shown.line_integrals, one.shown.line_integrals, atol=1e-5)
        assert scan.geometry.axis == pytest.approx(one.geometry.axis)
        codes = [note.code for note in scan.notes]
        assert {"frames_source", "angles_assumed"} <= set(codes)


def test_a_text_file_gives_the_angles_of_any_scan(
    simulate: Callable[..., Any], exchange: Callable[..., Path], tmp_path: Path
) -> None:
    made = simulate(n=60, rows=1)
    listed = tmp_path / "list.txt"
    listed.write_text("\n".join(str(angle) for angle in made.angles))  # radians, by their values
    path = exchange(made, exchange__theta=None)
    with CtRecon(CtOptions(theta=str(listed))).open(path) as scan:
        np.testing.assert_allclose(scan.projections.angles, made.angles, atol=1e-6)
        assert any("radians are assumed" in note.text for note in scan.notes)
    with (
        pytest.raises(UsageError, match="no file nowhere"),
        CtRecon(CtOptions(theta="nowhere")).open(path),
    ):
        pass
