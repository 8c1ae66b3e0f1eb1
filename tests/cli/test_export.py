"""``tiltkit export`` and ``run --write``: files for other programs."""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import numpy as np
import pytest
import tifffile

from tests.cli.conftest import FAST
from tiltkit.errors import InputError, Kind
from tiltkit.hookspecs import WriterEntry, hookimpl
from tiltkit.io.reading import (
    read_estimate,
    read_finished,
    read_provenance,
    read_recipe,
    result_shape,
)
from tiltkit.io.result import ResultWriter

Tilt = Callable[..., Any]


def test_tiff_stacks_hold_mean_and_spread_with_the_pixel_size(
    tilt: Tilt, scan_of: Any, tmp_path: Path
) -> None:
    scan, out = scan_of(tmp_path / "scan.h5", n_slices=2), tmp_path / "out.h5"
    done = tilt("run", "mri-recon", scan, "-o", out, "--write", "tiff", *FAST)
    assert done.code == 0, done.err
    for name, field in (("out.tif", "mean"), ("out.std.tif", "std")):
        with tifffile.TiffFile(tmp_path / name) as file:
            stack = file.asarray()
            assert file.is_imagej
            assert file.imagej_metadata["unit"] == "px"
        for index in range(2):
            assert np.array_equal(stack[index], getattr(read_estimate(out, index), field))


