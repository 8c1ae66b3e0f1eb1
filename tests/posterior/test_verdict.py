"""The verdict in two halves: what was tested, and found right or wrong."""

from __future__ import annotations

import pytest

from tiltkit.posterior.verdict import (
    BandCheck,
    Half,
    Verdict,
    find_verdict,
    stored_verdict,
    verdict_text,
    worst_verdict,
)
from tiltkit.posterior.warnings import Caution

OPEN = "spread and mean: ok; shares between separate explanations: not tested"


def band(spread: float = 1.0, error: float = 0.02, offset: float = 0.0) -> BandCheck:
    return BandCheck(0.0, 0.1, 800, spread, error, offset, error / 2)


def test_good_bands_are_ok_within_the_largest_deviation() -> None:
    verdict = find_verdict({"bands": [band(1.034), band(0.99)]})
    assert verdict.local == Half("ok", "spread is right within 4 % in all bands")
    assert verdict.shares.status == "not tested"
    assert not verdict.ok


@pytest.mark.parametrize(
    ("one", "status"),
    [
        (band(0.75), "failed"),
        (band(1.3), "failed"),
        (band(offset=0.3), "failed"),
        (band(0.75, error=0.1), "not tested"),
        (band(1.0, error=0.2), "not tested"),
        (band(0.84, error=0.06), "not tested"),
        (band(0.9), "ok"),
    ],
)
def test_a_band_is_ok_only_where_a_wrong_one_can_be_told(one: BandCheck, status: str) -> None:
    assert find_verdict({"bands": [band(), one]}).local.status == status


def test_a_variance_of_three_quarters_is_never_called_ok() -> None:
    errors = [0.001 * 1.1**k for k in range(80)]
    assert all(find_verdict({"bands": [band(0.75, e)]}).local.status != "ok" for e in errors)


def test_without_a_check_the_spread_is_not_tested_and_the_reason_is_given() -> None:
    assert find_verdict({"not_checked": "no target"}).local == Half("not tested", "no target")


def test_shares_are_ok_only_by_a_test_of_them() -> None:
    agreement = {"rhat": 1.0, "rhat_limit": 1.1, "ess_min": 50.0, "weight_power_min": 1.0}
    assert find_verdict(agreement).shares.status == "not tested"
    assert find_verdict(agreement | {"rhat": 1.3}).shares.status == "failed"
    tested = {"shares_test": "re-noising sweep"}
    assert find_verdict(tested).shares == Half("ok", "re-noising sweep")
    assert find_verdict(tested | {"shares_failed": True}).shares.status == "failed"


def test_the_sentence_says_what_was_tested_and_what_was_not() -> None:
    verdict = find_verdict({"bands": [band(1.03), band()]})
    fit = "samples follow the data (chi2 1.00, expected 1.00)"
    assert verdict.sentence(fit) == (
        "Samples follow the data (chi2 1.00, expected 1.00) and their spread is right within 3 % in"
        " all bands (Stein check); shares between separate explanations: not tested."
    )
    assert verdict.sentence().startswith("The spread is right within 3 %")
    untested = find_verdict({"bands": [band(error=0.2)], "shares_test": "sweep"})
    assert untested.sentence(fit) == (
        "Samples follow the data (chi2 1.00, expected 1.00); spread and mean: not tested (too few"
        " samples to tell in detail coarser than 10 px); shares between separate explanations: ok"
        " (sweep)."
    )
    failed = find_verdict({"bands": [band(0.5)], "rhat": 2.0, "rhat_limit": 1.1})
    assert failed.sentence() == ""


def test_a_verdict_survives_the_texts_of_a_file() -> None:
    verdict = find_verdict({"bands": [band(0.5)], "shares_test": "sweep"})
    assert stored_verdict(verdict.figures()) == verdict
    assert stored_verdict({}).local.status == "not tested", "results of former releases"
    assert stored_verdict({"local": "fine"}).local.status == "not tested"


def test_each_half_is_that_of_the_worst_slice() -> None:
    good, bad = Half("ok", "a"), Half("failed", "b")
    found = worst_verdict([Verdict(good, bad), Verdict(bad, good), Verdict(good, good)])
    assert found == Verdict(bad, bad)
    assert worst_verdict([]).local.status == "not tested"


def test_the_text_is_ok_only_where_both_halves_are() -> None:
    open_ = find_verdict({"bands": [band()]})
    assert verdict_text(open_, []) == OPEN
    assert verdict_text(find_verdict({"bands": [band()], "shares_test": "sweep"}), []) == "ok"
    warnings = [Caution("a", "One.", hint="Do."), Caution("b", "Two.")]
    assert verdict_text(open_, warnings) == "One. Do. Two."


@pytest.mark.parametrize(
    ("low", "high", "finest", "name"),
    [
        (0.0, 0.1, False, "detail coarser than 10 px"),
        (0.1, 0.25, False, "detail of 4 to 10 px"),
        (0.25, 0.7, True, "detail finer than 4 px"),
        (0.0, 0.7, True, "all detail"),
    ],
)
def test_bands_are_named_by_the_size_of_their_detail(
    low: float, high: float, finest: bool, name: str
) -> None:
    assert BandCheck(low, high, 9, 1.0, 0.1, 0.0, 0.1, finest=finest).name == name


def test_figures_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        band(float("nan"))
