"""The residual ratio: near 1 where the prior is right, large where its variance is too small."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tiltkit.posterior.certificate import ladder_report
from tiltkit.posterior.level import Info
from tiltkit.posterior.warnings import find_warnings
from tiltkit.priors.closed_form import Mixture
from tiltkit.sampling.particles.rng import ParticleRng
from tiltkit.sampling.run import run
from tiltkit.sampling.samplers.twisted import Twisted, TwistedOptions
from tiltkit.sampling.target import Target
from tiltkit.testing.known import make_known

PIXELS, N = 600, 8


def infos(variance, *, plain=False):
    """Reports of a run whose prior has a pixel variance of ``variance``; the truth has 1."""
    range_ = (0.02, 20.0)
    known = make_known(
        torch.zeros(1, PIXELS), 1.0, data=300, noise=0.3, seed=0, sigma_range=range_, plain=plain
    )
    prior = Mixture(torch.zeros(1, PIXELS), variance, torch.ones(1), range_)
    target = Target(replace(known.problem, prior=prior), N, N)
    sampler = Twisted(TwistedOptions(levels=96, collect=1))
    return [info for _, info in run(target, sampler, ParticleRng([0], N, target.device))]


def reliable(levels):
    return [info.residual_ratio for info in levels if info.dof > 200]


@pytest.mark.parametrize("plain", [False, True], ids=["spectral", "conjugate gradients"])
def test_the_residual_ratio_is_near_one_for_data_of_the_prior(plain):
    found = reliable(infos(1.0, plain=plain))
    assert len(found) > 5
    assert max(found) < 1.2
    assert min(found) > 0.9


@pytest.mark.parametrize("plain", [False, True], ids=["spectral", "conjugate gradients"])
def test_a_prior_with_too_small_a_variance_has_a_large_residual_ratio(plain):
    assert max(reliable(infos(0.2, plain=plain))) > 1.5


def test_only_levels_with_many_degrees_of_freedom_count():
    levels = [
        Info(noise_level=2.0, ess=2, residual_ratio=9.0, dof=3.0, dof_fraction=0.1),
        Info(noise_level=1.5, ess=2, residual_ratio=4.0, dof=2000.0, dof_fraction=0.001),
        Info(noise_level=1.0, ess=2, residual_ratio=1.5, dof=5000.0, dof_fraction=0.1),
    ]
    report = ladder_report(levels, 2, weighted=True)
    assert report["residual_ratio"] == [9.0, 4.0, 1.5]
    assert report["residual_ratio_max"] == 1.5
    assert "residual_ratio_high" in [warning.code for warning in find_warnings(report)]
    assert "residual_ratio_max" not in ladder_report(levels[:2], 2, weighted=True)
    assert "residual_ratio" not in ladder_report([Info(noise_level=1.0, ess=2)], 2, weighted=True)