def test_an_existing_export_is_replaced_with_overwrite_only(
    tilt: Tilt, scan: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.h5"
    assert tilt("run", "mri-recon", scan, "-o", out, *FAST).code == 0
    assert tilt("export", out).code == 0
    again = tilt("export", out)
    assert again.code == 2
    assert "--overwrite" in again.err
    assert tilt("export", out, "--overwrite").code == 0


def test_a_writer_that_fails_or_writes_too_few_files_replaces_nothing(
    tilt: Tilt, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_result: Path, output: Path) -> None:
        output.write_bytes(b"half")
        raise ZeroDivisionError

    def full(_result: Path, output: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    out, stack = tmp_path / "out.h5", tmp_path / "out.tif"
    run = ("run", "mri-recon", scan, "-o", out, *FAST, "--write", "tiff", "--overwrite")
    assert tilt(*run).code == 0
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.tif")}

    def half(_result: Path, output: Path) -> None:
        output.write_bytes(b"")

    for writer, kind, message in (
        (broken, Kind.PLUGIN, "ZeroDivisionError"),
        (full, Kind.MACHINE, f"not enough disk space for {stack}"),
        (lambda *_: None, Kind.PLUGIN, "wrote nothing, but its entry states out.std.tif, out.tif"),
        (half, Kind.PLUGIN, "wrote out.tif, but its entry states"),
    ):
        monkeypatch.setattr("tiltkit.io.tiff.write_tiff", writer)
        for command in (("export", out, "--overwrite"), run):
            done = tilt(*command)
            assert done.code == kind.exit_code
            assert message in done.err
            assert "Wrote" not in done.out
        assert {path.name: path.read_bytes() for path in tmp_path.glob("*.tif")} == before
        assert {path.name for path in tmp_path.iterdir()} == {"scan.h5", "out.h5", *before}


def test_nifti_files_have_the_name_of_the_result_with_both_suffixes(
    tilt: Tilt, scan: Path, tmp_path: Path
) -> None:
    out = tmp_path / "head.1.h5"
    assert (
        tilt("run", "mri-recon", scan, "-o", out, "--write", "nifti,samples=true", *FAST).code == 0
    )
    names = {path.name for path in tmp_path.glob("head.1.*")}
    assert names == {"head.1.h5", "head.1.json"} | {
        f"head.1{part}.nii.gz" for part in ("", ".std", ".q05", ".q95", ".phase", ".samples")
    }
    # Samples of an earlier export are no part of the new one.
    assert tilt("export", out, "--as", "nifti").code == 2
    assert tilt("export", out, "--as", "nifti", "--overwrite").code == 0
    assert {path.name for path in tmp_path.glob("head.1.*")} == names - {"head.1.samples.nii.gz"}


def test_an_optional_file_that_exists_is_not_replaced(
    tilt: Tilt, scan: Path, tmp_path: Path
) -> None:
    out, kept = tmp_path / "out.h5", tmp_path / "out.samples.nii.gz"
    kept.write_text("precious")
    done = tilt("run", "mri-recon", scan, "-o", out, "--write", "nifti", *FAST)
    assert done.code == 2
    assert f"{kept} exists" in done.err
    assert kept.read_text() == "precious"
    assert not out.exists()


def test_a_writer_whose_library_is_missing_names_the_extra(
    tilt: Tilt, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nibabel", None)
    done = tilt("run", "mri-recon", scan, "-o", tmp_path / "out.h5", "--write", "nifti", *FAST)
    assert done.code == 10
    assert "pip install 'tiltkit[nifti]'" in done.err
    assert not (tmp_path / "out.h5").exists()


@pytest.mark.parametrize(("writer", "reason"), [
    ("nifti,sample=true", "'samples'"), ("nifti,samples=many", "samples"),
    ("nifti,samples", "key=value"), ("tiff,samples=true", "tiff has no options"),
])  # fmt: skip
def test_a_wrong_option_of_a_writer_is_refused_before_the_run(
    tilt: Tilt, scan: Path, tmp_path: Path, writer: str, reason: str
) -> None:
    done = tilt("run", "mri-recon", scan, "-o", tmp_path / "out.h5", "--write", writer, *FAST)
    assert done.code == 2
    assert reason in done.err
    assert not (tmp_path / "out.h5").exists()


def folder_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes the writer tiff one of a folder; the function that it returns sets what it writes."""

    def make(*names: str) -> None:
        def write(_result: Path, output: Path) -> list[str]:
            for name in names:
                (output / name).parent.mkdir(exist_ok=True)
                (output / name).write_text("new")
            return ["these are tests."]

        monkeypatch.setattr("tiltkit.io.tiff.write_tiff", write)

    entry = WriterEntry(
        name="tiff", target="tiltkit.io.tiff:write_tiff", summary="", suffix=".tiles",
        folder=("mean/*.tif",),
    )  # fmt: skip
    monkeypatch.setattr("tiltkit.plugins.builtin.tiltkit_writers", hookimpl(lambda: [entry]))
    return make


def test_a_folder_is_replaced_as_a_whole_and_only_if_it_holds_nothing_else(
    tilt: Tilt, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = folder_writer(tmp_path, monkeypatch)
    out, folder = tmp_path / "out.h5", tmp_path / "out.tiles"
    write("mean/1.tif", "mean/2.tif")
    done = tilt("run", "mri-recon", scan, "-o", out, *FAST, "--write", "tiff")
    assert done.code == 0, done.err
    assert "Note: these are tests." in done.err
    assert {path.name for path in folder.rglob("*.*")} == {"1.tif", "2.tif"}
    write("mean/1.tif")
    assert tilt("export", out).code == 2
    assert tilt("export", out, "--overwrite").code == 0
    assert {path.name for path in folder.rglob("*.*")} == {"1.tif"}
    write("mean/1.tif", "notes.txt")
    done = tilt("export", out, "--overwrite")
    assert done.code == 10
    assert "wrote mean/1.tif, notes.txt" in done.err
    write()
    assert "wrote nothing" in tilt("export", out, "--overwrite").err
    (folder / "thesis.txt").write_text("precious")
    write("mean/1.tif")
    done = tilt("export", out, "--overwrite")
    assert done.code == 2
    assert "other files: thesis.txt" in done.err
    assert (folder / "thesis.txt").read_text() == "precious"
    assert {path.name for path in tmp_path.iterdir()} == {"scan.h5", "out.h5", "out.tiles"}


def test_a_dataset_gets_further_subjects_with_overwrite_and_is_no_other_folder(
    tilt: Tilt, scan: Path, tmp_path: Path
) -> None:
    out, dataset = tmp_path / "out.h5", tmp_path / "set"
    assert tilt("run", "mri-recon", scan, "-o", out, *FAST, "--write", "bids").code == 0
    assert (tmp_path / "out.bids/sub-scan/anat/sub-scan_desc-mean_image.nii.gz").is_file()
    export = ("export", out, "-o", dataset, "--as")
    assert tilt(*export, "bids,subject=1,suffix=T1w").code == 0
    done = tilt(*export, "bids,subject=2,suffix=T1w")
    assert done.code == 2
    assert "--overwrite to add to it" in done.err
    assert tilt(*export, "bids,subject=2,suffix=T1w", "--overwrite").code == 0
    means = {path.name for path in dataset.rglob("*mean*.nii.gz")}
    assert means == {"sub-1_desc-mean_T1w.nii.gz", "sub-2_desc-mean_T1w.nii.gz"}
    (dataset / "sub-1/anat/sub-1_T1w.nii.gz").write_text("raw")
    done = tilt(*export, "bids,subject=1,suffix=T1w", "--overwrite")
    assert done.code == 2
    assert "other files: sub-1/anat/sub-1_T1w.nii.gz" in done.err


def test_a_writer_that_fails_stops_no_other_and_leaves_the_result(
    tilt: Tilt, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise InputError("The writer is out of ink.", "refill it.")

    monkeypatch.setattr("tiltkit.report.picture.write_png", refuse)
    out = tmp_path / "out.h5"
    done = tilt("run", "mri-recon", scan, "-o", out, *FAST, "--write", "png", "--write", "tiff")
    assert done.code == 4
    assert "out of ink" in done.err
    assert f"{out} is complete, but not written as png" in done.err
    assert (tmp_path / "out.tif").exists()
    assert not (tmp_path / "out.png").exists()
    run = ("run", "mri-recon", scan, "-o", out, *FAST, "--resume", "--json", "--write", "tiff")
    assert json.loads(tilt(*run).out.splitlines()[0])["written"] == [str(tmp_path / "out.tif")]


def test_a_wrong_format_is_refused_before_the_run(tilt: Tilt, scan: Path, tmp_path: Path) -> None:
    done = tilt("run", "mri-recon", scan, "-o", tmp_path / "out.h5", "--write", "tif", *FAST)
    assert done.code == 2
    assert "'tiff'" in done.err
    assert not (tmp_path / "out.h5").exists()


def test_options_of_the_task_are_options_of_the_command(
    tilt: Tilt, scan: Path, tmp_path: Path
) -> None:
    plain, cropped = tmp_path / "plain.h5", tmp_path / "whole.h5"
    assert tilt("run", "mri-recon", scan, "-o", plain, "--scale", "2.5", *FAST).code == 0
    by_name = tilt("run", "mri-recon", scan, "-o", cropped, "-s", "task.scale=2.5", *FAST)
    assert by_name.code == 0
    assert np.array_equal(read_estimate(plain, 0).mean, read_estimate(cropped, 0).mean)


def test_the_error_for_an_unknown_option_has_the_nearest_name(tilt: Tilt, scan: Path) -> None:
    assert "'scale'" in tilt("run", "mri-recon", scan, "--scales", "2").err
    assert "--samples" in tilt("run", "mri-recon", scan, "--sample", "2").err
    assert "no value" in tilt("run", "mri-recon", scan, "--scale").err


@pytest.fixture
def never_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails a test in which a slice is sampled, or its cost is measured."""

    def fail(*_: Any) -> Any:
        pytest.fail("sampling began")

    monkeypatch.setattr("tiltkit.recon.scan.sample_slice", fail)
    monkeypatch.setattr("tiltkit.recon.check.measure", fail)


@pytest.mark.usefixtures("never_sampled")
def test_a_result_that_a_writer_cannot_write_is_refused_before_sampling(
    tilt: Tilt, scan: Path, tmp_path: Path
) -> None:
    for command in (("run", "-o", tmp_path / "out.h5", "--write", "tiff"), ("check",)):
        done = tilt(command[0], "mri-recon", scan, *command[1:], "--write", "dicom", *FAST)
        assert done.code == Kind.INPUT.exit_code
        assert "no pixel size in mm" in done.err
        assert str(Path(gettempdir(), "tiltkit-")) not in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["scan.h5"]


@pytest.mark.usefixtures("never_sampled")
def test_the_check_of_a_writer_knows_all_of_the_result_but_its_slices(
    tilt: Tilt, scan_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(result: Path, output: Path) -> None:
        found.append((result.name, output.name, result_shape(result), read_finished(result)))
        assert read_recipe(result)["samples"] == 3
        assert read_provenance(result)["slices"] == [1, 3]
        raise InputError("The writer is out of ink.", "refill it.")

    found: list[Any] = []
    monkeypatch.setattr("tiltkit.io.tiff.write_tiff.check", check, raising=False)
    scan = scan_of(tmp_path / "scan.h5", n_slices=4)
    for command in (("run", "-o", tmp_path / "scan.posterior.h5"), ("check",)):
        words = (*command[1:], "--slices", "1,3", "--write", "tiff", *FAST)
        done = tilt(command[0], "mri-recon", scan, *words)
        assert done.code == Kind.INPUT.exit_code
        assert "out of ink" in done.err
    assert found == [("scan.posterior.h5", "scan.posterior.tif", (2, 40, 36), [])] * 2


def test_a_check_that_fails_is_a_fault_of_the_plugin(
    tilt: Tilt, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tiltkit.io.tiff.write_tiff.check", lambda *_: 1 / 0, raising=False)
    done = tilt("run", "mri-recon", scan, "-o", tmp_path / "out.h5", "--write", "tiff", *FAST)
    assert done.code == Kind.PLUGIN.exit_code
    assert "The check of the writer tiff failed: ZeroDivisionError" in done.err


def test_a_stopped_run_is_kept_when_a_further_format_is_refused(
    tilt: Tilt, scan_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan, out = scan_of(tmp_path / "scan.h5", n_slices=2), tmp_path / "out.h5"
    run = ("run", "mri-recon", scan, "-o", out, *FAST)
    write = ResultWriter.write

    def stop_at_the_second(self: ResultWriter, index: int, *rest: Any) -> None:
        if index:
            raise KeyboardInterrupt
        write(self, index, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(ResultWriter, "write", stop_at_the_second)
        assert tilt(*run).code == 130
    assert tilt(*run, "--resume", "--write", "dicom").code == Kind.INPUT.exit_code
    assert read_finished(tmp_path / "out.h5.part") == [0]
    assert tilt(*run, "--resume").code == 0
