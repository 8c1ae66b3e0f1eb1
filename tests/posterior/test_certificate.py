"""What a run reports about itself, where the right answer is known."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from tiltkit.likelihoods import GaussianLikelihood
from tiltkit.operators.spectral import Dense
from tiltkit.posterior.certificate import data_fit, ladder_report, training_distance_report
from tiltkit.posterior.level import REMOVED, Info
from tiltkit.posterior.warnings import find_warnings
from tiltkit.priors.closed_form import Mixture
from tiltkit.sampling.particles.rng import ParticleRng
from tiltkit.sampling.run import run
from tiltkit.sampling.samplers.walmc import Walmc, WalmcOptions
from tiltkit.sampling.target import Target
from tiltkit.testing.known import make_known

PIXELS, DATA = 30, 20


def known(seed=0):
    mean = torch.zeros(1, PIXELS, dtype=torch.float64)
    return make_known(mean, 1.0, data=DATA, noise=0.5, seed=seed, sigma_range=(0.01, 20.0))


def fit(case, n=200):
    """Chi2 report of exact posterior samples."""
    g = torch.Generator().manual_seed(9)
    xi = torch.randn(n, PIXELS, generator=g, dtype=torch.float64)
    x = case.means[0] + xi @ torch.linalg.cholesky(case.covariance).T
    return data_fit(case.problem.likelihood, case.means[0], x, chunk=64, independent=n)


def test_exact_posterior_samples_have_the_expected_chi2_on_average():
    reports = [fit(known(seed)) for seed in range(60)]

    def mean(name):
        return sum(report[name] for report in reports) / len(reports)

    assert mean("chi2") == pytest.approx(mean("chi2_expected"), rel=0.1)


def test_the_chi2_of_the_posterior_mean_has_its_own_smaller_expectation():
    reports = [fit(known(seed)) for seed in range(60)]
    mean = sum(report["chi2_mean"] for report in reports) / 60
    expected = sum(report["chi2_mean_expected"] for report in reports) / 60
    assert mean == pytest.approx(expected, rel=0.1)
    assert expected < 0.9


@pytest.mark.parametrize("n", [4, 64])
def test_the_chi2_of_exact_samples_scatters_as_its_chance_scatter_says(n):
    reports = [fit(known(seed), n) for seed in range(100)]
    found = torch.tensor([report["chi2"] for report in reports]).std()
    stated = sum(report["chi2_scatter"] for report in reports) / 100
    # The bound takes all measured values to scatter as if they were not fitted.
    assert 0.5 * stated < found < 1.15 * stated


def finished(**options):
    case, n = known(), 12
    sampler = Walmc(WalmcOptions.model_validate({"levels": 12, "collect": 1} | options))
    target = Target(case.problem, n, 5, dtype=torch.float64)
    steps = list(run(target, sampler, ParticleRng([0], n, target.device)))
    return target, sampler, steps[-1][0], [info for _, info in steps]


def test_the_ladder_report_has_one_value_per_level_and_no_collecting_rounds():
    infos = finished(collect=3)[3]
    report = ladder_report(infos, 12, weighted=True)
    for name in ("noise_level", "ess", "weight_power"):
        assert len(report[name]) == report["levels"] == 12
    assert report["ess_min"] == min(report["ess"])
    assert report["ess_share_min"] == pytest.approx(report["ess_min"] / 12)
    assert not set(REMOVED) & set(report), "figures that are no bounds are not reported"
    assert 0 <= report["weighted_levels"] <= 12


def test_a_sampler_without_weights_reports_no_effective_sample_size():
    report = ladder_report([Info(noise_level=1.0, ess=5.0)], 5, weighted=False)
    assert set(report) == {"noise_level"}


def test_likelihoods_without_a_linear_model_get_no_expectation_for_the_mean():
    case = known()

    class Other:
        def chi2(self, x):
            return torch.ones(len(x)).double()

    object.__setattr__(case.problem, "likelihood", Other())
    report = fit(case)
    assert report["chi2"] == 1
    assert "chi2_mean_expected" not in report


def test_the_measured_components_of_complex_data_count_twice():
    dense = Dense(torch.eye(3), (3,))
    assert GaussianLikelihood(dense, torch.ones(1, 3), 1.0).measured == 3
    assert GaussianLikelihood(dense, torch.ones(1, 3, dtype=torch.complex64), 1.0).measured == 6


@dataclass(frozen=True)
class TrainingDistance(Mixture):
    """A prior that knows images by their brightest pixel."""

    def training_distance(self, images):
        return images.amax(1)


def test_samples_far_from_the_training_images_raise_a_warning():
    problem = known().problem
    samples = torch.full((8, PIXELS), 1.5, dtype=torch.float64)
    assert training_distance_report(problem.prior, samples) == {}, (
        "nothing where the prior cannot tell"
    )
    m = problem.prior
    prior = TrainingDistance(m.means, m.variance, m.weights, m.sigma_range)
    report = training_distance_report(prior, samples)
    assert report == {"prior_distance": 1.5}
    assert [one.code for one in find_warnings(report)] == ["far_from_training"]
