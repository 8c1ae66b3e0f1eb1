"""Scores that are exact in algebra are so in single precision, too."""

from __future__ import annotations

import pytest
import torch

from tiltkit.priors.closed_form import Mixture


@pytest.mark.parametrize("offset", [0.0, 100.0, 1000.0])
def test_an_offset_of_all_images_costs_no_digits(offset: float) -> None:
    """Counts and Hounsfield units are far from 0, and what differs between images is small."""
    g = torch.Generator().manual_seed(0)
    means = 0.05 * torch.randn(4, 1, 32, 32, generator=g, dtype=torch.float64)
    x = means[:1] + 0.1 * torch.randn(2, 1, 32, 32, generator=g, dtype=torch.float64)
    weights = torch.ones(4, dtype=torch.float64)
    exact = Mixture(means, 0.01, weights, (0.01, 5.0)).score(x, 0.3)
    shifted = Mixture((means + offset).float(), 0.01, weights.float(), (0.01, 5.0))
    found = shifted.score((x + offset).float(), 0.3)
    # What is left is the rounding of the images themselves.
    assert float((found - exact).norm() / exact.norm()) < 1e-5 + 1e-6 * offset
