"""Equal seeds give equal samples, whatever the chunks and the threads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from tiltkit.likelihoods import GaussianLikelihood
from tiltkit.operators.hartley import frequencies, hartley
from tiltkit.operators.spectral import Diagonalised
from tiltkit.priors.denoiser import NetworkOptions, prior_of
from tiltkit.priors.network import ScoreUNet
from tiltkit.problem import Problem
from tiltkit.sampling.particles.rng import ParticleRng
from tiltkit.sampling.run import run
from tiltkit.sampling.samplers.twisted import Twisted
from tiltkit.sampling.samplers.walmc import Walmc
from tiltkit.sampling.target import Target
from tiltkit.testing.known import Plain

N, SIDE = 6, 32


class Blur(Diagonalised):
    """A circular blur, in Hartley coordinates."""

    def __init__(self) -> None:
        self.frequency = frequencies((SIDE, SIDE))
        self.gain = torch.exp(-20 * self.frequency.square())
        self.eigenvalues = self.gain.square()

    def to_spectral(self, x: torch.Tensor) -> torch.Tensor:
        return hartley(x, (-2, -1))

    from_spectral = to_spectral

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return hartley(self.gain * hartley(x, (-2, -1)), (-2, -1))

    adjoint = forward


@dataclass
class Run:
    """Samples of one run, with its number of resamplings."""

    images: torch.Tensor
    resampled: int


def sampled(kind: Any, operator: Any, chunk: int = N, threads: int = 1) -> Run:
    g = torch.Generator().manual_seed(0)
    network = ScoreUNet(1, (8, 16), (1, 1)).eval().requires_grad_(False)
    for parameter in network.parameters():
        parameter.data = 0.05 * torch.randn(parameter.shape, generator=g)
    truth, noise = torch.randn(2, 1, 1, SIDE, SIDE, generator=g)
    y = Blur().forward(0.3 * truth) + 0.05 * noise
    prior = prior_of(network, {}, NetworkOptions(precision="float32"))
    likelihood = GaussianLikelihood(operator, y, 0.05**2)
    target = Target(Problem(prior, likelihood, (1, SIDE, SIDE), lambda x: x, y[0]), N, chunk)
    sampler = kind(kind.Options(levels=8, collect=1, min_ess=0.0, most_shared_ancestry=1.0))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        steps = list(run(target, sampler, ParticleRng([3], N, target.device)))
    finally:
        torch.set_num_threads(before)
    images = sampler.images(target, steps[-1][0])
    return Run(images, sum(info.resampled for _, info in steps))


@pytest.mark.parametrize("kind", [Twisted, Walmc])
@pytest.mark.parametrize(
    ("operator", "tolerance"),
    # Rounding decides at which iteration a solve stops: the error that it may leave is 0.01.
    [pytest.param(Blur(), 1e-3, id="diagonal"), pytest.param(Plain(Blur()), 0.05, id="iterative")],
)
def test_chunks_and_threads_change_samples_by_rounding_alone(
    kind: Any, operator: Any, tolerance: float
) -> None:
    first = sampled(kind, operator)
    assert first.resampled > 0
    assert torch.equal(sampled(kind, operator).images, first.images)
    scale = float(first.images.std())
    for chunk, threads in ((4, 1), (1, 1), (N, 3)):
        again = sampled(kind, operator, chunk, threads)
        assert again.resampled == first.resampled
        torch.testing.assert_close(again.images, first.images, rtol=0, atol=tolerance * scale)
