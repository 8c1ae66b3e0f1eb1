"""A cone-beam scan: from a file to one volume."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiltkit_ct.cone_scan import ConeScan
from tiltkit_ct.task import CtOptions, CtRecon

from tiltkit.cli import main
from tiltkit.errors import InputError, TiltkitError

PIXEL, SOURCE, DETECTOR = 0.5, 60.0, 20.0  # mm; pixels as they are at the sample
N_ANGLES, N_ROWS, N_COLUMNS, AXIS = 40, 24, 36, 18.2
# Balls: middle (x, y, z) and radius in mm, attenuation in 1/mm.
BALLS = (
    ((0.5, -0.5, 0.3), 5.0, 0.2),
    ((-1.5, 1.0, 2.0), 1.5, 0.15),
    ((2.0, 0.5, -2.2), 1.2, -0.12),
)
PLACES = (((-1.5, 1.0, 2.0), 0.35), ((2.0, 0.5, -2.2), 0.08), ((-1.0, -2.5, -0.5), 0.2))


def line_integrals(angles: NDArray[np.float64], level: float) -> NDArray[np.float64]:
    """(angle, row, column): chords of the balls along rays from the source, in closed form."""
    magnified = PIXEL * (SOURCE + DETECTOR) / SOURCE
    u = magnified * (np.arange(N_COLUMNS) - AXIS)
    v = magnified * (np.arange(N_ROWS) - level)
    total = np.zeros((len(angles), N_ROWS, N_COLUMNS))
    for k, angle in enumerate(angles):
        across = np.array([np.cos(angle), np.sin(angle), 0])
        along = np.array([-np.sin(angle), np.cos(angle), 0])
        ray = (SOURCE + DETECTOR) * along + u[:, None] * across
        ray = ray + v[:, None, None] * np.array([0, 0, 1.0])
        ray = ray / np.linalg.norm(ray, axis=-1, keepdims=True)
        for middle, radius, value in BALLS:
            away = np.array(middle) + SOURCE * along
            off = (away**2).sum() - (ray @ away) ** 2
            total[k] += value * 2 * np.sqrt(np.maximum(radius**2 - off, 0))
    return total


@pytest.fixture
def cone(write: Callable[..., Path]) -> Callable[..., Path]:
    """``cone(level, dead_row=, photons=)``: a Data Exchange file of counts over a full turn."""

    def make(
        level: float = (N_ROWS - 1) / 2, dead_row: int | None = None, photons: float = 20_000
    ) -> Path:
        rng = np.random.default_rng(0)
        angles = 2 * np.pi * np.arange(N_ANGLES) / N_ANGLES
        counts = rng.poisson(photons * np.exp(-line_integrals(angles, level)))
        flats = rng.poisson(photons, (20, N_ROWS, N_COLUMNS))
        if dead_row is not None:
            counts[:, dead_row] = flats[:, dead_row] = 0
        return write(
            exchange__data=counts.astype(np.float32),
            exchange__data_white=flats.astype(np.float32),
            exchange__data_dark=np.zeros((4, N_ROWS, N_COLUMNS), np.float32),
            exchange__theta=np.degrees(angles),
        )

    return make


def options(**changes: Any) -> CtOptions:
    given = {"source_mm": SOURCE, "detector_mm": DETECTOR, "pixel_mm": PIXEL, "units": "1/mm"}
    return CtOptions.model_validate(given | {"axis": str(AXIS)} | changes)


def at_places(volume: Any, level: float = (N_ROWS - 1) / 2) -> list[float]:
    """Means over 2 x 2 x 2 voxels around places in balls."""
    found = []
    middle = ((N_COLUMNS - 1) / 2, (N_COLUMNS - 1) / 2, level)
    for place, _ in PLACES:
        j, i, k = (int(np.floor(p / PIXEL + m)) for p, m in zip(place, middle, strict=True))
        found.append(float(volume[k : k + 2, i : i + 2, j : j + 2].mean()))
    return found


TRUTH = [value for _, value in PLACES]


@pytest.mark.parametrize(
    ("level", "changes"), [(11.5, {}), (9.0, {"source_row": 9.0}), (11.5, {"axis": "auto"})]
)
def test_the_volume_has_the_attenuation_of_the_sample_in_its_place(
    cone: Callable[..., Path], level: float, changes: dict[str, Any]
) -> None:
    with CtRecon(options(**changes)).open(cone(level)) as scan:
        assert isinstance(scan, ConeScan)
        baseline = scan._plain(scan.shown, scan.operator(torch.device("cpu")))[0].numpy()
        assert scan.geometry.axis == pytest.approx(AXIS, abs=0.3)
    assert at_places(baseline, level) == pytest.approx(TRUTH, abs=0.03)


def test_part_of_the_rows_keeps_the_level_of_the_source(cone: Callable[..., Path]) -> None:
    with CtRecon(options(rows="4:20", binning=2)).open(cone()) as scan:
        assert scan.geometry.level == pytest.approx((11.5 - 4 - 0.5) / 2)
        assert scan.layout.shape[:2] == (1, 8)


def test_a_row_that_cannot_be_used_is_masked(cone: Callable[..., Path]) -> None:
    with CtRecon(options()).open(cone(dead_row=5)) as scan:
        frames = scan.shown
        assert np.isinf(frames.variance[:, 5]).all()
        assert np.isfinite(np.delete(frames.variance, 5, axis=1)).mean() > 0.99
        assert any("cannot be used: 5" in note.text for note in scan.notes)


def test_one_row_is_a_fan(cone: Callable[..., Path]) -> None:
    with CtRecon(options(rows="11:12")).open(cone()) as scan:
        assert not isinstance(scan, ConeScan)


def test_distances_need_a_pixel_size(cone: Callable[..., Path]) -> None:
    task = CtRecon(options(pixel_mm=None))
    with pytest.raises(InputError, match="pixel size"), task.open(cone()):
        pass


def test_a_source_within_the_sample_is_refused(cone: Callable[..., Path]) -> None:
    task = CtRecon(options(source_mm=5.0))
    with pytest.raises(TiltkitError, match="corners"), task.open(cone()):
        pass


def test_a_scan_becomes_one_volume(
    cone: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = cone(photons=200), tmp_path / "out.h5"
    with pytest.raises(SystemExit) as stop:
        main([
            "run", "ct-recon", str(path), "-o", str(out), "--source-mm", "60",
            "--detector-mm", "20", "--pixel-mm", "0.5", "--units", "1/mm", "--axis", "8.85",
            "--binning", "2", "--angles", "0:40:2", "--prior", "gaussian", "--samples", "2",
            "-s", "prior.amplitude=0.5", "-s", "sampler.levels=4", "-s", "sampler.collect=1",
        ])  # fmt: skip
    assert stop.value.code == 0, capsys.readouterr().err
    with h5py.File(out) as result:
        mean = result["entry/data/data"]
        assert mean.shape == (1, N_ROWS // 2, 20, 20)
        assert mean.attrs["units"] == "1/mm"
        assert np.diff(result["entry/data/z"]) == pytest.approx(2 * PIXEL)
        middle = mean[0, 4:8, 8:12, 8:12].mean()
    assert middle == pytest.approx(0.2, abs=0.03)
