"""The noise of a scan: from air, from outer k-space, from a noise scan, and whether they agree."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tiltkit_mri.fastmri import FastMri
from tiltkit_mri.fourier import fft
from tiltkit_mri.noise import (
    AIR,
    NOISE_SCAN,
    OUTER,
    REPEATED,
    Noise,
    Source,
    combine_sources,
    describe_noise,
    noise_of_air,
    noise_of_scan,
    whitening,
)
from tiltkit_mri.noise_places import find_noise, noise_of_slices

ROWS, COLUMNS, COILS = 128, 60, 4
ALL = torch.ones(ROWS, COLUMNS, dtype=torch.bool)


def coloured(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise (coil, row, column) of unlike, correlated coils, and its true covariance."""
    rng = np.random.default_rng(seed)
    mix = np.diag([1.0, 2.0, 0.5, 1.0]) @ (
        np.eye(COILS) + 0.3 * rng.normal(size=(COILS, COILS, 2)) @ np.array([1, 1j])
    )
    white = rng.normal(size=(COILS, ROWS * COLUMNS, 2)) @ np.array([1, 1j])
    noise = torch.from_numpy((mix @ white).reshape(COILS, ROWS, COLUMNS))
    return noise, torch.from_numpy(2 * mix @ mix.conj().T)


