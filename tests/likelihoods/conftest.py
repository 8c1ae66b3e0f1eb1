"""Likelihoods of every kind, and small posteriors by numerical integration."""

from __future__ import annotations

import pytest
import torch

from tiltkit.likelihoods import (
    PoissonGaussianLikelihood,
    PoissonLikelihood,
    TransmissionPoissonLikelihood,
)
from tiltkit.operators.spectral import Dense

MAKERS = {
    "poisson": lambda a, y: PoissonLikelihood(a, y, 2.0, 0.3),
    "transmission": lambda a, y: TransmissionPoissonLikelihood(a, y, 20.0),
    "transmission with background": lambda a, y: TransmissionPoissonLikelihood(a, y, 20.0, 1.5),
    "camera": lambda a, y: PoissonGaussianLikelihood(a, y, 1.5, -2.0, 1.2, 0.2),
}


def dense(data: int, pixels: int, seed: int = 0) -> Dense:
    g = torch.Generator().manual_seed(seed)
    matrix = torch.rand(data, pixels, generator=g, dtype=torch.float64)
    return Dense(matrix, (pixels,))


def counts(data: int, seed: int = 0, scale: float = 4.0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.poisson(scale * torch.rand(1, data, generator=g, dtype=torch.float64), generator=g)


@pytest.fixture(params=MAKERS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param
