from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tiltkit.errors import InputError, PluginError
from tiltkit.hookspecs import Entry
from tiltkit.io.result import ResultWriter, read_estimate
from tiltkit.posterior.outcome import Outcome
from tiltkit.protocols import Estimate
from tiltkit.report import metrics

SIDE = 64


@pytest.fixture
def truth() -> np.ndarray:
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    return np.where(x**2 + y**2 < 0.7, 1.0 + 0.3 * np.sin(9 * x), 0.0).astype(np.float32)


@pytest.fixture
def calibrated(truth: np.ndarray) -> Callable[..., Estimate]:
    """A posterior from which the truth itself is one more draw."""

    def make(n: int = 200, spread: float = 0.1) -> Estimate:
        rng = np.random.default_rng(3)
        centre = truth + rng.normal(0, spread, truth.shape)
        samples = (centre + rng.normal(0, spread, (n, *truth.shape))).astype(np.float32)
        return Estimate(
            mean=samples.mean(0),
            std=samples.std(0, ddof=1),
            quantiles={q: np.quantile(samples, q, axis=0) for q in (0.05, 0.5, 0.95)},
            samples=samples,
            baseline=np.zeros_like(truth),
            diagnostics={"chi2": 1.07},
        )

    return make


def scaled(estimate: Estimate, factor: float) -> Estimate:
    return replace(
        estimate,
        mean=estimate.mean * np.float32(factor),
        std=estimate.std * np.float32(factor),
        quantiles={q: x * np.float32(factor) for q, x in estimate.quantiles.items()},
    )


def test_an_error_of_a_tenth_of_the_largest_value_everywhere_is_20_db(
    truth: np.ndarray, calibrated: Callable[..., Estimate]
) -> None:
    wrong = replace(calibrated(), mean=truth + 0.1 * truth.max())
    assert metrics.psnr(wrong, truth) == pytest.approx(20.0, abs=1e-4)


def test_a_perfect_image_has_no_error(
    truth: np.ndarray, calibrated: Callable[..., Estimate]
) -> None:
    perfect = replace(calibrated(), mean=truth)
    assert metrics.ssim(perfect, truth) == pytest.approx(1.0)
    assert metrics.nrmse(perfect, truth) == 0.0
    assert metrics.nrmse(replace(perfect, mean=0 * truth), truth) == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["psnr", "nrmse", "coverage90", "spread_ratio", "ssim"])
def test_pixels_beyond_the_field_of_view_do_not_count(
    truth: np.ndarray, calibrated: Callable[..., Estimate], name: str
) -> None:
    whole, metric = calibrated(n=40), getattr(metrics, name)
    part = np.s_[10:50, 12:54]
    beyond = np.ones(truth.shape, bool)
    beyond[part] = False

    def cut(image: np.ndarray) -> np.ndarray:
        return np.where(beyond, np.nan, image).astype(np.float32)

    quantiles = whole.quantiles
    marked = replace(
        whole, mean=cut(whole.mean), std=cut(whole.std),
        quantiles={q: cut(x) for q, x in quantiles.items()},
    )  # fmt: skip
    smaller = replace(
        whole, mean=whole.mean[part], std=whole.std[part],
        quantiles={q: x[part] for q, x in quantiles.items()},
    )  # fmt: skip
    assert metric(marked, truth) == pytest.approx(metric(smaller, truth[part]), rel=1e-3)


@pytest.mark.parametrize("name", ["psnr", "ssim", "nrmse", "coverage90", "spread_ratio"])
def test_metrics_do_not_depend_on_the_unit_of_the_file(
    name: str, truth: np.ndarray, calibrated: Callable[..., Estimate]
) -> None:
    metric = getattr(metrics, name)
    tiny = metric(scaled(calibrated(), 2.0**-24), truth * np.float32(2.0**-24))
    assert tiny == pytest.approx(metric(calibrated(), truth), rel=1e-4)


def test_an_estimate_in_other_units_is_not_rescaled_to_fit(
    truth: np.ndarray, calibrated: Callable[..., Estimate]
) -> None:
    assert metrics.nrmse(replace(calibrated(), mean=2 * truth), truth) == pytest.approx(1.0)


def test_a_calibrated_posterior_covers_the_truth_nine_times_of_ten(
    truth: np.ndarray, calibrated: Callable[..., Estimate]
) -> None:
    assert metrics.coverage90(calibrated(), truth) == pytest.approx(0.9, abs=0.03)
    assert metrics.spread_ratio(calibrated(), truth) == pytest.approx(1.0, abs=0.05)


