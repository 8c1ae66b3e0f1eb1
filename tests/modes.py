"""Two separate images that fit the data equally well: shares of explanations are known."""

from __future__ import annotations

import pytest
import torch

from tiltkit.likelihoods import GaussianLikelihood
from tiltkit.operators.compose import Pointwise
from tiltkit.priors.closed_form import Mixture
from tiltkit.problem import Problem


@pytest.fixture
def two_modes() -> Problem:
    """A prior of two images, and data between them."""
    means = torch.zeros(2, 1, 4, 4)
    means[0, :, :, 0], means[1, :, :, 1] = 1.0, 1.0
    prior = Mixture(means, 0.05**2, torch.ones(2), (0.01, 10.0))
    y = means.mean(0, keepdim=True)
    return Problem(prior, GaussianLikelihood(Pointwise(torch.ones(1, 4, 4)), y, 1.0), (1, 4, 4))