def object_rows(share: float, strength: float, decay: float = 2.0) -> torch.Tensor:
    """Signal (coil, row, column) in the middle image rows, less in outer columns of k-space."""
    rng = np.random.default_rng(5)
    signal = np.zeros((COILS, ROWS, COLUMNS), complex)
    half = int(ROWS * share / 2)
    middle = slice(ROWS // 2 - half, ROWS // 2 + half)
    distance = np.abs(np.arange(COLUMNS) - COLUMNS // 2)
    random = rng.normal(size=(COILS, 2 * half, COLUMNS))
    signal[:, middle] = strength * 30 * random / (1 + distance) ** decay
    return torch.from_numpy(signal)


def distances() -> torch.Tensor:
    return (torch.arange(COLUMNS) - COLUMNS // 2).abs()


def level_of(covariance: torch.Tensor) -> float:
    return float(covariance.diagonal().real.mean() / 2) ** 0.5


def found_in_air(hybrid: torch.Tensor) -> Source:
    source = noise_of_air(hybrid, distances())
    assert source is not None
    return source


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6])
@pytest.mark.parametrize("strength", [3.0, 1000.0])
def test_level_and_covariance_are_recovered(share: float, strength: float) -> None:
    noise, truth = coloured()
    found = found_in_air(noise + object_rows(share, strength)).covariance
    error = torch.linalg.matrix_norm(found - truth) / torch.linalg.matrix_norm(truth)
    assert error < 0.08
    assert whitening(found).noise_level == pytest.approx(level_of(truth), rel=0.04)


@pytest.mark.parametrize("factor", [1e-7, 1e4])
def test_the_unit_of_k_space_does_not_matter(factor: float) -> None:
    noise, _ = coloured()
    data = fft((noise + object_rows(0.5, 50)).cfloat(), (1,))
    one, other = (whitening(find_noise(data * unit, ALL).covariance) for unit in (1.0, factor))
    assert other.noise_level == pytest.approx(factor * one.noise_level, rel=1e-3)
    torch.testing.assert_close(one.matrix, other.matrix, rtol=1e-2, atol=1e-3)


def receiver_gain(width: float) -> torch.Tensor:
    """Gain (row,) of a receiver filter along the readout; 1 in the middle."""
    rows = (torch.arange(ROWS, dtype=torch.float64) / ROWS - 0.5).abs() * 2
    return 1 / (1 + (rows / width) ** 16).sqrt()


def test_rows_at_the_edge_of_a_receiver_filter_do_not_count() -> None:
    noise, truth = coloured()
    hybrid = (noise + object_rows(0.4, 50)) * receiver_gain(0.8)[:, None]
    source = found_in_air(hybrid)
    assert source.level == pytest.approx(level_of(truth), rel=0.06)
    assert source.edge < 0.3
    notes = describe_noise(combine_sources([source]))
    assert "noise_filtered" in [note.code for note in notes]


def test_no_filter_is_found_in_white_noise() -> None:
    noise, _ = coloured()
    assert found_in_air(noise + object_rows(0.4, 50)).edge > 0.7


@pytest.mark.parametrize("column", [COLUMNS // 2, COLUMNS // 2 + 9, 3])
def test_spikes_do_not_raise_the_level(column: int) -> None:
    noise, truth = coloured()
    data = fft(noise + object_rows(0.5, 50), (1,))
    data[:, 17, column] += 1e4
    data[:, 90, 50] += 300
    level = whitening(find_noise(data, ALL).covariance).noise_level
    assert level == pytest.approx(level_of(truth), rel=0.05)


def test_outer_k_space_gives_the_level_where_the_object_fills_the_readout() -> None:
    noise, truth = coloured()
    rows = torch.arange(ROWS) - ROWS // 2
    decay = 1 / (1 + rows.abs()) ** 1.5
    signal = fft(object_rows(1.0, 3.0), (1,)) * decay[:, None] * 8
    found = find_noise(fft(noise, (1,)) + signal, ALL)
    assert whitening(found.covariance).noise_level == pytest.approx(level_of(truth), rel=0.15)


def test_a_noise_scan_comes_first_and_its_level_is_checked_against_air() -> None:
    noise, truth = coloured()
    scan, _ = coloured(1)
    data = fft(noise + object_rows(0.5, 50), (1,))
    found = find_noise(data, ALL, scan.flatten(1))
    assert found.source == NOISE_SCAN
    assert found.agree
    torch.testing.assert_close(found.covariance, noise_of_scan(scan.flatten(1)).covariance)
    other = find_noise(data, ALL, scan.flatten(1) * 3)  # as with another bandwidth
    assert not other.agree
    assert whitening(other.covariance).noise_level == pytest.approx(level_of(truth), rel=0.05)
    notes = {note.code: note for note in describe_noise(other)}
    assert notes["noise_disagrees"].assumed
    assert "task.noise_level" in notes["noise_disagrees"].text


def of_level(name: str, level: float, edge: float = 1.0, share: float = 1.0) -> Source:
    return Source(name, 2 * level**2 * torch.eye(2, dtype=torch.complex64), edge, share)


def combined(*sources: Source) -> Noise:
    return combine_sources(list(sources))


def test_a_noise_scan_of_another_scale_is_no_disagreement_of_the_scan_with_itself() -> None:
    air, outer = (Source(name, torch.eye(2)) for name in (AIR, OUTER))
    notes = describe_noise(combine_sources([air, outer, Source(NOISE_SCAN, 1e-4 * torch.eye(2))]))
    assert [note.code for note in notes] == ["noise_estimated", "noise_scan_rescaled"]
    assert not any(note.assumed for note in notes)


def test_air_with_more_power_than_outer_k_space_holds_signal() -> None:
    found = combined(of_level(AIR, 3.0), of_level(OUTER, 1.0))
    assert (found.source, list(found.levels)) == (OUTER, [OUTER])


@pytest.mark.parametrize(
    ("edge", "share", "source"), [(0.9, 0.95, OUTER), (0.3, 0.95, AIR), (0.9, 0.8, AIR)]
)
def test_air_with_a_little_signal_gives_way_to_outer_k_space_unless_a_filter_explains_it(
    edge: float, share: float, source: str
) -> None:
    found = combined(of_level(AIR, 1.2, edge=edge), of_level(OUTER, 1.0, share=share))
    assert (found.source, found.agree) == (source, True)


@pytest.mark.parametrize(
    ("air", "edge", "source", "agree"),
    [(1.1, 1.0, REPEATED, True), (5.0, 1.0, REPEATED, True), (1.1, 0.1, AIR, True),
     (0.5, 1.0, AIR, False)],
)  # fmt: skip
def test_differences_of_averages_come_before_air_unless_something_moved(
    air: float, edge: float, source: str, agree: bool
) -> None:
    found = combined(of_level(REPEATED, 1.0), of_level(AIR, air, edge=edge))
    assert (found.source, found.agree) == (source, agree)


def test_differences_of_averages_give_the_level_where_signal_is_everywhere(simulate: Any) -> None:
    full = simulate((64, 56), 4).kspace
    rng = np.random.default_rng(3)
    signal = full + 50 * (rng.normal(size=(*full.shape, 2)) @ np.array([1, 1j]))
    noise = rng.normal(size=(2, *full.shape, 2)) @ np.array([1, 1j])
    mean, apart = (torch.from_numpy(x).cfloat() for x in (
        signal + noise.mean(0), (noise[0] - noise[1]) / 2))  # fmt: skip
    found = find_noise(mean, torch.ones(64, 56, dtype=torch.bool), differences=apart)
    assert found.source == REPEATED
    assert whitening(found.covariance).noise_level == pytest.approx(0.5**0.5, rel=0.05)


def test_signal_in_outer_k_space_is_no_disagreement() -> None:
    found = combined(of_level(AIR, 1.0), of_level(OUTER, 3.0))
    assert (found.source, found.agree) == (AIR, True)


def test_air_at_the_edge_of_a_filter_alone_gives_way_to_outer_k_space() -> None:
    found = combined(of_level(AIR, 0.3, edge=0.1), of_level(OUTER, 1.0))
    assert (found.source, found.agree) == (OUTER, False)


def test_a_level_found_among_signal_is_stated_as_uncertain() -> None:
    found = combined(of_level(OUTER, 1.0, share=0.2))
    assert "noise_uncertain" in [note.code for note in describe_noise(found) if note.assumed]


def test_data_without_noise_have_no_level() -> None:
    with pytest.raises(ValueError, match="No place with noise"):
        find_noise(torch.zeros(2, ROWS, COLUMNS, dtype=torch.complex64), ALL)


def test_whitened_noise_is_white_and_keeps_its_mean_power() -> None:
    noise, truth = coloured()
    white = whitening(truth)
    mixed = white.apply(noise).flatten(1)
    covariance = mixed @ mixed.mH / mixed.shape[1] / (2 * white.noise_level**2)
    torch.testing.assert_close(
        covariance, torch.eye(COILS, dtype=covariance.dtype), atol=0.05, rtol=0
    )
    power = float(truth.diagonal().real.mean())
    assert 2 * white.noise_level**2 == pytest.approx(power, rel=1e-6)


def test_whitening_white_noise_changes_nothing() -> None:
    white = whitening(0.02 * torch.eye(3, dtype=torch.complex64))
    torch.testing.assert_close(white.matrix, torch.eye(3, dtype=torch.complex64))
    assert white.noise_level == pytest.approx(0.1)


def test_a_simulated_scan_gives_its_noise_level(scan: Any) -> None:
    level = 0.02
    data = torch.from_numpy(scan.noisy(level))
    found = find_noise(data, torch.ones(64, 56, dtype=torch.bool))
    assert whitening(found.covariance).noise_level == pytest.approx(level, rel=0.08)


def test_the_noise_of_a_partial_echo_comes_from_air(scan: Any) -> None:
    level, mask = 0.004, torch.ones(64, 56, dtype=torch.bool)
    mask[:20] = False
    found = find_noise(torch.from_numpy(scan.noisy(level)) * mask, mask)
    assert found.source == AIR
    assert whitening(found.covariance).noise_level == pytest.approx(level, rel=0.1)


def test_the_noise_of_a_volume_comes_from_slices_of_air(scan: Any, write: Any) -> None:
    rng = np.random.default_rng(0)
    mix = np.eye(4) + 0.3 * rng.normal(size=(4, 4))
    noise = rng.normal(size=(24, 4, 64, 56, 2)) @ np.array([1, 1j])
    volume = 0.01 * np.einsum("cd,sdyx->scyx", mix, noise)
    volume[5:19] += scan.kspace
    mask = rng.random((64, 56)) < 0.4
    mask[24:40, 20:36] = True
    with FastMri.open(write(kspace=(volume * mask).astype(np.complex64))) as opened:
        found = noise_of_slices(opened)
    assert found is not None
    truth = torch.from_numpy(2 * 0.01**2 * mix @ mix.T).cfloat()
    assert (found.covariance - truth).norm() < 0.1 * truth.norm()


def test_slices_with_whole_columns_need_no_slices_of_air(scan: Any, write: Any) -> None:
    with FastMri.open(write(kspace=np.stack([scan.noisy(0.01)] * 20))) as opened:
        assert noise_of_slices(opened) is None