def test_too_small_a_spread_lowers_coverage_and_raises_the_ratio(
    truth: np.ndarray, calibrated: Callable[..., Estimate]
) -> None:
    proper = calibrated()
    mean = proper.mean
    bold = replace(
        proper,
        std=proper.std / 2,
        quantiles={q: mean + (x - mean) / 2 for q, x in proper.quantiles.items()},
    )
    assert metrics.coverage90(bold, truth) < 0.7
    assert metrics.spread_ratio(bold, truth) == pytest.approx(2.0, abs=0.1)


def test_coverage_excludes_the_background(
    truth: np.ndarray, calibrated: Callable[..., Estimate]
) -> None:
    proper = calibrated()
    spoilt = {q: np.where(truth == 0, 9.0, x) for q, x in proper.quantiles.items()}
    assert metrics.coverage90(replace(proper, quantiles=spoilt), truth) == metrics.coverage90(
        proper, truth
    )


BUILT_IN = ("psnr", "ssim", "nrmse", "chi2", "coverage90")


@pytest.fixture
def plugins(fake_plugins: Any) -> Any:
    entries = {Entry(name=n, target="m:a", summary=""): getattr(metrics, n) for n in BUILT_IN}
    third_party = Entry(name="lab.samples", target="m:a", summary="")
    return fake_plugins(
        "metric", entries | {third_party: lambda e, t: float(len(e.samples) or np.nan)}
    )


@pytest.fixture
def truth_of(tmp_path: Path, result: Path) -> Callable[..., Path]:
    """Writes a truth file for the small result: its own means, made a little larger."""

    def make(name: str = "truth", change: Callable[[Any], Any] = lambda x: x) -> Path:
        images = np.stack([read_estimate(result, i).mean for i in range(3)]) * 1.01
        path = tmp_path / "truth.h5"
        with h5py.File(path, "w") as file:
            file[name] = change(images)
        return path

    return make


def test_every_metric_is_averaged_over_slices_for_mean_and_baseline(
    result: Path, truth_of: Callable[..., Path], plugins: Any
) -> None:
    values = metrics.evaluate(result, truth_of(), None, plugins)
    assert set(values) == {
        "psnr", "psnr_baseline", "ssim", "ssim_baseline", "nrmse", "nrmse_baseline",
        "chi2", "coverage90", "lab.samples",
    }  # fmt: skip
    assert values["psnr"] > values["psnr_baseline"]
    assert values["nrmse"] == pytest.approx(0.01 / 1.01, rel=1e-3)
    assert values["lab.samples"] == 4
    assert values["chi2"] == pytest.approx(1.02)


def test_slices_of_different_quality_are_averaged(
    start: Callable[..., ResultWriter],
    outcome: Callable[..., Outcome],
    plugins: Any,
    tmp_path: Path,
) -> None:
    with start() as writer:
        for index, chi2 in enumerate((1.0, 2.0, 6.0)):
            writer.write(index, outcome(diagnostics={"chi2": chi2}))
        writer.finish()
    assert metrics.evaluate(writer.path, writer.path, None, plugins)["chi2"] == 3.0


@pytest.mark.parametrize("name", ["truth", "reconstruction_rss", "reconstruction_esc"])
def test_true_images_are_found_by_their_usual_names(
    name: str, result: Path, truth_of: Callable[..., Path], plugins: Any
) -> None:
    assert "psnr" in metrics.evaluate(result, truth_of(name), None, plugins)


def test_another_result_or_a_named_dataset_serves_as_truth(
    result: Path, truth_of: Callable[..., Path], plugins: Any
) -> None:
    assert metrics.evaluate(result, result, None, plugins)["nrmse"] == 0.0
    assert "psnr" in metrics.evaluate(result, truth_of("my/images"), "my/images", plugins)


def test_a_result_of_some_slices_is_compared_with_just_these(
    start: Callable[..., ResultWriter],
    outcome: Callable[..., Outcome],
    provenance: dict[str, Any],
    plugins: Any,
    tmp_path: Path,
) -> None:
    with start(provenance=provenance | {"slices": [0, 2, 4]}) as writer:
        for index in range(3):
            writer.write(index, outcome(index))
        writer.finish()
    truth = tmp_path / "truth.h5"
    with h5py.File(truth, "w") as file:
        file["truth"] = np.zeros((5, 12, 10), np.float32)
        for index in range(3):
            file["truth"][2 * index] = outcome(index).mean
    assert metrics.evaluate(writer.path, truth, None, plugins)["nrmse"] == 0.0


