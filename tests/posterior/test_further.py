"""The spread of a phase: no wrapping, nothing in air."""

from __future__ import annotations

import math

import pytest
import torch

from tiltkit.posterior.further import phase_std


def noise(n: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 400, dtype=torch.complex64, generator=generator) * 2**0.5


@pytest.mark.parametrize("angle", [0.0, math.pi / 3, math.pi, -3.1])
def test_a_strong_signal_has_the_spread_of_one_component_over_its_magnitude(angle: float) -> None:
    mean = torch.full((400,), 5 * complex(math.cos(angle), math.sin(angle)))
    std = phase_std(mean + 0.2 * noise(40), mean)
    assert float(std.square().mean().sqrt()) == pytest.approx(0.2 / 5, rel=0.03)


def test_the_phase_of_air_has_no_spread() -> None:
    samples = noise(40)
    assert phase_std(samples, samples.mean(0)).isnan().all()


def test_the_phase_of_a_single_sample_has_no_spread() -> None:
    mean = torch.ones(400, dtype=torch.complex64)
    assert phase_std(mean[None], mean).isnan().all()
