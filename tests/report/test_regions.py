"""Figures of regions against closed forms."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray

import tiltkit
from tiltkit.errors import InputError
from tiltkit.io.result import ResultWriter
from tiltkit.likelihoods import GaussianLikelihood
from tiltkit.operators.compose import Pointwise
from tiltkit.posterior.warnings import Caution
from tiltkit.priors.closed_form import SmoothGaussian
from tiltkit.problem import Problem
from tiltkit.protocols import Layout
from tiltkit.report.masks import box, disk, labels
from tiltkit.report.regions import interval_ranks, region_figures

if TYPE_CHECKING:
    from tiltkit.posterior.outcome import Outcome

    Array = NDArray[Any]

SHAPE = (3, 12, 10)


@pytest.fixture
def set_diagnostic(result: Path) -> Callable[[str, float], None]:
    """Sets a number of the certificate in all slices of the result."""

    def change(name: str, value: float) -> None:
        with h5py.File(result, "r+") as file:
            group = file["entry/diagnostics"]
            if name in group:
                del group[name]
            group[name] = np.full(3, value)

    return change


@pytest.fixture
def gaussian_result(layout: Layout, recipe: dict[str, Any], provenance: dict[str, Any],
                    outcome: Callable[..., Outcome], tmp_path: Path) -> Path:  # fmt: skip
    """One slice with 400 samples of 5 + stationary noise, correlation 0.8 along the rows."""
    noise = np.random.default_rng(0).normal(size=(400, 12, 10)).astype(np.float32)
    for column in range(1, 10):
        noise[..., column] = 0.8 * noise[..., column - 1] + 0.6 * noise[..., column]
    one = replace(layout, axes=(replace(layout.axes[0], coordinates=[0.0]), *layout.axes[1:]))
    writer = ResultWriter.open(
        tmp_path / "gaussian.h5", layout=one, samples=400, recipe=recipe, provenance=provenance,
        resume=False, overwrite=False,
    )  # fmt: skip
    with writer:
        writer.write(0, outcome(samples=5 + noise, mean=np.full((12, 10), 5, np.float32)))
        writer.finish()
    return tmp_path / "gaussian.h5"


def write_h5(path: Path, **arrays: Array) -> None:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array


@pytest.mark.parametrize(("samples", "coverage"), [(8, 7 / 9), (19, 0.9), (99, 0.9)])
def test_intervals_of_exchangeable_samples_hold_the_truth_as_often_as_stated(
    samples: int, coverage: float
) -> None:
    rank, stated = interval_ranks(samples)
    assert stated == pytest.approx(coverage)
    draws = np.sort(np.random.default_rng(0).normal(size=(20000, samples)), axis=1)
    truth = np.random.default_rng(1).normal(size=20000)
    inside = (draws[:, rank - 1] <= truth) & (truth <= draws[:, -rank])
    assert inside.mean() == pytest.approx(coverage, abs=0.01)


def test_intervals_of_copied_samples_hold_the_truth_as_often_as_stated() -> None:
    distinct, copies = 19, 3
    rank, stated = interval_ranks(distinct * copies, distinct)
    assert stated == pytest.approx(0.9)
    draws = np.random.default_rng(0).normal(size=(20000, distinct)).repeat(copies, axis=1)
    draws.sort(axis=1)
    truth = np.random.default_rng(1).normal(size=20000)
    inside = (draws[:, rank - 1] <= truth) & (truth <= draws[:, -rank])
    assert inside.mean() == pytest.approx(0.9, abs=0.01)


def test_copies_of_samples_make_intervals_wider_and_leave_the_spread_unbiased(
    result: Path, set_diagnostic: Callable[[str, float], None]
) -> None:
    mask = {"box": box(SHAPE, slice(2, 6), slice(1, 9), None)}
    rng, spreads = np.random.default_rng(0), []
    set_diagnostic("independent_samples", 2.0)
    for _ in range(200):
        pair = rng.normal(size=2).astype(np.float32)
        with h5py.File(result, "r+") as file:
            file["entry/samples/samples"][...] = pair.repeat(2)[:, None, None, None]
        spreads.append(region_figures(result, mask)[0].std)
    mean, _ = region_figures(result, mask)
    assert (mean.samples, mean.independent) == (4, 2.0)
    assert mean.coverage == pytest.approx(1 / 3)  # of two samples
    assert (mean.low, mean.high) == pytest.approx((pair.min(), pair.max()))
    assert np.mean(np.square(spreads)) == pytest.approx(1.0, rel=0.25)
    assert mean.standard_error == pytest.approx(mean.std / 2**0.5)


def test_the_mean_of_a_region_has_the_exact_interval_of_a_gaussian_posterior(
    gaussian_result: Path,
) -> None:
    # Stationary noise with correlation 0.8^|i-j| along each row: the variance of a mean is exact.
    mask = box((1, 12, 10), slice(0, 1), slice(2, 8), None)
    steps = np.abs(np.subtract.outer(np.arange(6), np.arange(6)))
    exact = np.sqrt((0.8**steps).mean())
    mean, total = region_figures(gaussian_result, {"row": mask})
    assert mean.std == pytest.approx(exact, rel=0.07)
    assert (mean.low, mean.high) == pytest.approx((5 - 1.645 * exact, 5 + 1.645 * exact), abs=0.25)
    assert total.std == pytest.approx(6 * 1.2**2 * mean.std)  # pixels of 1.44 mm^2


def test_the_mean_of_a_region_from_a_sampler_has_the_interval_of_the_exact_posterior(
    tmp_path: Path,
) -> None:
    prior, noise_var, shape = SmoothGaussian(1.0, 3.0, 5.0, channels=1), 0.25, (1, 12, 10)
    measured = (torch.arange(120) % 3 == 0).reshape(shape).float()
    y = torch.linspace(-1, 2, 120).reshape(1, *shape) * measured
    problem = Problem(prior, GaussianLikelihood(Pointwise(measured), y, noise_var), shape)
    tiltkit.sample(problem, n=400, options={"levels": 30}, seed=1).save(tmp_path / "o.h5")
    # The score of the noised prior is -(C + sigma^2 I)^-1 x.
    sigma = 0.5
    basis = torch.eye(120).reshape(120, *shape)
    precision = -prior.score(basis, sigma).reshape(120, 120).double()
    covariance = torch.linalg.inv(precision) - sigma**2 * torch.eye(120)
    posterior = torch.linalg.inv(
        torch.linalg.inv(covariance) + torch.diag(measured.flatten().double()) / noise_var
    )
    mean = posterior @ y.flatten().double() / noise_var
    region = box(shape, slice(3, 8), slice(2, 9), None)
    weights = torch.zeros(120, dtype=torch.float64)
    weights[torch.from_numpy(region)] = 1 / len(region)
    centre, std = float(weights @ mean), float(weights @ posterior @ weights) ** 0.5
    found, _ = region_figures(tmp_path / "o.h5", {"box": region})
    assert found.std == pytest.approx(std, rel=0.12)
    assert found.value == pytest.approx(centre, abs=0.25 * std)
    ends = centre - 1.645 * std, centre + 1.645 * std
    assert (found.low, found.high) == pytest.approx(ends, abs=0.35 * std)


def test_pixels_that_are_not_finite_are_refused_only_inside_of_the_region(result: Path) -> None:
    with h5py.File(result, "r+") as file:
        file["entry/samples/samples"][0, 1, 3, 3] = np.nan
    region_figures(result, {"beside": box(SHAPE, slice(4, 6), slice(4, 6), 1)})
    with pytest.raises(InputError, match="around has pixels that are not finite"):
        region_figures(result, {"around": box(SHAPE, slice(2, 5), slice(2, 5), 1)})


def test_rounding_errors_do_not_take_a_sample_away(
    result: Path, set_diagnostic: Callable[[str, float], None], tilt
) -> None:
    set_diagnostic("independent_samples", 4 - 1e-12)
    mean, _ = region_figures(result, {"box": box(SHAPE, slice(2, 6), slice(1, 9), 1)})
    assert mean.coverage == pytest.approx(3 / 5)
    assert "widened" not in tilt("evaluate", result, "--box", "2:6,1:9")[1]


def test_samples_that_are_worth_one_are_refused(
    result: Path, set_diagnostic: Callable[[str, float], None]
) -> None:
    mask = {"box": box(SHAPE, slice(2, 6), slice(1, 9), 1)}
    set_diagnostic("independent_samples", 1.2)
    with pytest.raises(InputError, match=r"4 samples worth 1\.2 independent ones"):
        region_figures(result, mask)


def test_a_single_sample_is_refused(
    start: Callable[..., ResultWriter], outcome: Callable[..., Outcome], tmp_path: Path
) -> None:
    with start(samples=1) as writer:
        for index in range(3):
            writer.write(index, outcome(index, samples=outcome(index).samples[:1]))
        writer.finish()
    with pytest.raises(InputError, match="1 sample; an interval needs two"):
        region_figures(writer.path, {"box": box(SHAPE, slice(2, 6), slice(1, 9), 1)})


def test_an_unfinished_result_is_refused(
    start: Callable[..., ResultWriter], outcome: Callable[..., Outcome]
) -> None:
    with start() as writer:
        writer.write(0, outcome(0))
    with pytest.raises(InputError, match="1 of 3 slices") as error:
        region_figures(writer.part, {"box": box(SHAPE, slice(2, 6), slice(1, 9), 0)})
    assert "--resume" in str(error.value.hint)


def test_one_slice_has_areas_and_several_have_volumes(result: Path, gaussian_result: Path) -> None:
    slab = {"box": box(SHAPE, slice(2, 6), slice(1, 9), None)}
    size = region_figures(result, slab, above=-1.0)[-1]
    assert size.unit == "mm^3"
    assert size.value == pytest.approx(3 * 32 * 5 * 1.2**2)
    area = {"box": box((1, 12, 10), slice(2, 6), slice(1, 9), None)}
    size = region_figures(gaussian_result, area, above=-1e9)[-1]
    assert size.unit == "mm^2"
    assert size.value == pytest.approx(32 * 1.2**2)


def test_the_planes_of_a_volume_are_counted_through_all_slices() -> None:
    mask = box((2, 5, 12, 10), slice(0, 12), slice(0, 10), 7)
    np.testing.assert_array_equal(mask, 7 * 120 + np.arange(120))
    with pytest.raises(InputError, match="no plane 10"):
        box((2, 5, 12, 10), slice(0, 12), slice(0, 10), 10)


def test_curves_have_no_boxes() -> None:
    with pytest.raises(InputError, match="no rows and columns"):
        box((3, 12), slice(0, 2), slice(0, 2), None)


def test_the_spread_of_a_mean_is_that_of_correlated_pixels(result: Path) -> None:
    # All pixels move together: the mean of a region is as uncertain as a pixel.
    shifts = np.array([-1.0, 0.0, 1.0, 2.0], np.float32)
    with h5py.File(result, "r+") as file:
        file["entry/samples/samples"][...] = shifts[:, None, None, None]
        file["entry/data/data"][...] = 0.5
    mask = box(SHAPE, slice(2, 6), slice(1, 9), 1)
    mean, total, size = region_figures(result, {"box": mask}, above=0.5)
    assert (mean.value, mean.low, mean.high) == (0.5, -1.0, 2.0)
    assert mean.std == pytest.approx(shifts.std(ddof=1))
    assert mean.pixels == 32
    assert total.high / mean.high == pytest.approx(size.high)  # all of the region
    assert size.low == 0
    assert size.value == pytest.approx(size.high / 2)


def test_a_disk_has_the_area_of_a_disk() -> None:
    region = disk((1, 200, 200), 99.5, 99.5, 80, None)
    assert len(region) == pytest.approx(np.pi * 80**2, rel=0.002)


@pytest.mark.parametrize("kind", ["npy", "tif", "h5"])
def test_regions_of_a_label_image_are_named_by_its_values(
    kind: str, result: Path, tmp_path: Path
) -> None:
    values = np.zeros(SHAPE, np.uint32)
    values[1, 2:4], values[2, 5] = 3, 1234567
    path = tmp_path / f"labels.{kind}"
    if kind == "npy":
        np.save(path, values)
    elif kind == "tif":
        tifffile.imwrite(path, values, photometric="minisblack")
    else:
        write_h5(path, labels=values)
    found = labels(str(path), result)
    assert list(found) == ["label 3", "label 1234567"]
    np.testing.assert_array_equal(found["label 3"], np.flatnonzero(values == 3))
    np.testing.assert_array_equal(found["label 1234567"], np.flatnonzero(values == 1234567))


def test_a_mask_of_truth_values_in_hdf5_is_one_region(result: Path, tmp_path: Path) -> None:
    mask = np.zeros(SHAPE, bool)
    mask[0, 3, 4:6] = True
    write_h5(tmp_path / "mask.h5", mask=mask)
    found = labels(str(tmp_path / "mask.h5"), result)
    np.testing.assert_array_equal(found["label 1"], np.flatnonzero(mask))


def test_one_of_several_arrays_in_a_file_is_named(result: Path, tmp_path: Path) -> None:
    path = tmp_path / "two.h5"
    write_h5(path, first=np.ones(SHAPE, np.uint8), second=np.full(SHAPE, 2, np.uint8))
    assert list(labels(f"{path}::second", result)) == ["label 2"]
    with pytest.raises(InputError, match="2 datasets") as error:
        labels(str(path), result)
    assert "FILE::NAME" in str(error.value.hint)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        (np.zeros(SHAPE), "no labels"),
        (np.arange(360.0).reshape(SHAPE) / 2, "not whole"),
        (np.full(SHAPE, np.nan), "not whole"),
        (np.full(SHAPE, np.inf), "not whole"),
        (np.ones(SHAPE, complex), "not whole"),
    ],
    ids=["zeros", "halves", "nan", "inf", "complex"],
)
def test_arrays_without_labels_are_refused(
    values: Array, complaint: str, result: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "labels.npy", values)
    with pytest.raises(InputError, match=complaint):
        labels(str(tmp_path / "labels.npy"), result)


def test_an_image_in_place_of_labels_is_refused(
    result: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "image.npy", np.arange(360).reshape(SHAPE))
    monkeypatch.setattr("tiltkit.report.masks._MOST_LABELS", 100)
    with pytest.raises(InputError, match="seems to be an image"):
        labels(str(tmp_path / "image.npy"), result)


def test_labels_of_another_shape_are_refused(result: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "labels.npy", np.ones((10, 12), np.uint8))
    with pytest.raises(InputError, match=r"\(10, 12\)"):
        labels(str(tmp_path / "labels.npy"), result)


@pytest.mark.parametrize(
    ("rows", "columns"), [(slice(0, 13), slice(0, 2)), (slice(4, 4), slice(0, 2))]
)
def test_boxes_outside_of_the_image_are_refused(rows: slice, columns: slice) -> None:
    with pytest.raises(InputError, match="rows"):
        box(SHAPE, rows, columns, None)


def test_regions_from_the_command_line(result: Path, tmp_path: Path, tilt) -> None:
    table = tmp_path / "regions.csv"
    options = ["--box", "2:6,1:9,1", "--disk", "5,5,2.5", "--above", "1e-6", "--csv", table]
    code, out, _ = tilt("evaluate", result, *options, "--json")
    found = json.loads(out)
    assert code == 0
    assert [one["region"] for one in found["regions"]] == ["box 2:6,1:9,1"] * 3 + [
        "disk 5,5,2.5"
    ] * 3
    assert "verdict" in found
    assert len(table.read_text().splitlines()) == 1 + 6


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--box", "2,6"), "Y0:Y1,X0:X1"),
        (("--box", "2:6,1:9", "--above", "nan"), "not a finite number"),
        (("--box", "2:6,1:9", "--above", "inf"), "not a finite number"),
        (("--above", "1"), "--above is given, but no region"),
        (("--csv", "x.csv"), "--csv is given, but no region"),
        ((), "nothing to evaluate"),
        (("--box", "2:6,1:9", "--fail-if", "psnr<30"), "psnr, which compares with the truth"),
    ],
)
def test_options_that_have_no_effect_are_errors(options, complaint, result: Path, tilt) -> None:
    code, _, message = tilt("evaluate", result, *options)
    assert code == 2
    assert complaint in message


def test_warnings_of_a_result_are_conditions_beside_regions(
    start: Callable[..., ResultWriter], outcome: Callable[..., Outcome], tilt
) -> None:
    warned = {"warnings": [Caution("runs_disagree", "They do.", 2.0, 1.1, "")]}
    with start() as writer:
        for index in range(3):
            writer.write(index, outcome(index, diagnostics=warned))
        writer.finish()
    box_ = ("evaluate", writer.path, "--box", "2:6,1:9")
    code, _, message = tilt(*box_, "--fail-if", "runs_disagree")
    assert code == 3
    assert "runs_disagree" in message
    assert tilt(*box_, "--fail-if", "spread_narrow")[0] == 0


def test_copies_of_samples_are_named_beside_the_intervals(
    result: Path, set_diagnostic: Callable[[str, float], None], tilt
) -> None:
    set_diagnostic("independent_samples", 3.0)
    _, out, _ = tilt("evaluate", result, "--box", "2:6,1:9")
    assert "4 samples, worth 3.0 independent ones and widened accordingly" in out
