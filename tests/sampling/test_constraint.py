"""Nonnegative samples: nothing changes where the constraint is inactive, and data are kept."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from scipy.optimize import nnls

from tiltkit.likelihoods import GaussianLikelihood, PoissonLikelihood
from tiltkit.operators.compose import Pointwise
from tiltkit.operators.spectral import Dense
from tiltkit.priors.closed_form import Mixture
from tiltkit.problem import Constraint, Problem
from tiltkit.sampling.gaussian.projection import RIDGE, project_nonnegative
from tiltkit.sampling.run import Group
from tiltkit.sampling.samplers.almc import Almc, AlmcOptions
from tiltkit.sampling.samplers.moments import Moments, MomentsOptions
from tiltkit.sampling.samplers.twisted import Twisted, TwistedOptions
from tiltkit.sampling.samplers.walmc import Walmc, WalmcOptions
from tiltkit.sampling.target import Target

PIXELS = 24
SAMPLERS = {
    "walmc": Walmc(WalmcOptions(levels=12, collect=2)),
    "twisted": Twisted(TwistedOptions(levels=12, collect=2)),
    "almc": Almc(AlmcOptions(T=1.0, tau=0.02, reports=5, warm_steps=20, collect=1)),
}


def blur(width=1.5, data=PIXELS):
    i = torch.arange(PIXELS, dtype=torch.float64)
    distance = (i[:, None] - i).abs()
    kernel = torch.exp(-(torch.minimum(distance, PIXELS - distance) ** 2) / (2 * width**2))
    return (kernel / kernel.sum(1, keepdim=True))[:data]


def white(mean, variance):
    means = torch.full((1, 1, PIXELS), mean, dtype=torch.float64)
    return Mixture(means, variance, torch.ones(1, dtype=torch.float64), (0.01, 5.0))


def blurred(mean, variance, noise=0.05, seed=0, constraint=None):
    """Blurred white images, positive ones where the constraint says so, with noise."""
    g = torch.Generator().manual_seed(seed)
    x = mean + variance**0.5 * torch.randn(1, 1, PIXELS, generator=g, dtype=torch.float64)
    x = x.abs() if constraint else x
    operator = Dense(blur(), (1, PIXELS))
    ax = operator.forward(x)
    y = ax + noise * torch.randn(ax.shape, generator=g, dtype=torch.float64)
    likelihood = GaussianLikelihood(operator, y, noise**2)
    return Problem(white(mean, variance), likelihood, (1, PIXELS), constraint=constraint)


def finished(problem, sampler, n=4, seed=0):
    group = Group(Target(problem, n, n, dtype=torch.float64), sampler, (seed,), None)
    for _ in group.levels():
        pass
    return group


@pytest.mark.parametrize("name", SAMPLERS)
def test_an_inactive_constraint_changes_no_sample(name):
    free = blurred(2.0, 0.09)
    bound = replace(free, constraint=Constraint(nonnegative=True))
    with_it, without = (finished(problem, SAMPLERS[name]) for problem in (bound, free))
    assert bool((without.samples() > 0).all())
    assert torch.equal(with_it.samples(), without.samples())


def test_an_inactive_constraint_does_not_brighten_what_is_not_measured():
    mask = torch.zeros(1, PIXELS, dtype=torch.float64)
    mask[:, ::2] = 1
    likelihood = GaussianLikelihood(Pointwise(mask), mask[None], 0.25)
    problem = Problem(white(1.0, 0.04), likelihood, (1, PIXELS))
    for constraint in (None, Constraint(nonnegative=True)):
        group = finished(replace(problem, constraint=constraint), SAMPLERS["twisted"], n=64)
        assert float(group.samples()[..., 1::2].mean()) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("name", SAMPLERS)
def test_constrained_samples_are_nonnegative_and_fit_the_data_as_well_as_free_ones(name):
    problem = blurred(0.0, 1.0, constraint=Constraint(nonnegative=True))
    group = finished(problem, SAMPLERS[name], n=16)
    free, x = group.particles(), group.samples()
    assert float(free.min()) < -0.2
    assert float(x.min()) >= 0
    chi2 = problem.likelihood.chi2
    kept = float((chi2(x) - chi2(free)).mean())
    assert kept < 0.3
    assert float((chi2(free.clamp_min(0)) - chi2(free)).mean()) > 3 * kept + 1


def test_total_flux_is_kept_as_well_as_the_data_know_it():
    problem = blurred(0.0, 1.0, constraint=Constraint(nonnegative=True))
    flux, spread = float(problem.likelihood.y.sum()), 0.05 * PIXELS**0.5
    free = finished(problem, SAMPLERS["walmc"], n=64).particles()
    x = Target(problem, 64, 64, dtype=torch.float64).finish(free)
    assert float(x.sum((1, 2)).mean()) == pytest.approx(flux, abs=2 * spread)
    assert float(free.clamp_min(0).sum((1, 2)).mean()) > flux + 3 * spread


def test_the_projection_is_the_nearest_nonnegative_image_in_the_metric_of_the_data():
    g = torch.Generator().manual_seed(1)
    x = torch.randn(3, 1, PIXELS, generator=g, dtype=torch.float64)
    matrix = blur() / 0.05
    normal = matrix.T @ matrix
    largest = float(torch.linalg.eigvalsh(normal)[-1])
    z = project_nonnegative(x, lambda u: u @ normal, largest)
    for image, found in zip(x[:, 0], z[:, 0], strict=True):
        ridge = RIDGE / float(image[image < 0].square().mean())
        metric = normal + ridge * torch.eye(PIXELS, dtype=torch.float64)
        root = torch.linalg.cholesky(metric).T
        best = torch.from_numpy(nnls(root.numpy(), (root @ image).numpy())[0])

        def distance(z, image=image, root=root):
            return float((root @ (z - image)).square().sum())

        assert distance(found) == pytest.approx(distance(best), rel=0.02)


def test_a_projected_image_does_not_depend_on_its_neighbours():
    problem = blurred(0.0, 1.0, constraint=Constraint(nonnegative=True))
    x = torch.randn(5, 1, PIXELS, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    whole = Target(problem, 5, 5, dtype=torch.float64).finish(x)
    parts = Target(problem, 5, 2, dtype=torch.float64).finish(x)
    torch.testing.assert_close(whole, parts)


def test_values_outside_of_the_support_stay_zero():
    support = torch.ones(1, PIXELS, dtype=torch.bool)
    support[:, :5] = False
    constraint = Constraint(nonnegative=True, support=support)
    x = finished(blurred(0.0, 1.0, constraint=constraint), SAMPLERS["walmc"]).samples()
    assert bool((x[..., :5] == 0).all())
    assert float(x.min()) >= 0


def test_samples_of_counts_are_projected_with_the_gaussian_approximation():
    y = torch.poisson(torch.ones(1, PIXELS), generator=torch.Generator().manual_seed(0)).double()
    likelihood = PoissonLikelihood(Dense(blur(), (1, PIXELS)), y)
    problem = Problem(
        white(1.0, 4.0), likelihood, (1, PIXELS), constraint=Constraint(nonnegative=True)
    )
    x = finished(problem, Moments(MomentsOptions(levels=12)), n=16).samples()
    assert float(x.min()) >= 0
    assert float(x.sum((1, 2)).mean()) == pytest.approx(float(y.sum()), abs=2 * PIXELS**0.5)
