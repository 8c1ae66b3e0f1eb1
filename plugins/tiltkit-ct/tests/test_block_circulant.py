"""The block-circulant matrix that preconditions fan beams, on scans where it is nearly exact."""

from __future__ import annotations

import math

import pytest
import torch
from tiltkit_ct.block_circulant import block_circulant
from tiltkit_ct.fan import FanBeam
from torch import Tensor

N, N_ANGLES = 48, 16


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("source", [60.0, 1e8])
def test_for_an_even_scan_it_is_nearly_exact(source: float) -> None:
    angles = torch.arange(N_ANGLES, dtype=torch.float64) * 2 * math.pi / N_ANGLES
    operator = FanBeam(angles, (N, N), N, axis=27.0, source_distance=source, detector_distance=9.0)
    circulant = block_circulant(operator)
    y = operator.forward(noise(3, 1, N, N))
    there = operator.forward(operator.adjoint(y))
    assert (circulant.apply(y, circulant.values) - there).norm() < 0.2 * there.norm()
    torch.testing.assert_close(circulant.apply(y, torch.ones_like(circulant.values)), y)
