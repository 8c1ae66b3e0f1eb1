"""The task ct-recon: from a file to the attenuation in its slices, in units of length."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
import torch
from pydantic import ValidationError
from tiltkit_ct.fan import FanBeam
from tiltkit_ct.task import CtOptions, CtRecon, CtScan

from tiltkit.cli import main
from tiltkit.errors import InputError
from tiltkit.likelihoods import TransmissionPoissonLikelihood
from tiltkit.operators.memory import run_memory
from tiltkit.posterior.outcome import Outcome
from tiltkit.priors.closed_form import SmoothGaussian
from tiltkit.recon.solve import solve
from tiltkit.sampling.samplers.moments import Moments, MomentsOptions
from tiltkit.sampling.samplers.twisted import Twisted, TwistedOptions

CPU = torch.device("cpu")
PRIOR = SmoothGaussian(0.5, 3.0, 3.0, channels=1)
PIXEL_UM = 10.0
# The scan of conftest: ellipse of value 1 is 2 / 1.5 thick per 50 columns of 10 um, in 1/cm.
BODY = 2 / 1.5 / 50 / (PIXEL_UM * 1e-4)
# Middles of ellipses (x, y) in units of 50 columns, and what all ellipses there add up to.
PLACES = ((0.2, 0.1, 0.4), (-0.35, 0.15, 1.9), (0.05, -0.35, 1.7), (-0.4, -0.3, 1.0))
RESOLUTION = "measurement__instrument__detection_system__objective__resolution"

Exchange = Callable[..., Path]


@pytest.fixture
def file(exchange: Exchange, scan: Any) -> Path:
    """Three rows, with the pixel size."""
    units = {RESOLUTION.replace("__", "/"): {"units": "microns"}}
    return exchange(scan, units, **{RESOLUTION: [PIXEL_UM]})


def opened(path: Path, **options: Any) -> AbstractContextManager[CtScan]:
    return CtRecon(CtOptions(**options)).open(path)


def sampled(problem: Any, sampler: Any, n: int = 4) -> Outcome:
    *_, outcome = solve([problem], sampler, seed=(0, 0), n=n, devices=[CPU])
    assert isinstance(outcome, Outcome)
    return outcome


def at_places(image: Any) -> list[float]:
    """Means over 5 x 5 pixels around the middles of the ellipses."""
    middle = (len(image) - 1) / 2
    found = []
    for x, y, _ in PLACES:
        row, column = round(middle + 50 * y), round(middle + 50 * x)
        found.append(float(image[row - 2 : row + 3, column - 2 : column + 3].mean()))
    return found


def test_the_posterior_mean_has_the_attenuation_of_the_sample_in_its_place(file: Path) -> None:
    with opened(file) as scan:
        problem = scan.problem(1, PRIOR, CPU)
        layout = scan.layout
    outcome = sampled(problem, Twisted(TwistedOptions(levels=8, collect=1)))
    truth = [BODY * value for _, _, value in PLACES]
    assert at_places(outcome.mean) == pytest.approx(truth, rel=0.06)
    assert at_places(outcome.baseline) == pytest.approx(truth, rel=0.06)
    assert layout.units == "1/cm"
    assert layout.axes[2].units == "um"
    assert np.diff(layout.axes[2].coordinates) == pytest.approx(PIXEL_UM)


def test_units_per_mm_are_a_tenth_of_those_per_cm(file: Path) -> None:
    with opened(file, units="1/mm") as mm, opened(file) as cm:
        assert mm.layout.units == "1/mm"
        assert mm.scale == pytest.approx(cm.scale / 10)
        mine, other = mm.problem(0, PRIOR, CPU), cm.problem(0, PRIOR, CPU)
    assert torch.allclose(mine.baseline * 10, other.baseline, rtol=1e-4, atol=1e-4)


def test_the_counts_themselves_have_the_line_integrals_as_their_approximation(file: Path) -> None:
    with opened(file, axis="65.2") as one, opened(file, axis=65.2, likelihood="poisson") as two:
        sinogram, scale = one.prepare(1), two.scale
        poisson = two.problem(1, PRIOR, CPU).likelihood
    assert isinstance(poisson, TransmissionPoissonLikelihood)
    near = poisson.approximation()
    weights = near.operator.weights  # type: ignore[attr-defined]
    lines, finite = (near.y / weights)[0].numpy(), np.isfinite(sinogram.variance)
    error = (lines - sinogram.line_integrals)[finite] / np.sqrt(sinogram.variance[finite])
    assert scale > 0
    assert np.sqrt(np.mean(error**2)) < 0.02


def test_counts_and_weighted_line_integrals_of_many_photons_have_the_same_posterior(
    exchange: Exchange, simulate: Callable[..., Any]
) -> None:
    path = exchange(simulate(n=24, rows=1, columns=48, axis=23.6, radius=19.0, read_noise=0.0))
    sampler = Moments(MomentsOptions(levels=10, collect=1))

    def posterior(likelihood: str) -> Outcome:
        with opened(path, axis="23.6", likelihood=likelihood) as scan:
            return sampled(scan.problem(0, PRIOR, CPU), sampler, n=16)

    lines, counts = posterior("gaussian"), posterior("poisson")
    error, spread = (np.sqrt(np.mean(x**2)) for x in (counts.mean - lines.mean, lines.std))
    assert error < 0.05 * spread, "equal seeds give equal noise"
    assert np.mean(counts.std**2) == pytest.approx(np.mean(lines.std**2), rel=0.1)
    assert counts.diagnostics["chi2"] == pytest.approx(lines.diagnostics["chi2"], rel=0.05)
    assert lines.diagnostics["chi2"] == pytest.approx(1, abs=0.2)


def test_the_axis_of_the_file_is_found(file: Path) -> None:
    with opened(file) as scan:
        assert scan.geometry.axis == pytest.approx(65.2, abs=0.5)
        assert "found" in scan.describe()["rotation axis"]


def test_an_axis_far_off_makes_the_image_hold_the_whole_sample(file: Path) -> None:
    with opened(file, axis="100") as scan:
        assert scan.layout.shape[1:] == (202, 202)


def test_try_draws_the_candidates_and_stops(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="3 rotation axes"), opened(file, axis="try:64:66:1"):
        pass
    assert (tmp_path / "scan.axis.png").stat().st_size > 10_000


@pytest.mark.parametrize("axis", ["left", "nan", "try:3", "try:1:2:0", "try:1:0:1"])
def test_an_axis_that_is_none_is_refused(axis: str) -> None:
    with pytest.raises((ValidationError, Exception), match=r"axis|axes"):
        CtOptions(axis=axis)


def test_a_distance_of_parallel_rays_is_refused() -> None:
    with pytest.raises(ValidationError, match="source_mm"):
        CtOptions(detector_mm=300)


def test_matrices_take_at_most_half_of_the_memory_of_the_run(file: Path) -> None:
    with run_memory(0.001), opened(file, source_mm=1e3, rows="1:2") as scan:
        operator = scan.operator(torch.device("cpu"))
    assert isinstance(operator, FanBeam)
    assert operator.matrix_bytes == 500_000
    assert operator._matrices is None


def test_a_coarser_slice_shows_the_same_sample_in_fewer_pixels(file: Path) -> None:
    device = torch.device("cpu")
    with opened(file) as scan:
        whole, coarse = scan.problem(1, PRIOR, device), scan.coarse(1, PRIOR, device, 2)
        assert scan.coarser(2) == "--bin-columns 2"
    assert coarse is not None
    assert coarse.facts["scale"] == whole.facts["scale"]
    n = whole.shape[-1] // 2
    assert coarse.shape == (1, n, n)
    assert whole.baseline is not None
    assert coarse.baseline is not None
    averaged = torch.nn.functional.avg_pool2d(whole.baseline[None], 2)[0, :n, :n]
    inside = averaged > 0.5 * averaged.max()
    assert float(coarse.baseline[inside].mean()) == pytest.approx(
        float(averaged[inside].mean()), rel=0.05
    )


def test_few_photons_are_noted_where_noise_is_gaussian(
    exchange: Exchange, simulate: Callable[..., Any]
) -> None:
    path = exchange(simulate(photons=60, gain=1.0, fluctuation=0))
    for likelihood in ("gaussian", "poisson"):
        with opened(path, axis="65.2", likelihood=likelihood) as scan:
            noted = any("--likelihood poisson" in note.text for note in scan.notes)
        assert noted == (likelihood == "gaussian")


def test_counts_are_not_advised_where_phase_retrieval_keeps_none(
    exchange: Exchange, simulate: Callable[..., Any]
) -> None:
    path = exchange(simulate(photons=60, gain=1.0, fluctuation=0))
    phase = {"delta_beta": 300, "energy_kev": 30, "distance_mm": 30, "pixel_mm": 0.003}
    with opened(path, axis="65.2", **phase) as scan:
        assert scan.shown.facts["photons"] < 60
        assert not any("--likelihood poisson" in str(fact) for fact in scan.describe().values())


def test_extra_noise_of_counts_is_refused() -> None:
    with pytest.raises(ValidationError, match="Poisson"):
        CtOptions(likelihood="poisson", extra_noise=0.1)


def test_a_fan_beam_from_far_away_gives_the_parallel_slice(file: Path) -> None:
    with (
        opened(file, axis="65.2") as parallel,
        opened(file, axis="65.2", source_mm=1e5, detector_mm=0.0, rows="1:2") as fan,
    ):
        one, two = fan.operator(CPU).forward, parallel.operator(CPU).forward
        x = torch.rand(1, 1, 128, 128, generator=torch.Generator().manual_seed(0))
        assert torch.allclose(one(x), two(x), rtol=1e-2, atol=1e-2 * float(two(x).max()))


def test_line_integrals_give_densities_without_a_unit_of_attenuation(
    exchange: Exchange, scan: Any
) -> None:
    lines = np.repeat(scan.truth[:, None], 2, axis=1)
    lines = lines + 0.02 * np.random.default_rng(0).normal(size=lines.shape)
    path = exchange(
        scan, exchange__data=lines.astype(np.float32), exchange__data_white=None,
        exchange__data_dark=None,
    )  # fmt: skip
    with opened(path, kind="line_integrals", axis="65.2") as found:
        assert found.layout.units == ""
        baseline = found.problem(0, PRIOR, CPU).baseline
    truth = [value * 2 / 1.5 / 50 for _, _, value in PLACES]
    assert at_places(baseline.numpy()) == pytest.approx(truth, rel=0.08)


def test_a_scan_becomes_a_result_with_stacks(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = file.read_bytes()
    out = tmp_path / "out.h5"
    code = run(
        "run", "ct-recon", file, "-o", out, "--axis", "65.2", "--prior", "gaussian",
        "--samples", "2", "--slices", "0,2", "-s", "sampler.levels=3", "-s", "sampler.collect=1",
        "--write", "tiff",
    )  # fmt: skip
    assert code == 0, capsys.readouterr().err
    with h5py.File(out) as result:
        data = result["entry/data/data"]
        assert data.shape == (2, 128, 128)
        assert data.attrs["units"] == "1/cm"
        assert np.array_equal(tifffile.imread(tmp_path / "out.tif"), data[()])
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"exchange__data": np.zeros((90, 3, 128), np.uint16)}, "."),
        ({"exchange__theta": np.zeros(90)}, "degrees"),
        ({"exchange__data_white": None}, "flat"),
        ({"exchange__data_white": np.full((5, 3, 128), 65535, np.uint16)}, "satur"),
        ({"exchange__data": np.full((1, 3, 128), 9, np.uint16), "exchange__theta": [0.0]}, "."),
    ],
    ids=["zero counts", "equal angles", "no flats", "saturated flats", "one projection"],
)
def test_bad_scans_are_refused_without_output(
    changes: dict[str, Any],
    says: str,
    exchange: Exchange,
    scan: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = exchange(scan, **changes)
    code = run("run", "ct-recon", path, "-o", tmp_path / "out.h5", "--prior", "gaussian")
    error = capsys.readouterr().err
    assert code == 4, error
    assert says in error.lower()
    assert "Try:" in error
    assert [p.name for p in tmp_path.iterdir()] == ["scan.h5"]


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    assert isinstance(stop.value.code, int)
    return stop.value.code


def test_the_window_of_the_filter_changes_the_reconstruction_without_a_prior(file: Path) -> None:
    spread = []
    for window in ("ram-lak", "shepp-logan", "hann"):
        with opened(file, window=window) as scan:
            found = scan.problem(1, PRIOR, CPU).baseline
        assert at_places(found) == pytest.approx(
            [BODY * v for *_, v in PLACES], rel=0.2, abs=BODY / 5
        )
        spread.append(float(found.diff(dim=0).std()))
    assert spread[0] > spread[1] > spread[2]
