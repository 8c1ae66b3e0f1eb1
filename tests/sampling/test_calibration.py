"""Simulation-based calibration of the weighted samplers: benchmarks/sbc.py in small."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from torch import Tensor

from tiltkit.likelihoods import GaussianLikelihood
from tiltkit.operators.spectral import Dense
from tiltkit.priors.closed_form import Mixture
from tiltkit.problem import Problem
from tiltkit.sampling.particles.rng import ParticleRng
from tiltkit.sampling.run import run
from tiltkit.sampling.samplers.twisted import Twisted
from tiltkit.sampling.samplers.walmc import Walmc
from tiltkit.sampling.target import Target

PARTICLES, RANKED, NOISE = 32, 9, 0.8

MEANS = torch.tensor([[4, 0, 2, -3], [-4, 3, 0, 1], [0, -5, 3, 3], [2, 4, -4, 0], [-3, -3, -3, 4]])
PRIORS = {
    "gaussian": Mixture(torch.linspace(-1, 1, 4)[None], 0.5, torch.ones(1), (0.02, 30.0)),
    "mixture": Mixture(MEANS.float(), 1.0, torch.arange(1.0, 6.0) / 15, (0.02, 30.0)),
}


def draw_problem(prior: Mixture, seed: int) -> tuple[Problem, Tensor]:
    """A problem with a truth drawn from the prior, and the truth."""
    g = torch.Generator().manual_seed(seed)
    mean = prior.means[torch.multinomial(prior.weights, 1, generator=g)]
    truth = mean + prior.variance**0.5 * torch.randn(1, 4, generator=g)
    operator = Dense(torch.randn(2, 4, generator=g) / 2, (4,))
    y = operator.forward(truth) + NOISE * torch.randn(1, 2, generator=g)
    likelihood = GaussianLikelihood(operator, y, NOISE**2)
    return Problem(prior, likelihood, (4,), lambda x: x, torch.zeros(4)), truth


def functions(problem: Problem, x: Tensor) -> Tensor:
    """Test functions of images: first pixel, sum, norm, log-likelihood."""
    return torch.stack([x[:, 0], x.sum(1), x.norm(dim=1), -problem.likelihood.potential(x)])


def rank(prior: Mixture, kind: type, seed: int) -> Tensor:
    """Rank of the truth among a few random particles of a run, per test function."""
    problem, truth = draw_problem(prior, seed)
    target = Target(problem, PARTICLES, PARTICLES)
    sampler = kind(kind.Options(levels=24, collect=2))
    *_, (state, _) = run(target, sampler, ParticleRng([seed], PARTICLES, target.device))
    picked = torch.randperm(PARTICLES, generator=torch.Generator().manual_seed(seed))[:RANKED]
    values = functions(problem, sampler.images(target, state)[picked])
    return (values < functions(problem, truth)).sum(1)


# Ten ranks: at least five expected counts each.
@pytest.mark.parametrize("problems", [50, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", [Walmc, Twisted])
@pytest.mark.parametrize("prior", PRIORS)
def test_the_truth_is_as_likely_to_have_any_rank_among_posterior_samples(prior, kind, problems):
    ranks = torch.stack([rank(PRIORS[prior], kind, seed) for seed in range(problems)], 1)
    for of_function in ranks:
        counts = torch.bincount(of_function, minlength=RANKED + 1)
        assert stats.chisquare(counts.numpy()).pvalue > 0.001
