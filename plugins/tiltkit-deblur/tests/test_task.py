"""The task deblur: from a microscope's file to an image, from the command line."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
import torch
from tiltkit_deblur.prepare import grid_of, prepare
from tiltkit_deblur.richardson_lucy import richardson_lucy
from tiltkit_deblur.task import Deblur, DeblurOptions
from tiltkit_deblur.unusable_images import find_unusable
from tiltkit_deblur.volume import Volume, full_scale

from tiltkit.cli import main
from tiltkit.errors import InputError
from tiltkit.priors.closed_form import SmoothGaussian

Write = Callable[..., Path]
QUICK = ("--prior", "gaussian", "--samples", "2", "-s", "sampler.levels=4",
         "-s", "sampler.collect=1", "--json")  # fmt: skip


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    assert isinstance(stop.value.code, int)
    return stop.value.code


def error(image: Any, truth: Any) -> float:
    return float(np.sqrt(np.mean((np.asarray(image) - truth) ** 2)))


def test_the_posterior_mean_is_nearer_to_the_truth_than_the_data(
    scene: Any, tiff: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, psf = tiff("data.tif", scene.readings), tiff("psf.tif", scene.psf)
    before = data.read_bytes()
    out = tmp_path / "out.h5"
    code = run(
        "run", "deblur", data, "-o", out, "--psf", psf, "--offset", "100", "--samples", "4",
        "-s", "sampler.levels=24",
    )  # fmt: skip
    assert code == 0, capsys.readouterr().err
    with h5py.File(out) as result:
        mean = result["entry/data/data"][()].squeeze()
        spread = result["entry/data/data_errors"][()].squeeze()
    blurred = error(scene.readings - 100, scene.truth)
    assert error(mean, scene.truth) < 0.7 * blurred
    assert mean.min() >= 0
    assert error(mean, scene.truth) < 3 * np.sqrt(np.mean(spread**2))
    assert data.read_bytes() == before


@pytest.mark.parametrize("planes", [1, 4])
def test_a_psf_of_one_plane_deblurs_every_plane_and_one_of_several_a_volume(
    planes: int, simulate: Any, tiff: Write, tmp_path: Path
) -> None:
    volume = simulate((10, 40, 40))
    psf = volume.psf if planes > 1 else volume.psf[6:7]
    data, kernel = tiff("data.tif", volume.readings), tiff("psf.tif", psf)
    with Deblur(DeblurOptions(psf=kernel, offset=100.0)).open(data) as scan:
        problem = scan.problem(0, SmoothGaussian(0.5, 3.0, 3.0, channels=1), torch.device("cpu"))
        assert len(scan.images) == (1 if planes > 1 else 10)
        assert len(problem.shape) == (4 if planes > 1 else 3)
        image = problem.to_image(torch.zeros(1, *problem.shape))
        assert tuple(image.shape[1:]) == ((10, 40, 40) if planes > 1 else (40, 40))


def test_light_from_beyond_the_border_does_not_ring(scene: Any) -> None:
    """A bright object just outside: Richardson-Lucy on the grid keeps the inside clean."""
    from tiltkit_deblur.noise import Camera
    from tiltkit_deblur.psf import kernel_of

    kernel, _ = kernel_of(scene.psf[None])
    grid = grid_of((48, 40), kernel, "free")
    half = grid.inside[0].start
    wide = torch.zeros(1, 1, *grid.shape)
    wide[0, 0, grid.inside[0].start - 1, 20] = 1e4  # one row outside of the data
    wide += 50
    prepared = prepare(
        np.zeros((48, 40), np.float32), kernel, grid, Camera(1.0, 0.0, 1.0), background=0.0,
        least_variance=1.0, iterations=1, device=torch.device("cpu"),
    )  # fmt: skip
    y = prepared.operator.forward(wide)
    found = richardson_lucy(prepared.operator, y, prepared.measured, 0.0, 200)
    inner = found[grid.at][half + 2 :]
    assert (inner - 50).abs().max() < 5
    assert y[grid.at][0].max() > 200  # the data contain it


@pytest.mark.parametrize(
    ("samples", "memory"), [(16, 0.0125), pytest.param(64, 0.05, marks=pytest.mark.slow)]
)
def test_tiles_agree_with_the_whole(
    simulate: Any,
    tiff: Write,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    samples: int,
    memory: float,
) -> None:
    plane = simulate((64, 64))
    data, psf = tiff("data.tif", plane.readings), tiff("psf.tif", plane.psf)
    options = ["--psf", psf, "--offset", "100", "--margin", "12", "--prior", "gaussian",
               "--samples", str(samples), "-s", "sampler.levels=16", "-s",
               "task.scale=800"]  # fmt: skip
    results = []
    for name, more in (("whole", []), ("tiles", ["--memory", str(memory)])):
        out = tmp_path / f"{name}.h5"
        assert run("run", "deblur", data, "-o", out, *options, *more) == 0
        with h5py.File(out) as result:
            results.append(result["entry/data/data"][()].squeeze())
    with h5py.File(tmp_path / "tiles.h5") as result:
        tiles = int(result["entry/diagnostics/tiles"][0])
    assert tiles > 1
    capsys.readouterr()
    assert run("check", "deblur", data, *options, "--memory", str(memory)) == 0
    assert f"1, each in {tiles} tiles" in capsys.readouterr().out
    whole, tiled = (20 * np.log10(error(image, plane.truth)) for image in results)
    assert not np.array_equal(*results)
    # Chance moves both means: 0.05 dB with 64 samples, and as the inverse square root of samples.
    # The projection onto nonnegative images, which improves both by 0.3 to 0.5 dB, works with
    # the light within a tile and its margin only.
    assert abs(whole - tiled) < 0.05 * (64 / samples) ** 0.5 + 0.15


def test_an_ome_zarr_folder_runs_from_the_command_line(
    scene: Any, tiff: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "plane.zarr", tmp_path / "out.h5"
    with warnings.catch_warnings():  # of the writing library, about itself
        warnings.simplefilter("ignore")
        zarr = pytest.importorskip("zarr")
        writer = pytest.importorskip("ome_zarr.writer")
        formats = pytest.importorskip("ome_zarr.format")
        group = zarr.open_group(str(folder), mode="w", zarr_format=2)
        writer.write_image(
            scene.readings[None], group, axes="zyx", fmt=formats.FormatV04(), scaler=None
        )
    psf = tiff("psf.tif", scene.psf)
    code = run("run", "deblur", folder, "-o", out, "--psf", psf, *QUICK)
    assert code == 0, capsys.readouterr().err
    with h5py.File(out) as result:
        assert result["entry/data/data"].shape[-2:] == (48, 40)


BAD: list[tuple[str, Any, list[str], str]] = [
    ("no PSF", None, [], "No point spread function"),
    ("two PSFs", None, ["--psf", "psf.tif", "--psf-model", "gaussian"], "both given"),
    ("missing PSF", None, ["--psf", "nowhere.tif"], "nowhere.tif"),
    ("NaN", np.full((40, 40), np.nan, np.float32), ["--psf", "psf.tif"], "NaN"),
    ("constant", np.full((40, 40), 7, np.float32), ["--psf", "psf.tif"], ""),
    ("saturated", np.where(np.arange(1600).reshape(40, 40) % 3, 65535, 900).astype(np.uint16),
     ["--psf", "psf.tif"], "saturated"),
    ("too small", np.eye(5, dtype=np.float32), ["--psf", "psf.tif"], "larger than the image"),
    ("no channel", None, ["--psf", "psf.tif", "--channel", "3"], "no channel 3"),
    ("no voxel", None, ["--psf-model", "gaussian", "--na", "1.4", "--wavelength-um", "0.5"],
     "voxel"),
    ("offset", None, ["--psf", "psf.tif", "--offset", "90000"], ""),
    ("two of three", None, ["--psf", "psf.tif", "--voxel-um", "0.3,0.1"], "such as 0.3,0.1,0.1"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("array", "options", "says"), [b[1:] for b in BAD], ids=[b[0] for b in BAD]
)
def test_bad_input_is_refused_without_output(
    array: Any, options: list[str], says: str, scene: Any, tiff: Write, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    data = tiff("data.tif", scene.readings if array is None else array)
    tifffile.imwrite("psf.tif", scene.psf)
    code = run("run", "deblur", data, "-o", "out.h5", *options, *QUICK)
    text = capsys.readouterr().err
    assert code in (2, 4), text
    assert says in text
    assert "Traceback" not in text
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data.tif", "psf.tif"]


def test_the_psf_is_a_picture_of_check_and_on_the_page_and_the_truth_may_be_tiff(
    scene: Any, tiff: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, psf = tiff("data.tif", scene.readings), tiff("psf.tif", scene.psf)
    truth, out = tiff("truth.tif", scene.truth.astype(np.float32)), tmp_path / "out.h5"
    picture = tmp_path / "psf.png"
    assert run("check", "deblur", data, "--psf", psf, "--picture", picture, *QUICK) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert run("run", "deblur", data, "-o", out, "--psf", psf, "--report", *QUICK) == 0
    with h5py.File(out) as result:
        stored = result["entry/scan_header/pictures/point_spread_function"][()]
    assert stored.sum() == pytest.approx(1)
    assert "point spread function" in out.with_suffix(".html").read_text()
    capsys.readouterr()
    assert run("evaluate", out, "--truth", truth, "--json") == 0
    figures = json.loads(capsys.readouterr().out)
    with h5py.File(out) as result:
        mean = result["entry/data/data"][()].squeeze()
    expected = error(mean, scene.truth) / np.sqrt(np.mean(scene.truth**2))
    assert figures["nrmse"] == pytest.approx(expected, rel=1e-4)


def test_three_numbers_may_be_given_with_commas() -> None:
    given = DeblurOptions(voxel_um="0.3,.1,.1", bead_half="[4,8,8]")  # type: ignore[arg-type]
    assert (given.voxel_um, given.bead_half) == ((0.3, 0.1, 0.1), (4, 8, 8))


def test_a_deep_psf_on_a_single_plane_names_the_way_out() -> None:
    with pytest.raises(InputError, match="larger than the image") as caught:
        grid_of((1, 40, 40), np.full((5, 5, 5), 1 / 125), "free")
    assert "task.dimensions=2" in caught.value.hint


@pytest.mark.parametrize(("broken", "others"), [(0, "1:3"), (2, "0:2")])
@pytest.mark.parametrize("value", [100.0, np.nan])
def test_an_image_that_cannot_be_used_is_named_and_can_be_left_out(
    broken: int, others: str, value: float, scene: Any, tiff: Write, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    stack = np.stack([scene.readings] * 3)
    stack[broken] = value
    data = tiff("series.tif", stack, photometric="minisblack")
    options = ("--psf", tiff("psf.tif", scene.psf), *QUICK)
    for command in (["check"], ["run", "-o", tmp_path / "all.h5"]):
        assert run(*command, "deblur", data, *options) == 4
        err = capsys.readouterr().err
        assert f"Slice {broken} of " in err
        assert f"--slices {others}" in err
    assert not list(tmp_path.glob("all.h5*"))
    assert run("run", "deblur", data, "-o", tmp_path / "o.h5", "--slices", others, *options) == 0


@pytest.mark.parametrize("fill", [np.nan, np.inf, np.finfo(np.float32).max])
def test_margins_and_dead_pixels_without_a_reading_are_left_out_with_a_note(
    fill: float, scene: Any, tiff: Write
) -> None:
    readings = scene.readings.copy()
    readings[:6], readings[20, 20] = fill, fill
    options = DeblurOptions(psf=tiff("psf.tif", scene.psf), gain=2, offset=100, read_noise=3)
    with Deblur(options).open(tiff("data.tif", readings)) as scan:
        note = next(n for n in scan.notes if n.code == "unknown_left_out")
        prepared = scan._prepared(0, (slice(0, 1),), torch.device("cpu"))
    assert note.text.startswith("12.55%")
    inside = prepared.measured[prepared.grid.at].numpy()
    np.testing.assert_array_equal(inside, readings < 1e38)
    with Deblur(options).open(tiff("whole.tif", scene.readings)) as scan:
        whole = scan._prepared(0, (slice(0, 1),), torch.device("cpu"))
    for image in (prepared.baseline, prepared.y):
        assert torch.isfinite(image).all()
    mine, theirs = (p.baseline[p.grid.at].numpy()[12:] for p in (prepared, whole))
    np.testing.assert_allclose(mine[:, 26:], theirs[:, 26:], atol=0.01 * theirs.max())


def test_a_wavelength_in_nanometres_is_asked_about() -> None:
    with pytest.raises(ValueError, match=r"in um, not in nm: 0\.52 for 520 nm"):
        DeblurOptions(wavelength_um=520)
    assert DeblurOptions(wavelength_um=0.52).wavelength_um == 0.52


def test_readings_at_the_end_of_a_range_are_saturated_whatever_it_is(
    scene: Any, tiff: Write
) -> None:
    psf = tiff("psf.tif", scene.psf)
    for top, up, saturated in ((4095, 0, 4095), (4094, 0, 4094), (4095, 4, 65520)):
        readings = np.minimum(scene.readings * 20, top).astype(np.uint16) << up
        with Deblur(DeblurOptions(psf=psf)).open(tiff("data.tif", readings)) as scan:
            assert scan.photometry.saturation == saturated


@pytest.mark.parametrize(("bits", "top"), [(10, 65472), (12, 65520), (14, 65532)])
def test_readings_in_the_upper_bits_are_saturated_at_their_end(bits: int, top: int) -> None:
    stack = np.full((1, 4, 4), float((2**bits - 1) * 2 ** (16 - bits)), np.float32)
    assert full_scale(stack) == top


@pytest.mark.parametrize(("planes", "images"), [(1, 50), (5, 10), (50, 1)])
def test_a_part_of_large_files_is_checked_before_a_run(
    planes: int, images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tiltkit_deblur.unusable_images._MOST", 10 * 64)
    monkeypatch.setattr("tiltkit_deblur.unusable_images._PIECE", 64)
    stack = np.random.default_rng(0).random((planes * images, 8, 8))
    stack[:planes] = stack[-planes:] = np.nan
    visited: list[int] = []

    def read(time: int, channel: int, window: Any) -> Any:
        visited.extend(range(*window[0].indices(len(stack))))
        return stack[window]

    volume = Volume(
        Path("large.h5"), "HDF5", (1, 1, *stack.shape), np.dtype(np.float32), read
    )  # fmt: skip
    parts = [(0, slice(i * planes, (i + 1) * planes)) for i in range(images)]
    if images > 1:
        assert sorted(find_unusable(volume, 0, parts)) == [0, images - 1]
    else:
        with pytest.raises(InputError, match="values are NaN"):
            find_unusable(volume, 0, parts)
    assert visited[0] == 0
    assert visited[-1] == len(stack) - 1
    assert len(visited) <= 11
