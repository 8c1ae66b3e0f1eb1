"""Virtual coils of scans with many coils."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tiltkit_mri.compression import ENERGY_KEPT, FEWEST_COMPRESSED, virtual_coils


def calibration(simulate: Any, n_coils: int, noise: float = 0.0) -> torch.Tensor:
    kspace = simulate((64, 56), n_coils=n_coils).noisy(noise)
    return torch.from_numpy(kspace[:, 20:44, 16:40])


def test_few_virtual_coils_hold_nearly_all_of_the_energy_of_many(simulate: Any) -> None:
    block = calibration(simulate, 64)
    mix, kept = virtual_coils(block)
    assert len(mix) < 32
    assert kept >= ENERGY_KEPT
    virtual = torch.einsum("vc,cyx->vyx", mix, block)
    share = float(virtual.abs().square().sum() / block.abs().square().sum())
    assert share == pytest.approx(kept, rel=1e-6)


def test_white_noise_stays_white(simulate: Any) -> None:
    mix, _ = virtual_coils(calibration(simulate, 64))
    assert torch.allclose(mix @ mix.mH, torch.eye(len(mix), dtype=mix.dtype), atol=1e-10)


def test_few_coils_are_used_as_they_are(simulate: Any) -> None:
    mix, kept = virtual_coils(calibration(simulate, FEWEST_COMPRESSED))
    assert torch.equal(mix, torch.eye(FEWEST_COMPRESSED, dtype=mix.dtype))
    assert kept == 1


def test_a_number_of_virtual_coils_can_be_asked_for(simulate: Any) -> None:
    mix, kept = virtual_coils(calibration(simulate, 8), 3)
    assert mix.shape == (3, 8)
    assert 0.9 < kept < 1


def test_the_image_of_64_coils_is_that_of_their_virtual_coils(simulate: Any) -> None:
    scan = simulate((64, 56), n_coils=64)
    mix, _ = virtual_coils(calibration(simulate, 64))
    coils = np.einsum("vc,cyx->vyx", mix.numpy(), scan.maps)
    maps = np.sqrt((np.abs(coils) ** 2).sum(0))[scan.inside]
    # Where the virtual coils hold the energy of a pixel, they see it as well as all coils.
    assert np.median(maps) > 0.99
