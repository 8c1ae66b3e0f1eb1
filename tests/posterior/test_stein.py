"""The Stein check on exact samples of known targets, and on samples that are wrong."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tiltkit.operators.hartley import frequencies, hartley
from tiltkit.posterior.average import frequency_bands
from tiltkit.posterior.stein import fisher_at_least, over_rounds, stein_check, stein_report
from tiltkit.posterior.verdict import BandCheck, find_verdict
from tiltkit.posterior.warnings import find_warnings
from tiltkit.priors.closed_form import SmoothGaussian
from tiltkit.problem import Constraint, Problem

PRIOR = SmoothGaussian(0.3, 2.0, 3.0)


class NoData:
    """A likelihood of nothing, so that the target is the prior."""

    def gradient(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


def draws(side: int, n: int, g: torch.Generator, channels: int = 2) -> Tensor:
    """Exact samples of the prior."""
    spectrum = PRIOR.spectrum((side, side), torch.device("cpu"))
    white = torch.randn(n, channels, side, side, generator=g, dtype=torch.float64)
    return torch.fft.ifft2(torch.fft.fft2(white) * spectrum.sqrt()).real


def check(x: Tensor, independent: float | None = None) -> tuple[BandCheck, ...]:
    return stein_check(x, PRIOR.score(x, 0.0), independent or len(x))


def codes(bands: tuple[BandCheck, ...]) -> list[str]:
    return [one.code for one in find_warnings({"bands": bands})]


@pytest.mark.parametrize("n", [8, 16, 64])
@pytest.mark.parametrize("side", [16, 32, 64])
def test_exact_samples_have_a_ratio_of_one_within_the_stated_scatter(side: int, n: int) -> None:
    g = torch.Generator().manual_seed(side * n)
    repeats = 200 if side < 64 else 60
    found = [check(draws(side, n, g)) for _ in range(repeats)]
    for bands in zip(*found, strict=True):
        ratio = torch.tensor([one.spread for one in bands])
        stated = sum(one.spread_error for one in bands) / repeats
        assert abs(float(ratio.mean()) - 1) < 4 * stated / math.sqrt(repeats)
        # The larger of three estimates is stated, so that it is a little too large.
        assert 0.65 * stated < float(ratio.std()) < 1.2 * stated
        offset = torch.tensor([one.offset for one in bands])
        error = sum(one.offset_error for one in bands) / repeats
        assert abs(float(offset.mean())) < 0.25 * error
        assert 0.5 * error < float(offset.std()) < 1.3 * error


def test_at_most_two_of_a_hundred_exact_runs_warn_and_most_are_ok() -> None:
    g = torch.Generator().manual_seed(5)
    found = [check(draws(32, 8, g)) for _ in range(300)]
    assert sum(bool(codes(bands)) for bands in found) <= 6
    statuses = [find_verdict({"bands": bands}).local.status for bands in found]
    assert statuses.count("ok") >= 285


@pytest.mark.parametrize("n", [8, 16])
@pytest.mark.parametrize(
    ("variance", "code"), [(0.7, "spread_narrow"), (0.75, "spread_narrow"), (1.35, "spread_wide")]
)
def test_samples_with_a_wrong_variance_are_named(variance: float, code: str, n: int) -> None:
    g = torch.Generator().manual_seed(n)
    found = [codes(check(variance**0.5 * draws(32, n, g))) for _ in range(40)]
    assert sum(code in one for one in found) >= 39


def test_the_band_with_the_wrong_variance_is_named_and_no_other() -> None:
    g = torch.Generator().manual_seed(0)
    x = draws(32, 16, g)
    coarse = frequencies((32, 32)) < check(x)[0].high
    keep = 1 - (1 - 0.6**0.5) * coarse.double()
    bands = check(torch.fft.ifft2(torch.fft.fft2(x) * keep).real)
    (warning,) = find_warnings({"bands": bands})
    assert f"in {bands[0].name} times" in warning.text
    assert warning.value == bands[0].spread == pytest.approx(0.6, abs=0.15)


@pytest.mark.parametrize("n", [8, 16])
def test_samples_with_a_shifted_mean_are_named_with_the_size_of_the_shift(n: int) -> None:
    g = torch.Generator().manual_seed(n)
    found = [check(draws(32, n, g) + 0.6 * draws(32, 1, g)) for _ in range(40)]
    assert all("mean_off" in codes(bands) for bands in found)
    finest = torch.tensor([bands[-1].offset_sd for bands in found])
    assert float(finest.mean()) == pytest.approx(0.6, abs=0.03)


def test_the_scatter_is_right_where_an_operator_mixes_frequencies() -> None:
    g = torch.Generator().manual_seed(0)
    variance = torch.full((16, 16), 0.09).double()
    variance[:, ::2] = 0.001  # every second column is measured
    ratios, stated = [], []
    for _ in range(200):
        x = torch.randn(16, 1, 16, 16, generator=g, dtype=torch.float64) * variance.sqrt()
        bands = stein_check(x, -x / variance, 16)
        ratios.append(bands[0].spread)
        stated.append(bands[0].spread_error)
    independent = math.sqrt(2 / bands[0].coordinates / 15)
    mean = sum(stated) / 200
    assert mean > 2 * independent
    assert float(torch.tensor(ratios).std()) == pytest.approx(mean, rel=0.15)


def test_a_laplace_target_raises_no_warning() -> None:
    g = torch.Generator().manual_seed(0)
    warned = 0
    for _ in range(200):
        u = torch.rand(16, 1, 64, generator=g, dtype=torch.float64) - 0.5
        x = -u.sign() * torch.log1p(-2 * u.abs())
        warned += bool(codes(stein_check(x, -x.sign(), 16)))
    assert warned <= 4


def test_the_bound_on_the_fisher_divergence_is_below_it_and_near() -> None:
    g = torch.Generator().manual_seed(0)
    x = 0.7**0.5 * draws(32, 64, g) + 0.5 * draws(32, 1, g)
    # Per coefficient in its own units: (1 - v)^2 for the variance, v d^2 for the mean.
    exact = 0.3**2 + 0.7 * 0.5**2
    assert 0.7 * exact < fisher_at_least(check(x)) < 1.05 * exact
    assert fisher_at_least(check(draws(32, 64, g))) < 1e-3


def test_copies_of_samples_show_as_a_variance_that_is_too_small() -> None:
    g = torch.Generator().manual_seed(0)
    x = draws(32, 8, g).repeat(2, 1, 1, 1)
    bands = check(x, independent=8)
    assert all(one.spread == pytest.approx(7 / 8 * 16 / 15, abs=0.15) for one in bands)
    for one in bands:
        assert one.spread_error > 1.3 * math.sqrt(2 / one.coordinates / 15)


def test_the_shortage_of_variance_by_common_ancestors_is_named_beyond_its_scatter() -> None:
    g = torch.Generator().manual_seed(0)
    found = []
    for _ in range(40):
        clusters = draws(32, 4, g)[[0] * 6 + [1] * 4 + [2] * 4 + [3] * 2]
        x = 0.7**0.5 * clusters + 0.3**0.5 * draws(32, 16, g)
        bands = check(x, independent=1 / (1 / 16 + 15 / 16 * 28 / 120))
        found.append("spread_narrow" in codes(bands))
        assert "mean_off" not in codes(bands)
    assert sum(found) >= 38


def problem(constraint: Constraint | None = None, shape: tuple[int, ...] = (1, 16, 16)) -> Problem:
    return Problem(PRIOR, NoData(), shape, constraint=constraint)  # type: ignore[arg-type]


def test_values_that_are_fixed_to_zero_are_left_out() -> None:
    g = torch.Generator().manual_seed(0)
    support = torch.zeros(1, 16, 16, dtype=torch.bool)
    support[..., 3:14] = True
    found = []
    for _ in range(60):
        x = torch.randn(16, 1, 16, 16, generator=g).where(support, 0.0)
        report = stein_report(problem(Constraint(support=support)), x, -x, 16, 5)
        found.append([one.spread for one in report["bands"]])
    assert torch.tensor(found).mean(0).tolist() == pytest.approx([1] * len(found[0]), abs=0.03)


def test_samples_at_the_boundary_of_a_constraint_are_not_tested() -> None:
    g = torch.Generator().manual_seed(0)
    nonnegative = problem(Constraint(nonnegative=True))
    x = torch.randn(16, 1, 16, 16, generator=g)
    assert "boundary" in stein_report(nonnegative, x.abs(), -x.abs(), 16, 5)["not_checked"]
    zeros = torch.zeros_like(x)
    assert "boundary" in stein_report(nonnegative, zeros, zeros, 16, 5)["not_checked"]
    far = stein_report(nonnegative, x + 10, -x, 16, 5)
    assert far["bands"] == stein_report(problem(), x + 10, -x, 16, 16)["bands"]


@pytest.mark.parametrize(
    ("n", "independent", "scored", "reason"),
    [
        (2, 2, True, "too few"),
        (16, 1.5, True, "too few"),
        (16, 16, False, "no last target"),
    ],
)
def test_what_cannot_be_checked_is_not_tested_for_a_reason(
    n: int, independent: float, scored: bool, reason: str
) -> None:
    x = torch.randn(n, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    report = stein_report(problem(), x, -x if scored else None, independent, n)
    assert reason in report["not_checked"]
    assert find_verdict(report).local.status == "not tested"


def test_a_score_that_is_not_finite_is_not_tested() -> None:
    x = torch.randn(8, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    report = stein_report(problem(), x, -x * math.inf, 8, 8)
    assert "not finite" in report["not_checked"]


def test_images_without_spatial_axes_are_one_band() -> None:
    x = torch.randn(64, 40, generator=torch.Generator().manual_seed(0))
    (band,) = stein_check(x, -x, 64)
    assert band.name == "all detail"
    assert band.spread == pytest.approx(1, abs=0.1)


def test_many_samples_cost_no_more_than_some_of_them() -> None:
    x = torch.randn(5000, 1, 64, generator=torch.Generator().manual_seed(0))
    report = stein_report(problem(shape=(1, 64)), x, -x, 5000, 1000)
    assert find_verdict(report).local.status == "ok"


def test_the_check_of_all_rounds_has_the_variance_of_all_rounds() -> None:
    x = draws(32, 16, torch.Generator().manual_seed(0))
    last = check(x)
    shells = frequency_bands((32, 32), torch.device("cpu"))
    twice = over_rounds(last, torch.full((shells.count,), 2.0).double(), (32, 32))
    assert [one.spread for one in twice] == pytest.approx([2 * one.spread for one in last])
    coarse = torch.ones(shells.count).double()
    coarse[0] = 3.0
    first, *_, finest = over_rounds(last, coarse, (32, 32))
    assert first.spread == pytest.approx(3 * last[0].spread)
    assert finest == last[-1]


def test_a_shortage_where_most_of_the_variance_is_shows_beside_coefficients_that_are_right() -> (
    None
):
    g = torch.Generator().manual_seed(0)
    variance = torch.full((32, 32), 0.0004).double()
    variance[:, ::2] = 0.05  # coefficients that are not measured
    root, short = variance.sqrt(), torch.where(variance > 0.01, 0.7, 1.0).sqrt()
    found = []
    for _ in range(30):
        white = torch.randn(16, 1, 32, 32, generator=g, dtype=torch.float64)
        x, score = (hartley(one, (-2, -1)) for one in (white * short * root, -white * short / root))
        wrong = stein_check(x, score, 16)
        x, score = (hartley(one, (-2, -1)) for one in (white * root, -white / root))
        right = stein_check(x, score, 16)
        assert find_verdict({"bands": wrong}).local.status != "ok"
        found.append((codes(wrong) == ["spread_narrow"], bool(codes(right))))
        assert wrong[-1].total == pytest.approx(0.7, abs=0.05)
    named, false_alarms = zip(*found, strict=True)
    assert sum(named) >= 28
    assert sum(false_alarms) <= 1
