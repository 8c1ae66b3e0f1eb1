"""Sinograms are right, their noise is what their variance says, and faults are masked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiltkit_ct.data_exchange import DataExchange
from tiltkit_ct.options import PrepareOptions
from tiltkit_ct.prepare import Sinogram, prepare
from tiltkit_ct.select import select

from tiltkit.errors import InputError

Make = Callable[..., Any]


def row(path: Path, index: int = 1, **settings: Any) -> Sinogram:
    options = PrepareOptions(**settings)
    with DataExchange.open(path) as scan:
        return prepare(select(scan, options), index, options)


def chi2(found: Sinogram, truth: Any) -> float:
    finite = np.isfinite(found.variance)
    return float(((found.line_integrals - truth)[finite] ** 2 / found.variance[finite]).mean())


@pytest.mark.parametrize("photons", [300, 5000, 100000])
@pytest.mark.parametrize("gain", [0.3, 5.0])
def test_errors_are_as_large_as_the_variance_says(
    simulate: Make, exchange: Make, photons: float, gain: float
) -> None:
    scan = simulate(photons=photons, gain=gain, read_noise=0.5, n_flats=20, rows=17, fluctuation=0)
    found = row(exchange(scan), 8)
    assert found.facts["gain"] == pytest.approx(gain, rel=0.05)
    assert found.facts["gain_from"] == "flats"
    assert chi2(found, scan.truth) == pytest.approx(1, abs=0.07)


@pytest.mark.parametrize("read_noise", [0.0, 3.0])
def test_few_counts_do_not_bias_the_attenuation(
    simulate: Make, exchange: Make, read_noise: float
) -> None:
    """The factor of the sample that fits best; weights from the counts themselves make it 0.9."""
    factors = []
    for seed in range(5):
        scan = simulate(photons=30, gain=1.0, read_noise=read_noise, n_flats=30, seed=seed,
                        fluctuation=0)  # fmt: skip
        found = row(exchange(scan), gain=1.0)
        weights = scan.truth / found.variance
        factors.append((weights * found.line_integrals).sum() / (weights * scan.truth).sum())
        assert found.facts["masked"] < 0.01
    assert np.mean(factors) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize(("line", "share"), [(1.0, 0.0), (3.0, 0.0), (6.0, 1.0)])
def test_an_edge_of_few_photons_is_neither_blurred_nor_masked_by_chance(
    write: Make, line: float, share: float
) -> None:
    """20 photons beside the edge; behind it 7 or 1, or hardly any, which is opaque."""
    rng, edge = np.random.default_rng(0), 30
    truth = np.zeros((1000, 1, 60))
    truth[..., edge:] = line
    path = write(
        exchange__data=rng.poisson(20 * np.exp(-truth)).astype(np.float32),
        exchange__data_white=rng.poisson(20, (400, 1, 60)).astype(np.float32),
        exchange__data_dark=np.zeros((2, 1, 60), np.float32),
        exchange__theta=180 / 1000 * np.arange(1000),
    )
    found = row(path, 0, gain=1.0)
    finite = np.isfinite(found.variance)
    for column in range(edge - 5, edge + 5):
        inside = column >= edge
        kept = finite[:, column]
        assert 1 - kept.mean() == pytest.approx(share if inside else 0, abs=0.02)
        if kept.mean() > 0.5:
            lines, weights = found.line_integrals[kept, column], 1 / found.variance[kept, column]
            mean = np.average(lines, weights=weights)
            assert mean == pytest.approx(line if inside else 0, abs=0.15)
            assert lines.mean() == pytest.approx(line if inside else 0, abs=0.2)
            assert (weights * (lines - line * inside) ** 2).mean() == pytest.approx(1, abs=0.2)


def test_reading_noise_is_part_of_the_variance(simulate: Make, exchange: Make) -> None:
    scan = simulate(photons=400, gain=1.0, read_noise=25, n_flats=30, rows=17, fluctuation=0,
                    thickness=1.0)  # fmt: skip
    assert chi2(row(exchange(scan), 8), scan.truth) == pytest.approx(1, abs=0.08)


def test_noise_beyond_counting_is_an_option(simulate: Make, exchange: Make) -> None:
    """As of a beam that flickers by 5 % from projection to projection, without a correction."""
    scan = simulate()
    scan.counts[:] *= np.exp(0.05 * np.random.default_rng(1).normal(size=(90, 1, 1)))
    path = exchange(scan)
    assert chi2(row(path), scan.truth) > 2
    assert chi2(row(path, extra_noise=0.05), scan.truth) == pytest.approx(1, abs=0.3)


def test_few_flats_are_part_of_the_variance(simulate: Make, exchange: Make) -> None:
    scan = simulate(n_flats=1, fluctuation=0)
    found = row(exchange(scan), gain=2.0)
    assert found.facts["gain_from"] == "given"
    assert chi2(found, scan.truth) == pytest.approx(1, abs=0.1)


def test_without_flats_and_air_the_gain_comes_from_the_projections(
    simulate: Make, exchange: Make
) -> None:
    scan = simulate(n_flats=1, n=180)
    found = row(exchange(scan), columns="35:95")
    assert found.facts["gain_from"] == "projections"
    assert found.facts["gain"] == pytest.approx(2.0, rel=0.15)


def test_counts_and_blank_are_photons(simulate: Make, exchange: Make) -> None:
    scan = simulate(photons=2000, gain=3.0, rows=17, fluctuation=0)
    found = row(exchange(scan), 8)
    assert found.counts is not None
    assert found.blank is not None
    np.testing.assert_allclose(found.blank.mean(axis=0), scan.photons[8], rtol=0.1)
    expected = scan.photons[8] * np.exp(-scan.truth)
    assert (found.counts - expected).mean() == pytest.approx(0, abs=40)
    pearson = (found.counts - expected) ** 2 / expected
    assert pearson.mean() == pytest.approx(1, abs=0.1)


def test_binning_lowers_the_noise_and_its_variance(simulate: Make, exchange: Make) -> None:
    scan = simulate(rows=16, fluctuation=0, radius=60.0, n=200, thickness=1.0)
    for settings in ({"gain": 2.0}, {}):
        found = row(exchange(scan), 3, binning=2, **settings)
        truth = -np.log(np.exp(-scan.truth).reshape(200, 64, 2).mean(axis=2))
        assert chi2(found, truth) == pytest.approx(1, abs=0.12)
        assert found.counts is not None
        assert found.counts.max() > 1.5 * 4 * scan.photons.max() * np.exp(-0.7)


def test_faults_are_masked_and_filled(simulate: Make, exchange: Make) -> None:
    scan = simulate()
    scan.counts[20, 1, 60] = 100000  # zinger
    scan.counts[30, 1, 64] = 100  # as dark as the darks
    scan.counts[31, 1, 64] = -50
    scan.counts[40, 1, 70] = np.nan
    scan.flats[:, 1, 80] = 100  # blocked
    path = exchange(scan)
    found = row(path)
    masked = np.isinf(found.variance)
    expected = np.zeros_like(masked)
    expected[:, 80] = True
    expected[[20, 40, 31], [60, 70, 64]] = True
    expected[30, 64] = masked[30, 64]  # noise decides whether it is below zero
    np.testing.assert_array_equal(masked, expected)
    assert np.isfinite(found.line_integrals).all()
    np.testing.assert_allclose(found.line_integrals[:, 80], scan.truth[:, 80], atol=0.3)
    assert found.counts is not None
    assert found.blank is not None
    assert (found.blank[:, 80] == 0).all()
    assert found.blank[20, 60] == 0
    # No photon is a measurement, of something opaque; a broken pixel is none.
    assert found.counts[31, 64] == 0 < found.blank[31, 64]
    assert found.facts["zingers"] == 1
    assert np.isfinite(found.counts).all()


def test_zingers_stay_where_they_are_not_looked_for(simulate: Make, exchange: Make) -> None:
    scan = simulate()
    scan.counts[20, 1, 60] = 100000
    found = row(exchange(scan), zingers=0)
    assert np.isfinite(found.variance[20, 60])
    assert found.line_integrals[20, 60] < 0


def test_a_beam_that_drifts_is_followed_by_columns_of_air(simulate: Make, exchange: Make) -> None:
    scan = simulate(photons=50000, radius=40.0)
    fading = np.linspace(1.1, 0.8, len(scan.angles))[:, None, None]
    scan.counts[:] = 100 + (scan.counts - 100) * fading
    path = exchange(scan)
    assert abs(row(path).line_integrals - scan.truth)[-1].mean() > 0.1
    found = row(path, air=12)
    assert abs(found.line_integrals - scan.truth).mean() < 0.02
    assert found.blank is not None
    share = found.blank[-1].mean() / found.blank[0].mean()
    assert share == pytest.approx(0.8 / 1.1, rel=0.02)


def test_stripes_leave_line_integrals_and_counts_in_agreement(
    simulate: Make, exchange: Make
) -> None:
    scan = simulate(photons=50000)
    scan.counts[:, 1, 50] = 100 + 0.8 * (scan.counts[:, 1, 50] - 100)
    plain, filtered = (row(exchange(scan), stripes=kind) for kind in ("none", "sort"))
    error = [abs(found.line_integrals - scan.truth)[:, 50].mean() for found in (plain, filtered)]
    assert error[1] < 0.3 * error[0]
    assert filtered.counts is not None
    assert filtered.blank is not None
    np.testing.assert_allclose(
        np.log(filtered.blank / filtered.counts), filtered.line_integrals, atol=1e-3
    )


def test_phase_retrieval_keeps_a_thick_smooth_sample_and_quiets_noise(
    simulate: Make, exchange: Make
) -> None:
    scan = simulate(rows=60, photons=300, radius=60.0, fluctuation=0)
    settings = {"delta_beta": 300, "energy_kev": 30, "distance_mm": 30, "pixel_mm": 0.003}
    plain = row(exchange(scan), 30)
    found = row(exchange(scan), 30, **settings)
    assert found.counts is None
    air = np.s_[:, :12]
    assert found.line_integrals[air].var() < 0.2 * plain.line_integrals[air].var()
    assert found.line_integrals[air].var() == pytest.approx(found.variance[air].mean(), rel=0.4)
    inside = scan.truth > 1.0
    assert found.line_integrals[inside].mean() == pytest.approx(scan.truth[inside].mean(), rel=0.03)


@pytest.mark.parametrize("missing", ["energy_kev", "distance_mm", "pixel_mm"])
def test_phase_retrieval_says_what_it_lacks(simulate: Make, exchange: Make, missing: str) -> None:
    settings = {"delta_beta": 300, "energy_kev": 30, "distance_mm": 30, "pixel_mm": 0.003}
    del settings[missing]
    with pytest.raises(InputError, match=f"needs {missing}") as caught:
        row(exchange(simulate()), **settings)
    assert "--" + missing.replace("_", "-") in caught.value.hint


def test_missing_flats_are_refused_and_may_be_given(simulate: Make, exchange: Make) -> None:
    scan = simulate(photons=20000, dark=0, read_noise=0)
    path = exchange(scan, exchange__data_white=None)
    with pytest.raises(InputError, match="no flats") as caught:
        row(path)
    assert "--flat-value" in caught.value.hint
    found = row(path, flat_value=2 * float(scan.photons[1].mean()))
    assert abs(found.line_integrals - scan.truth).mean() < 0.15
    # These are no line integrals, but the option says so.
    assert row(path, kind="line_integrals").counts is None


def test_missing_darks_are_said(simulate: Make, exchange: Make) -> None:
    found = row(exchange(simulate(), exchange__data_dark=None))
    assert any(note.code == "darks_assumed" for note in found.notes)
    given = row(exchange(simulate(), exchange__data_dark=None), dark_value=100)
    assert "darks_assumed" not in {note.code for note in given.notes}


def test_line_integrals_are_taken_as_they_are(simulate: Make, exchange: Make) -> None:
    scan = simulate(n=150)
    level = 0.03
    values = scan.truth + level * np.random.default_rng(0).normal(size=scan.truth.shape)
    path = exchange(scan, exchange__data=values[:, None].astype(np.float32) + 5,
                    exchange__data_white=None, exchange__data_dark=None)  # fmt: skip
    found = row(path, 0, kind="line_integrals", background=5)
    np.testing.assert_allclose(found.line_integrals, values, atol=1e-5)
    assert chi2(found, scan.truth) == pytest.approx(1, abs=0.15)
    assert found.blank is None


def test_projections_in_any_order_have_the_noise_of_sorted_ones(
    simulate: Make, exchange: Make
) -> None:
    scan = simulate(n_flats=1)
    rng = np.random.default_rng(1)
    lines = scan.truth[:, None] + 0.02 * rng.normal(size=scan.counts.shape)

    def found(order: Any, values: Any, **settings: Any) -> Sinogram:
        changes = {"exchange__data": values[order].astype(np.float32),
                   "exchange__theta": np.degrees(scan.angles[order])}  # fmt: skip
        return row(exchange(scan, **changes), **settings)

    plain, mixed = np.arange(90), rng.permutation(90)
    for values, settings in ((scan.counts, {}), (lines, {"kind": "line_integrals"})):
        one, other = (found(order, values, **settings) for order in (plain, mixed))
        assert one.facts == other.facts
        assert np.median(one.variance) == np.median(other.variance)


BAD: dict[str, tuple[Callable[[Any], None], str]] = {
    "zero counts": (lambda s: s.counts.fill(0), "no counts"),
    "dark projections": (lambda s: s.counts.fill(90), "no counts"),
    "saturated flats": (lambda s: s.flats.fill(65535), "saturated"),
    "saturated projections": (lambda s: s.counts.fill(65535), "times brighter"),
    "flats of another exposure": (lambda s: s.counts.__imul__(8), "times brighter"),
    "NaN": (lambda s: s.counts.__setitem__(slice(10, None), np.nan), "cannot be used"),
    "all NaN": (lambda s: s.counts.fill(np.nan), "no counts"),
    "swapped flats and darks": (
        lambda s: s.flats.__setitem__(slice(None), s.darks - 50),
        "no brighter than its darks",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_rows_without_information_are_refused_in_two_lines(
    simulate: Make, exchange: Make, case: str
) -> None:
    scan = simulate()
    break_it, message = BAD[case]
    break_it(scan)
    path = exchange(scan)
    with pytest.raises(InputError, match=message) as caught:
        row(path)
    assert str(path) in caught.value.message
    assert caught.value.hint
    assert len(str(caught.value).splitlines()) <= 2


def test_saturated_integers_are_refused_as_such(simulate: Make, exchange: Make) -> None:
    scan = simulate()
    full = np.full(scan.flats.shape, 255, np.uint8)
    path = exchange(scan, exchange__data=(scan.counts / 60).astype(np.uint8),
                    exchange__data_white=full)  # fmt: skip
    with pytest.raises(InputError, match="saturated or NaN in 100%"):
        row(path)
    bright = np.full(scan.counts.shape, 65535, np.uint16)
    with pytest.raises(InputError, match="no counts"):
        row(exchange(scan, exchange__data=bright))


def test_one_projection_can_be_prepared(simulate: Make, exchange: Make) -> None:
    scan = simulate()
    found = row(exchange(scan), angles="10:11")
    np.testing.assert_allclose(found.line_integrals[0], scan.truth[10], atol=0.3)


def test_data_without_noise_need_the_gain(exchange: Make, simulate: Make) -> None:
    scan = simulate()
    path = exchange(scan, exchange__data=np.full((90, 3, 128), 500.0),
                    exchange__data_white=np.full((4, 3, 128), 1000.0))  # fmt: skip
    with pytest.raises(InputError, match="shows no noise") as caught:
        row(path)
    assert "--gain" in caught.value.hint
    found = row(path, gain=1.0, dark_value=0)
    np.testing.assert_allclose(found.line_integrals, np.log(2), rtol=1e-5)


def test_real_air_is_as_noisy_as_the_variance_says(shared: Path) -> None:
    for index in (0, 1):
        found = row(shared / "tooth_aps.h5", index)
        assert found.facts["masked"] < 1e-3
        for air in (slice(5, 100), slice(450, 630)):
            # Differences of projections: the beam drifts, and flats have their own noise.
            change = np.diff(found.line_integrals[:, air], axis=0)
            change -= np.median(change, axis=1, keepdims=True)
            measured = float(np.median(change**2)) / 0.4549 / 2
            assert measured == pytest.approx(float(np.median(found.variance[:, air])), rel=0.2)
