"""``tiltkit calibrate`` on a small scan, and runs that cite what it wrote."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import tiltkit
from tiltkit.calibration.record import Calibration
from tiltkit.io.calibration import load_calibration
from tiltkit.io.reading import read_estimate, read_provenance, read_slice_diagnostics

Tilt = Callable[..., Any]

SETTINGS = ("--prior", "gaussian", "--samples", "5", "-s", "sampler.levels=5",
            "-s", "sampler.collect=1")  # fmt: skip


def heads(path: Path, count: int) -> Path:
    """Bright ellipses of different sizes, 40 x 36."""
    rng = np.random.default_rng(0)
    y, x = np.meshgrid(np.linspace(-1, 1, 40), np.linspace(-1, 1, 36), indexing="ij")
    sizes = rng.uniform(0.2, 0.5, count)
    images = [(x**2 + y**2 < a) * (1.0 + 0.5 * np.sin(20 * a * x)) for a in sizes]
    np.save(path, np.array(images, np.float32))
    return path


def same_draws(a: Calibration, b: Calibration) -> None:
    assert a.draws.keys() == b.draws.keys()
    np.testing.assert_array_equal(a.known, b.known)
    for k, draw in a.draws.items():
        np.testing.assert_array_equal(draw.ranks.pixels, b.draws[k].ranks.pixels)
        np.testing.assert_array_equal(draw.exceedance, b.draws[k].exceedance)


def test_a_calibration_is_stored_with_a_verdict_in_words_and_a_picture(
    tilt: Tilt, scan: Path, tmp_path: Path
) -> None:
    out = tmp_path / "c.h5"
    command = ("calibrate", "mri-recon", scan, "-o", out, *SETTINGS, "--draws", 3, "--report")
    done = tilt(*command)
    assert done.code == 0, done.err
    assert "67 % intervals hold" in done.out
    assert "3 posterior samples, 5 samples each" in done.out
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    found = load_calibration(out)
    assert len(found.draws) == 3
    assert found.plan.image_shape[0] == 2
    assert found.mean.shape == (40, 36)
    assert {p.name for p in tmp_path.iterdir()} == {"scan.h5", "c.h5", "c.png"}
    assert tilt(*command).code == 2, "it exists"
    again = json.loads(tilt(*command, "--resume", "--json").out)
    assert again["verdict"] in ("passed", "failed", "not tested")
    assert {one["name"] for one in again["regions"]} == {"all pixels", "air", "object", "edges"}
    assert again["draws"] == 3
    shown = json.loads(tilt("show", out, "--json").out)
    assert (shown["kind"], shown["draws"], shown["text"]) == ("calibration", 3, again["text"])


def test_known_images_are_the_samples_of_the_run_of_a_result(
    tilt: Tilt, scan: Path, tmp_path: Path
) -> None:
    result, out = tmp_path / "r.h5", tmp_path / "c.h5"
    # With a given noise level coils are not mixed: samples are the magnitudes of the known images.
    settings = (*SETTINGS, "-s", "task.noise_level=1e-7")
    assert tilt("run", "mri-recon", scan, "-o", result, *settings).code == 0
    done = tilt("calibrate", "--result", result, "-o", out, "--draws", 3)
    assert done.code == 0, done.err
    samples = read_estimate(result, 0).samples
    scale = read_slice_diagnostics(result, 0)["scale"]
    known = load_calibration(out).known
    errors = [np.abs(samples - scale * np.hypot(*one)).max((1, 2)) for one in known]
    assert (np.min(errors, axis=1) < 1e-4 * samples.max()).all()
    assert len({int(np.argmin(row)) for row in errors}) == 3, "no sample is taken twice"


def test_a_stopped_calibration_goes_on_with_the_same_draws(
    tilt: Tilt, scan: Path, tmp_path: Path
) -> None:
    out, whole = tmp_path / "c.h5", tmp_path / "w.h5"
    settings = ("mri-recon", scan, *SETTINGS[:-3], "sampler.levels=60", "--draws", 4)
    arguments = [sys.executable, "-m", "tiltkit", "calibrate", *map(str, settings)]
    with subprocess.Popen([*arguments, "-o", out], stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr is not None
        while "draw 1 of 4 done" not in run.stderr.readline():
            assert run.poll() is None
        run.send_signal(signal.SIGINT)
        rest = run.stderr.read()
    assert run.returncode == 130
    assert "--resume" in rest
    assert 1 <= len(load_calibration(out, part=True).draws) < 4
    command = ("calibrate", *settings, "-o", out)
    assert tilt(*command).code == 2, "needs --resume"
    other = tilt(*command, "--resume", "--seed", 5)
    assert (other.code, "made with another seed" in other.err) == (2, True)
    resumed = tilt(*command, "--resume")
    assert resumed.code == 0, resumed.err
    assert resumed.err.count(" done") < 4
    assert tilt("calibrate", *settings, "-o", whole).code == 0
    same_draws(load_calibration(out), load_calibration(whole))
    assert {p.name for p in tmp_path.iterdir()} == {"scan.h5", "c.h5", "w.h5"}


@pytest.fixture
def calibrated(tilt: Tilt, scan: Path, tmp_path: Path) -> Path:
    """A calibration with nine reference images."""
    out, images = tmp_path / "c.h5", heads(tmp_path / "heads.npy", 9)
    done = tilt("calibrate", "mri-recon", scan, "-o", out, *SETTINGS, "--images", images)
    assert done.code == 0, done.err
    assert "factor for 90 %" in done.out
    return out


def test_a_run_cites_a_calibration_and_widens_intervals_only_when_asked(
    tilt: Tilt, scan: Path, tmp_path: Path, calibrated: Path
) -> None:
    run = ("run", "mri-recon", scan, *SETTINGS)
    plain, cited, wide = (tmp_path / f"{name}.h5" for name in ("plain", "cited", "wide"))
    assert tilt(*run, "-o", plain).code == 0
    done = tilt(*run, "-o", cited, "--calibration", calibrated)
    assert done.code == 0, done.err
    done = tilt(*run, "-o", wide, "--calibration", calibrated, "--widen")
    assert done.code == 0, done.err
    assert "standard deviations" in done.out
    record = read_provenance(wide)["calibration"]
    assert len(record["sha256"]) == 64
    assert record["same_scan"]
    assert record["factors"].keys() == {"air", "object", "edges"}
    assert "expected share" in record["guarantee"]
    assert not read_provenance(cited)["calibration"]["widened"]
    a, b, c = (read_estimate(path, 0) for path in (plain, cited, wide))
    np.testing.assert_array_equal(a.quantiles[0.05], b.quantiles[0.05])
    assert (c.quantiles[0.05] <= a.quantiles[0.05]).all()
    assert (c.quantiles[0.95] > a.quantiles[0.95]).mean() > 0.5
    np.testing.assert_array_equal(a.samples, c.samples)
    low, middle, high = tiltkit.load_result(wide).quantiles([0.05, 0.5, 0.95])
    assert (low[0] <= c.quantiles[0.05]).all()
    assert (high[0] >= c.quantiles[0.95]).all()
    np.testing.assert_array_equal(middle, tiltkit.load_result(plain).quantiles(0.5))
    notes = {note.code for note in read_slice_diagnostics(wide, 0)["notes"]}
    assert {"calibrated", "intervals_widened"} <= notes
    region = "--box", "10:20,10:20", "--profile", "10,10:10,20", "--json"
    narrow, wider = (json.loads(tilt("evaluate", path, *region).out) for path in (cited, wide))
    factor = max(record["factors"].values())
    for kind in ("regions", "profiles"):
        for one, other in zip(narrow[kind], wider[kind], strict=True):
            assert other["low"] <= one["low"] < one["high"] <= other["high"]
            assert other["high"] - other["low"] >= 1.99 * factor * other["std"]
    noisy = (*run, "--calibration", calibrated, "--widen", "--scale", 3e-5)
    assert "task.scale" in tilt(*noisy, "-o", tmp_path / "other.h5").err
    repeated = tilt("run", "-c", wide, "-o", tmp_path / "again.h5")
    assert repeated.code == 0, repeated.err
    again = read_estimate(tmp_path / "again.h5", 0)
    np.testing.assert_array_equal(again.quantiles[0.95], c.quantiles[0.95])


def test_a_calibration_of_other_settings_is_refused_and_the_difference_named(
    tilt: Tilt, scan: Path, scan_of: Callable[..., Path], tmp_path: Path, calibrated: Path
) -> None:
    out = tmp_path / "out.h5"
    use = ("-o", out, "--calibration", calibrated)
    run = ("run", "mri-recon", scan, *SETTINGS, *use)
    for change, words in (
        (("-s", "sampler.levels=6"), "sampler.levels is 6 in this run, but 5"),
        (("--samples", 6), "samples is 6 in this run, but 5"),
        (("-s", "prior.amplitude=0.2"), "prior.amplitude is 0.2"),
        (("--sampler", "walmc"), "sampler.name is 'walmc' in this run, but"),
        (("--kernel", 5), "task.kernel is 5"),
    ):
        done = tilt(*run, *change)
        assert (done.code, words in done.err) == (2, True), done.err
    with h5py.File(scan) as file:
        mask = file["mask"][()]
    mask[0] = False
    other = scan_of(tmp_path / "other.h5", mask=mask)
    done = tilt("run", "mri-recon", other, *SETTINGS, *use)
    assert done.code == 2
    assert "measurements of shape" in done.err
    done = tilt("run", "mri-recon", scan, *SETTINGS, "-o", out, "--widen")
    assert (done.code, "without a calibration" in done.err) == (2, True)
    done = tilt("run", "mri-recon", scan, *SETTINGS, "-o", out, "--calibration", scan)
    assert (done.code, "is no calibration" in done.err) == (4, True)
    assert not out.exists()


def test_posterior_samples_give_no_factors(tilt: Tilt, scan: Path, tmp_path: Path) -> None:
    out = tmp_path / "c.h5"
    done = tilt("calibrate", "mri-recon", scan, "-o", out, *SETTINGS, "--draws", 1)
    assert done.code == 0, done.err
    run = ("run", "mri-recon", scan, *SETTINGS, "-o", tmp_path / "r.h5", "--calibration", out)
    done = tilt(*run, "--widen")
    assert (done.code, "has no conformal factors" in done.err) == (2, True)
    assert tilt(*run).code == 0


def test_wrong_uses_are_refused_before_sampling(tilt: Tilt, scan: Path, tmp_path: Path) -> None:
    command = ("calibrate", "mri-recon", scan, "-o", tmp_path / "c.h5", *SETTINGS)
    np.save(tmp_path / "labels.npy", np.zeros((3, 3), int))
    for change, code, words in (
        (("--samples", 3), 2, "3 samples are too few"),
        (("--images", tmp_path / "none.npy"), 4, "There is no file"),
        (("--regions", tmp_path / "labels.npy"), 4, "have shape (3, 3)"),
        (("--result", scan), 4, "is not a result"),
    ):
        done = tilt(*command, *change)
        assert (done.code, words in done.err) == (code, True), done.err
    assert not (tmp_path / "c.h5").exists()


def test_regions_of_labels_are_reported_by_their_numbers(
    tilt: Tilt, scan: Path, tmp_path: Path
) -> None:
    labels = np.zeros((40, 36), np.uint8)
    labels[10:30, 10:26] = 4
    np.save(tmp_path / "labels.npy", labels)
    done = tilt("calibrate", "mri-recon", scan, "-o", tmp_path / "c.h5", *SETTINGS, "--draws", 1,
                "--regions", tmp_path / "labels.npy", "--json")  # fmt: skip
    assert done.code == 0, done.err
    names = [one["name"] for one in json.loads(done.out)["regions"]]
    assert names == ["all pixels", "region 0", "region 4"]


def test_python_gives_the_same_calibration_as_the_command_line(
    tilt: Tilt, scan: Path, tmp_path: Path
) -> None:
    out = tmp_path / "c.h5"
    assert tilt("calibrate", "mri-recon", scan, "-o", out, *SETTINGS, "--draws", 2).code == 0
    found = tiltkit.calibrate(
        "mri-recon", scan, draws=2, prior="gaussian", samples=5,
        settings={"sampler.levels": 5, "sampler.collect": 1},
    )  # fmt: skip
    same_draws(found, tiltkit.load_calibration(out))
    assert found.report()["draws"] == 2


def test_a_slice_with_other_noise_is_not_widened_and_says_so(
    tilt: Tilt, scan: Path, tmp_path: Path, calibrated: Path
) -> None:
    noisy = tmp_path / "noisy.h5"
    with h5py.File(scan) as file, h5py.File(noisy, "w") as copy:
        kspace = file["kspace"][()]
        noise = np.random.default_rng(1).normal(size=(*kspace.shape, 2)) @ [3e-7, 3e-7j]
        copy["kspace"] = (kspace + (kspace != 0) * noise).astype(np.complex64)
        copy["mask"] = file["mask"][()]
    run = ("run", "mri-recon", noisy, *SETTINGS, "--calibration", calibrated)
    assert tilt(*run, "-o", tmp_path / "a.h5").code == 0
    done = tilt(*run, "-o", tmp_path / "b.h5", "--widen")
    assert done.code == 0, done.err
    assert "Intervals are not widened: the noise is" in done.out
    a, b = (read_estimate(tmp_path / name, 0) for name in ("a.h5", "b.h5"))
    np.testing.assert_array_equal(a.quantiles[0.95], b.quantiles[0.95])
