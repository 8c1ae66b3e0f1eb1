"""Tilt series of electron microscopes, as HyperSpy, FEI, SerialEM and IMOD write them."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import h5py
import mrcfile
import numpy as np
import pytest
from tiltkit_ct.axis import find_axis
from tiltkit_ct.options import PrepareOptions
from tiltkit_ct.prepare import prepare
from tiltkit_ct.select import select
from tiltkit_ct.task import CtOptions, CtRecon
from tiltkit_ct.tilt_series import HyperSpy, Mrc

from tiltkit.errors import InputError

TILTS = np.arange(-70.0, 71, 5)


@pytest.fixture
def frames(project: Callable[..., Any]) -> Any:
    """(tilt, y, x) with the tilt axis along y, at column 31.5; rows are unlike."""
    sinogram = project(np.radians(TILTS), 64, 31.5, 26)
    return np.stack([scale * sinogram for scale in np.linspace(0.2, 1, 20)], axis=1)


def hspy(path: Path, frames: Any, axes: Any = None, **datasets: Any) -> Path:
    """A HyperSpy file: axes are (scale, offset, units) of each dimension."""
    axes = axes or [(5.0, -70.0, "degrees"), (3.4, 0.0, "nm"), (3.4, 0.0, "nm")]
    with h5py.File(path, "w") as file:
        file.attrs.update({"file_format": "HyperSpy", "file_format_version": "3.3"})
        group = file.create_group("Experiments/__unnamed__")
        group["data"] = np.asarray(frames, np.float32)
        for i, (scale, offset, units) in enumerate(axes):
            axis = group.create_group(f"axis-{i}")
            axis.attrs.update({"scale": scale, "offset": offset, "units": units})
        for name, value in datasets.items():
            group[name.replace("__", "/")] = value
        group["metadata/General/title"] = "needle"
    return path


def mrc(path: Path, frames: Any, pixel: float = 0.0) -> Path:
    with mrcfile.new(path) as file:
        file.set_data(np.asarray(frames))
        if pixel:
            file.voxel_size = pixel
    return path


def check(scan: Any, frames: Any) -> None:
    assert scan.kind == "line_integrals"
    assert (scan.n_rows, scan.n_columns) == (20, 64)
    np.testing.assert_allclose(scan.angles, np.radians(TILTS), atol=1e-6)
    found = scan.read(3, 5).counts
    np.testing.assert_allclose(found, frames[:, 3:5], rtol=1e-6, atol=1e-7)


def test_a_hyperspy_series_has_angles_on_its_first_axis(tmp_path: Path, frames: Any) -> None:
    path = hspy(tmp_path / "series.hspy", frames)
    assert HyperSpy.matches(path)
    with HyperSpy.open(path) as scan:
        check(scan, frames)
        assert scan.pixel_mm == pytest.approx(3.4e-6)
        assert scan.metadata["metadata"]["General"]["title"] == "needle"


@pytest.mark.parametrize(("scale", "offset", "units"), [
    (np.radians(5), np.radians(-70), "rad"), (5.0, -70.0, "°"), (5.0, -70.0, "deg")])  # fmt: skip
def test_the_unit_of_the_tilt_is_obeyed(
    tmp_path: Path, frames: Any, scale: float, offset: float, units: str
) -> None:
    axes = [(scale, offset, units), (0.34, 0.0, "Å"), (0.34, 0.0, "Å")]
    with HyperSpy.open(hspy(tmp_path / "series.hspy", frames, axes)) as scan:
        check(scan, frames)
        assert scan.pixel_mm == pytest.approx(0.34e-7)


def test_the_tilt_may_be_any_axis(tmp_path: Path, frames: Any) -> None:
    axes = [(3.4, 0.0, "nm"), (3.4, 0.0, "nm"), (5.0, -70.0, "degrees")]
    path = hspy(tmp_path / "series.hspy", np.moveaxis(frames, 0, 2), axes)
    with HyperSpy.open(path) as scan:
        check(scan, frames)


@pytest.mark.parametrize(
    "name", ["metadata__Tomography___sig_tilts__data",
             "metadata__Acquisition_instrument__TEM__Stage__tilt_alpha"]
)  # fmt: skip
def test_listed_tilts_come_before_the_axis(tmp_path: Path, frames: Any, name: str) -> None:
    axes = [(1.0, 0.0, ""), (3.4, 0.0, "nm"), (3.4, 0.0, "nm")]
    listed = np.zeros(1024, np.float32)
    listed[: len(TILTS)] = TILTS
    path = tmp_path / "series.hspy"
    with h5py.File(hspy(path, frames, axes), "a") as file:
        file[f"Experiments/__unnamed__/{name.replace('___', '/_').replace('__', '/')}"] = listed
    with HyperSpy.open(path) as scan:
        check(scan, frames)


def test_a_tilt_axis_along_the_rows_is_noticed_and_may_be_overruled(
    tmp_path: Path, frames: Any
) -> None:
    path = hspy(tmp_path / "series.hspy", frames.swapaxes(1, 2))
    with HyperSpy.open(path) as scan:
        assert scan.axis_along == "x"
        assert "along x" in scan.notes[-1].text
        check(scan, frames)
        kept = select(scan, PrepareOptions(tilt_axis="y"))
        assert (kept.n_rows, kept.n_columns) == (64, 20)


def test_the_level_of_vacuum_is_taken_off(tmp_path: Path, frames: Any) -> None:
    with HyperSpy.open(hspy(tmp_path / "series.hspy", frames * 100 - 3000)) as scan:
        options = PrepareOptions()
        part = select(scan, options)
        found = prepare(part, 19, options).line_integrals
        np.testing.assert_allclose(found, 100 * frames[:, 19], atol=1)
        assert find_axis(part) == pytest.approx(31.5, abs=0.2)


def test_what_alignment_filled_the_borders_with_is_neither_vacuum_nor_data(
    tmp_path: Path, frames: Any
) -> None:
    rng = np.random.default_rng(0)
    filled = 1000 * frames + 50 + rng.normal(size=frames.shape)
    shifts = np.arange(len(TILTS)) % 4
    for frame, shift in zip(filled, shifts, strict=True):
        frame[:, : 2 * shift] = 3.5
    with HyperSpy.open(hspy(tmp_path / "series.hspy", filled)) as scan:
        part = select(scan, PrepareOptions())
        sinogram = prepare(part, 19, PrepareOptions())
    assert part.background == pytest.approx(50, abs=1)
    unseen = ~np.isfinite(sinogram.variance)
    assert unseen.sum(axis=1).tolist() == (2 * shifts).tolist()
    assert abs(sinogram.line_integrals[unseen].mean()) < 2


def test_a_series_that_is_not_aligned_is_refused_unless_its_axis_is_given(
    tmp_path: Path, frames: Any
) -> None:
    rng = np.random.default_rng(0)
    shifted = np.stack([np.roll(frame, rng.integers(-4, 5), axis=1) for frame in frames])
    path = hspy(tmp_path / "series.hspy", shifted)
    with (
        pytest.raises(InputError, match="not aligned") as caught,
        CtRecon(CtOptions()).open(path),
    ):
        pass
    assert "--axis" in caught.value.hint
    with CtRecon(CtOptions(axis="31.5")).open(path) as scan:
        assert scan.geometry.axis == 31.5


def test_air_takes_off_the_background_of_every_projection(tmp_path: Path, frames: Any) -> None:
    drifting = 100 * frames + 3 * np.arange(len(TILTS))[:, None, None]
    drifting += 0.1 * np.random.default_rng(0).normal(size=frames.shape)
    with HyperSpy.open(hspy(tmp_path / "series.hspy", drifting)) as scan:
        options = PrepareOptions(air=4)
        found = prepare(select(scan, options), 19, options).line_integrals
    np.testing.assert_allclose(found, 100 * frames[:, 19], atol=1)


def test_further_stacks_of_a_file_are_named(tmp_path: Path, frames: Any) -> None:
    path = hspy(tmp_path / "series.hspy", frames)
    with h5py.File(path, "a") as file:
        file.copy("Experiments/__unnamed__", "Experiments/second")
        file["Experiments/second/data"][:] *= 2
    with HyperSpy.open(path) as scan:
        assert list(scan.others) == ["second"]
        second = select(scan, PrepareOptions(entry="second"))
        np.testing.assert_allclose(second.read(3, 5).counts, 2 * frames[:, 3:5], rtol=1e-6)


@pytest.mark.parametrize("kind", [np.float32, np.int16, np.uint16])
@pytest.mark.parametrize("end", [".rawtlt", ".tlt"])
def test_an_mrc_stack_has_its_angles_beside_it(
    tmp_path: Path, frames: Any, kind: Any, end: str
) -> None:
    values = (1000 * frames).round().astype(kind)
    path = mrc(tmp_path / "series.mrc", values, pixel=7.88)
    path.with_suffix(end).write_text("\n".join(f" {tilt:7.2f}" for tilt in TILTS))
    assert Mrc.matches(path)
    with Mrc.open(path) as scan:
        check(scan, values)
        assert scan.pixel_mm == pytest.approx(7.88e-7)
        assert f"series{end}" in scan.notes[0].text


@pytest.mark.parametrize("name", ["series.mdoc", "series.mrc.mdoc"])
def test_the_angles_of_serialem_are_read(tmp_path: Path, frames: Any, name: str) -> None:
    path = mrc(tmp_path / "series.mrc", frames.astype(np.float32))
    sections = [f"[ZValue = {i}]\nTiltAngle = {tilt}\nStageZ = 1\n" for i, tilt in enumerate(TILTS)]
    (tmp_path / name).write_text("PixelSpacing = 7.88\n\n" + "\n".join(sections))
    with Mrc.open(path) as scan:
        check(scan, frames)
        assert scan.pixel_mm is None


def test_sections_of_serialem_may_come_in_any_order(tmp_path: Path, frames: Any) -> None:
    path = mrc(tmp_path / "series.mrc", frames.astype(np.float32))
    sections = [f"[ZValue = {i}]\nTiltAngle = {tilt}\n" for i, tilt in enumerate(TILTS)]
    path.with_suffix(".mdoc").write_text("[T = SerialEM]\n" + "\n".join(reversed(sections)))
    with Mrc.open(path) as scan:
        check(scan, frames)


def test_a_bright_field_series_says_what_it_needs(tmp_path: Path, frames: Any) -> None:
    noise = np.random.default_rng(0).normal(size=frames.shape)
    path = hspy(tmp_path / "series.hspy", 4000 * np.exp(-frames) + noise)
    with (
        pytest.raises(InputError, match="brighter beside the sample") as caught,
        CtRecon(CtOptions()).open(path),
    ):
        pass
    assert "--kind counts" in caught.value.hint
    with CtRecon(CtOptions(kind="counts", flat_value=4000)).open(path) as scan:
        assert scan.geometry.axis == pytest.approx(31.5, abs=0.3)


def test_images_without_anything_in_them_are_refused_with_their_value(
    tmp_path: Path, frames: Any
) -> None:
    path = hspy(tmp_path / "series.hspy", np.full_like(frames, 7))
    with (
        pytest.raises(InputError, match="same value everywhere: 7"),
        CtRecon(CtOptions()).open(path),
    ):
        pass


def test_the_angles_of_an_old_fei_header_are_read(tmp_path: Path, frames: Any) -> None:
    path = mrc(tmp_path / "series.mrc", frames.astype(np.float32))
    records = np.zeros((1024, 32), "<f4")
    records[: len(TILTS), 0] = TILTS
    content = bytearray(path.read_bytes())
    content[92:96] = np.int32(records.nbytes).tobytes()
    content[208:216] = bytes(8)  # the writer leaves out the marks of the format, too
    path.write_bytes(content[:1024] + records.tobytes() + content[1024:])
    assert Mrc.matches(path)
    with Mrc.open(path) as scan:
        check(scan, frames)


def test_an_mrc_stack_that_has_no_angles_says_how_to_give_them(tmp_path: Path, frames: Any) -> None:
    path = mrc(tmp_path / "series.mrc", frames.astype(np.float32))
    with pytest.raises(InputError, match="no tilt angles") as caught, Mrc.open(path):
        pass
    assert "series.rawtlt" in caught.value.hint
    path.with_suffix(".rawtlt").write_text("1\n2\n")
    with (
        pytest.raises(InputError, match=r"29 projections, but series\.rawtlt has 2"),
        Mrc.open(path),
    ):
        pass
    path.with_suffix(".rawtlt").write_text("one two")
    with pytest.raises(InputError, match="something else than tilt angles"), Mrc.open(path):
        pass


def test_truncated_and_other_files_are_refused(tmp_path: Path, frames: Any) -> None:
    path = mrc(tmp_path / "series.mrc", frames.astype(np.float32))
    path.write_bytes(path.read_bytes()[:-100])
    text = tmp_path / "text.mrc"
    text.write_text("hello" * 1000)
    assert Mrc.matches(path)  # and no other reader, who would say something else
    assert not Mrc.matches(text)
    for file in (path, text):
        with pytest.raises(InputError, match="no MRC file, or is truncated"), Mrc.open(file):
            pass
    with pytest.raises(InputError, match="no file"), Mrc.open(tmp_path / "none.mrc"):
        pass


def test_series_without_images_or_angles_are_refused(tmp_path: Path, frames: Any) -> None:
    plain = [(1.0, 0.0, "")] * 3
    with (
        pytest.raises(InputError, match="no tilt angles"),
        HyperSpy.open(hspy(tmp_path / "series.hspy", frames, plain)),
    ):
        pass
    spectrum = hspy(tmp_path / "spectrum.hspy", frames[0])
    assert not HyperSpy.matches(spectrum)
    with pytest.raises(InputError, match="no stack of images"), HyperSpy.open(spectrum):
        pass


@pytest.mark.parametrize(
    ("name", "reader"), [("HAADF_Aligned.hspy", HyperSpy), ("HAADF.mrc", Mrc), ("HAADF.ali", Mrc)]
)
def test_a_real_series_is_read(name: str, reader: Any) -> None:
    package = find_spec("etspy")
    default = Path(package.origin).parent / "tests/test_data" if package and package.origin else "."
    path = Path(os.environ.get("TILTKIT_ETSPY_DATA", default)) / name
    if not path.is_file():
        pytest.skip("etspy's tilt series is not here: set TILTKIT_ETSPY_DATA")
    assert reader.matches(path)
    with reader.open(path) as scan:
        assert (scan.n_rows, scan.n_columns, scan.axis_along) == (256, 256, "x")
        np.testing.assert_allclose(np.degrees(scan.angles), np.arange(-76, 77, 2), atol=1e-4)
        series = select(scan, PrepareOptions())
        if "Aligned" in name:
            assert find_axis(series) == pytest.approx(127.5, abs=2)
            assert series.background == pytest.approx(26, abs=4)
        else:
            with pytest.raises(InputError, match="not aligned"):
                find_axis(series)
