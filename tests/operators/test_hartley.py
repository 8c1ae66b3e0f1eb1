"""The Hartley transform against its definition."""

from __future__ import annotations

import math

import pytest
import torch

from tiltkit.operators.hartley import hartley


@pytest.mark.parametrize("shape", [(8,), (7,), (6, 5), (5, 8), (4, 3, 6), (3, 4, 5)])
def test_it_is_the_sum_of_cosines_and_sines(shape: tuple[int, ...]) -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.randn((2, *shape), generator=g, dtype=torch.float64)
    axes = tuple(range(-len(shape), 0))
    index = torch.cartesian_prod(*[torch.arange(n) for n in shape]).view(-1, len(shape)).double()
    phase = 2 * math.pi * (index / torch.tensor(shape)) @ index.T
    expected = x.flatten(1) @ (phase.cos() + phase.sin()) / math.prod(shape) ** 0.5
    got = hartley(x, axes)
    torch.testing.assert_close(got.flatten(1), expected)
    torch.testing.assert_close(hartley(got, axes), x)
