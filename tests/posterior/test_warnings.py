"""Rules that raise warnings, and the page that shows them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiltkit.posterior.verdict import BandCheck
from tiltkit.posterior.warnings import (
    CODES,
    LEGACY,
    Caution,
    find_warnings,
    group_warnings,
)
from tiltkit.report import words


def band(spread: float = 1.0, offset: float = 0.0) -> BandCheck:
    return BandCheck(0.1, 0.2, 800, spread, 0.02, offset, 0.01)


def codes(**report: float) -> list[str]:
    return [one.code for one in find_warnings(report)]


@pytest.mark.parametrize(
    ("report", "code"),
    [
        ({"chi2": 1.6, "chi2_expected": 1.0, "measured": 10_000}, "data_fit_narrow"),
        ({"chi2": 0.5, "chi2_expected": 1.0, "measured": 10_000}, "data_fit_wide"),
        ({"chi2": float("nan"), "chi2_expected": 1.0}, "data_fit_undefined"),
        ({"bands": [band(spread=0.7)]}, "spread_narrow"),
        ({"bands": [band(), band(spread=1.4)]}, "spread_wide"),
        ({"bands": [band(offset=0.4)]}, "mean_off"),
        ({"residual_ratio_max": 1.5}, "residual_ratio_high"),
        ({"prior_distance": 1.2}, "far_from_training"),
        ({"independent_samples": 1.1}, "few_independent_samples"),
        ({"rhat": 1.3, "rhat_limit": 1.1, "independent_samples": 1.1}, "runs_disagree"),
    ],
)
def test_a_bad_figure_raises_the_one_warning_of_its_kind(
    report: dict[str, float], code: str
) -> None:
    (warning,) = find_warnings(report)
    assert warning.code == code
    assert warning.text.endswith(".")
    assert "\n" not in warning.text
    if code != "data_fit_undefined":
        assert warning.value != warning.limit
        assert f"{warning.value:.1f}" in warning.text


@pytest.mark.parametrize("report", [{"residual_ratio_max": 2.0}, {"prior_distance": 1.2}])
def test_a_prior_that_does_not_fit_has_its_fallback_proposed(report: dict[str, float]) -> None:
    (with_one,) = find_warnings(report, fallback="lab.wide")
    (without,) = find_warnings(report)
    assert "--prior lab.wide" in with_one.hint
    assert "--prior" not in without.hint
    assert with_one.text == without.text


def test_a_fallback_is_not_proposed_for_what_another_prior_cannot_mend() -> None:
    (warning,) = find_warnings({"independent_samples": 1.1}, fallback="lab.wide")
    assert "lab.wide" not in str(warning)


@pytest.mark.parametrize(
    "report",
    [
        {},
        {"chi2": 1.02, "chi2_expected": 1.0, "weight_power_min": 0.0},
        {"bands": [band(spread=0.9, offset=0.05)]},
        {"residual_ratio_max": 1.3},
        {"prior_distance": 0.9},
        {"rhat": 1.08, "rhat_limit": 1.1},
        {"independent_samples": 3.0},
    ],
)
def test_good_figures_raise_no_warning(report: dict[str, float]) -> None:
    assert find_warnings(report) == ()


def test_few_measured_values_may_scatter_by_chance() -> None:
    assert codes(chi2=1.6, chi2_expected=1.0, chi2_scatter=0.2) == []
    assert codes(chi2=1.6, chi2_expected=1.0, chi2_scatter=0.01) == ["data_fit_narrow"]


def test_a_small_misfit_is_no_reason_for_a_warning_however_many_values_show_it() -> None:
    assert codes(chi2=1.05, chi2_expected=1.0, chi2_scatter=1e-4) == []


def test_every_code_is_described() -> None:
    assert all(CODES.values())


bands = st.builds(
    BandCheck,
    low=st.just(0.1),
    high=st.just(0.2),
    coordinates=st.just(100),
    spread=st.floats(0.2, 2),
    spread_error=st.floats(0.001, 0.2),
    offset=st.floats(-0.1, 1),
    offset_error=st.floats(0.001, 0.1),
)
figure = st.floats(0, 3, allow_nan=False) | st.just(float("nan"))
diagnostics = st.fixed_dictionaries(
    {},
    optional={
        "chi2": figure,
        "chi2_expected": st.floats(0.5, 1.5),
        "chi2_scatter": st.floats(0, 0.5),
        "bands": st.lists(bands, min_size=1, max_size=4),
        "residual_ratio_max": figure,
        "prior_distance": figure,
        "independent_samples": st.floats(1, 16),
        "ess_min": st.floats(1, 16),
        "weight_power_min": st.floats(0, 1),
        "shared_ancestry": st.floats(0, 1),
    },
)
runs = st.just({}) | st.fixed_dictionaries(
    {"rhat": st.floats(1, 2), "rhat_limit": st.floats(1.1, 1.5), "runs": st.just(2)}
)


@given(diagnostics, runs)
def test_the_page_marks_exactly_what_is_warned_about(
    report: dict[str, Any], agreement: dict[str, Any]
) -> None:
    report = report | agreement
    if "bands" in report:
        report |= {"spread_ratio_min": 1, "spread_ratio_max": 1, "mean_offset_max": 0}
    warnings = find_warnings(report)
    one = report | {"warnings": warnings}
    sections = (words.guaranteed(one, 16), words.measured(one, 16), words.unknown(one, 16))
    marked = [statement.warning for section in sections for statement in section]
    assert sorted(map(str, filter(None, marked))) == sorted(map(str, warnings))


def test_a_fit_that_chance_explains_is_not_marked_on_the_page() -> None:
    report = {"chi2": 1.25, "chi2_expected": 1.0, "chi2_scatter": 0.08}
    one = report | {"warnings": find_warnings(report)}
    (statement,) = words.measured(one, 16)
    assert statement.warning is None
    assert "as well as the noise allows" in statement.text


def test_a_kind_of_warning_is_grouped_under_its_worst_slice() -> None:
    mild, bad = (Caution("runs_disagree", f"R-hat {r}.", r, 1.1) for r in (1.2, 1.9))
    other = Caution("data_fit_wide", "Too close.", 0.5, 0.85)
    assert group_warnings([(mild,), (), (other, bad)]) == [(bad, [0, 2]), (other, [2])]


def test_warnings_of_old_results_are_grouped_by_their_text() -> None:
    old = [Caution(LEGACY, text) for text in ("A.", "B.", "A.")]
    assert [places for _, places in group_warnings([one] for one in old)] == [[0, 2], [1]]
