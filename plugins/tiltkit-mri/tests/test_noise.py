"""The noise estimate: right where there is air, too high where there is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tiltkit_mri.fourier import ifft
from tiltkit_mri.noise import estimate_covariance, whitening

ROWS, COLUMNS, COILS = 128, 60, 4


def coloured(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise (coil, row, column) of unlike, correlated coils, and its true covariance."""
    rng = np.random.default_rng(seed)
    mix = np.diag([1.0, 2.0, 0.5, 1.0]) @ (
        np.eye(COILS) + 0.3 * rng.normal(size=(COILS, COILS, 2)) @ np.array([1, 1j])
    )
    white = rng.normal(size=(COILS, ROWS * COLUMNS, 2)) @ np.array([1, 1j])
    noise = torch.from_numpy((mix @ white).reshape(COILS, ROWS, COLUMNS))
    return noise, torch.from_numpy(2 * mix @ mix.conj().T)


def object_rows(share: float, strength: float) -> torch.Tensor:
    """Signal in the middle rows, ``share`` of all."""
    rng = np.random.default_rng(5)
    signal = np.zeros((COILS, ROWS, COLUMNS), complex)
    half = int(ROWS * share / 2)
    middle = slice(ROWS // 2 - half, ROWS // 2 + half)
    signal[:, middle] = strength * rng.normal(size=(COILS, 2 * half, COLUMNS))
    return torch.from_numpy(signal)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6])
@pytest.mark.parametrize("strength", [3.0, 1000.0])
def test_level_and_covariance_are_recovered(share: float, strength: float) -> None:
    noise, truth = coloured()
    found = estimate_covariance(noise + object_rows(share, strength))
    error = torch.linalg.matrix_norm(found - truth) / torch.linalg.matrix_norm(truth)
    assert error < 0.06
    level = whitening(found).noise_level
    assert level == pytest.approx(float(truth.diagonal().real.mean() / 2) ** 0.5, rel=0.03)


@pytest.mark.parametrize("factor", [1e-7, 1e4])
def test_the_unit_of_k_space_does_not_matter(factor: float) -> None:
    noise, _ = coloured()
    hybrid = (noise + object_rows(0.5, 50)).cfloat()
    one, other = (
        whitening(estimate_covariance(hybrid)),
        whitening(estimate_covariance(hybrid * factor)),
    )
    assert other.noise_level == pytest.approx(factor * one.noise_level, rel=1e-3)
    torch.testing.assert_close(one.matrix, other.matrix, rtol=1e-2, atol=1e-3)


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


def test_an_object_that_fills_the_field_of_view_makes_the_estimate_too_high() -> None:
    noise, truth = coloured()
    found = estimate_covariance(noise + object_rows(1.0, 3.0))
    assert whitening(found).noise_level > float(truth.diagonal().real.mean() / 2) ** 0.5


def test_a_simulated_scan_gives_its_noise_level(scan: Any) -> None:
    level = 0.02
    hybrid = ifft(torch.from_numpy(scan.noisy(level)), (1,))
    outer = torch.cat([hybrid[..., :14], hybrid[..., 42:]], dim=2)
    assert whitening(estimate_covariance(outer)).noise_level == pytest.approx(level, rel=0.08)