def nan(x: np.ndarray) -> np.ndarray:
    return np.where(x == x.max(), np.nan, x)


@pytest.mark.parametrize(
    ("name", "change", "complaint"),
    [
        ("truth", lambda x: x[:, :-1], r"shape \(3, 11, 10\), the result \(3, 12, 10\)"),
        ("truth", lambda x: x[:1], "shape"),
        ("truth", lambda x: x.astype(np.complex64), "complex64"),
        ("truth", nan, "NaN"),
        ("truth", lambda x: 0 * x, "no value above zero"),
        ("other", lambda x: x, "no dataset truth; it has other"),
    ],
)
def test_a_truth_that_cannot_be_compared_is_refused(
    name: str,
    change: Callable[[Any], Any],
    complaint: str,
    result: Path,
    truth_of: Callable[..., Path],
    plugins: Any,
) -> None:
    with pytest.raises(InputError, match=complaint):
        metrics.evaluate(result, truth_of(name, change), None, plugins)


def test_a_metric_that_fails_is_named_and_left_out(
    result: Path, truth_of: Callable[..., Path], fake_plugins: Any
) -> None:
    bad, good, absent = (
        Entry(name=f"lab.{name}", target="m:a", summary="") for name in ("bad", "good", "absent")
    )
    reasons: list[str] = []
    targets = {bad: lambda e, t: 1 / 0, good: metrics.psnr, absent: PluginError("needs more")}
    found = metrics.evaluate(
        result, truth_of(), None, fake_plugins("metric", targets), notify=reasons.append
    )
    assert set(found) == {"lab.good", "lab.good_baseline"}
    assert "lab.bad failed: ZeroDivisionError" in reasons[0]
    assert reasons[1] == "needs more"
    with pytest.raises(PluginError, match=r"lab\.bad failed: ZeroDivisionError"):
        metrics.evaluate(result, truth_of(), None, fake_plugins("metric", {bad: targets[bad]}))


def test_a_metric_that_changes_its_arrays_is_left_out_and_affects_no_other(
    result: Path, truth_of: Callable[..., Path], fake_plugins: Any
) -> None:
    def spoil(estimate: Estimate, truth: np.ndarray) -> float:
        for array in (estimate.mean, estimate.std, estimate.samples, estimate.quantiles[0.05]):
            with pytest.raises(ValueError, match="read-only"):
                array[:] = 0
        truth[:] = 0
        return 1.0

    bad, good = (Entry(name=f"lab.{name}", target="m:a", summary="") for name in ("bad", "good"))
    reasons: list[str] = []
    plugins = fake_plugins("metric", {bad: spoil, good: metrics.nrmse})
    found = metrics.evaluate(result, truth_of(), None, plugins, notify=reasons.append)
    assert found["lab.good"] == pytest.approx(0.01 / 1.01, rel=1e-3)
    assert "lab.bad failed: ValueError" in reasons[0]
    assert "read-only" in reasons[0]


def test_a_metric_without_a_value_is_nan(
    result: Path, truth_of: Callable[..., Path], fake_plugins: Any
) -> None:
    entry = Entry(name="lab.nan", target="m:a", summary="")
    plugins = fake_plugins("metric", {entry: lambda e, t: np.nan})
    found = metrics.evaluate(result, truth_of(), None, plugins)
    assert np.isnan(found.pop("lab.nan"))
    assert not found


def test_a_metric_that_ends_the_program_is_left_out(
    result: Path,
    truth_of: Callable[..., Path],
    fake_plugins: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def leave(estimate: Estimate, truth: np.ndarray) -> float:
        sys.stdout.write("leaving")
        raise SystemExit

    bad, good = (Entry(name=f"lab.{name}", target="m:a", summary="") for name in ("bad", "good"))
    reasons: list[str] = []
    plugins = fake_plugins("metric", {bad: leave, good: metrics.nrmse})
    found = metrics.evaluate(result, truth_of(), None, plugins, notify=reasons.append)
    assert "lab.good" in found
    assert "lab.bad failed: SystemExit" in reasons[0]
    assert not capsys.readouterr().out
