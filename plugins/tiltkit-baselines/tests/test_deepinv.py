"""deepinv's samplers on problems of tiltkit: near the exact posterior, without deepinv's traps."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from tiltkit_baselines.deepinv import Ddrm, DiffPir, Dps, Ula
from tiltkit_baselines.scaled import Scaled

from tiltkit.errors import TiltkitError, UsageError
from tiltkit.priors.denoiser import DenoiserPrior
from tiltkit.priors.network import ScoreUNet
from tiltkit.recon.solve import solve
from tiltkit.sampling.particles.rng import ParticleRng
from tiltkit.sampling.run import run
from tiltkit.sampling.target import Target
from tiltkit.testing.known import make_known

pytest.importorskip("deepinv.sampling")

KINDS = {"dps": Dps, "diffpir": DiffPir, "ddrm": Ddrm, "ula": Ula}
ALL = pytest.mark.parametrize("kind", list(KINDS))


def known(*, plain=False, dim=16):
    """Values around 0.3 to 0.7, of which half as many blends are measured."""
    mean = torch.linspace(0.3, 0.7, dim, dtype=torch.float64)[None]
    return make_known(
        mean, 0.1**2, data=dim // 2, noise=0.05, seed=3, sigma_range=(0.002, 50.0), plain=plain
    )


def make(kind, **options):
    return KINDS[kind](KINDS[kind].Options.model_validate(options))


def finished(case, sampler, *, n=3, chunk=None, seed=0, dtype=torch.float64):
    target = Target(case.problem, n, chunk or n, dtype=dtype)
    *_, (state, info) = run(target, sampler, ParticleRng([seed], n, target.device))
    assert info.final
    return sampler.images(target, state), target


# Mean: root mean square distance in posterior standard deviations, of which 0.2 is chance with 24
# samples. Spread over the exact one: as measured for deepinv 0.5 (shared/anchors.md agrees).
@pytest.mark.parametrize(
    ("kind", "options", "off", "spread"),
    [
        ("dps", {"guidance": "annealed", "steps": 100}, 0.5, (0.7, 1.2)),
        ("diffpir", {}, 0.5, (0.8, 1.2)),
        ("ddrm", {}, 0.4, (0.45, 0.7)),
        ("ula", {"sigma": 0.02, "steps": 300}, 0.5, (0.8, 1.4)),
    ],
)
def test_the_mean_is_near_the_exact_posterior_mean(kind, options, off, spread):
    case = known()
    x, _ = finished(case, make(kind, low=0, high=1, **options), n=24)
    std = case.covariance.diagonal().sqrt()
    distance = ((x.mean(0) - case.means[0]) / std).square().mean().sqrt()
    assert distance < off
    assert spread[0] < (x.std(0) / std).mean() < spread[1]


@ALL
def test_the_image_range_is_mapped_and_undone(kind):
    """The same problem in other units: all values doubled and shifted by -1."""
    case = known()
    prior, likelihood = case.problem.prior, case.problem.likelihood
    ones = torch.ones(1, 16, dtype=torch.float64)
    y = 2 * likelihood.y - likelihood.operator.forward(ones)
    moved = replace(prior, means=2 * prior.means - 1, variance=4 * prior.variance)
    moved = replace(moved, sigma_range=tuple(2 * s for s in prior.sigma_range))
    other = replace(likelihood, y=y, noise_var=4 * likelihood.noise_var)
    twin = replace(case, problem=replace(case.problem, prior=moved, likelihood=other))
    options = {"steps": 20} | ({"sigma": 0.02} if kind == "ula" else {})
    x, _ = finished(case, make(kind, low=0, high=1, **options), n=2)
    z, _ = finished(twin, make(kind, low=-1, high=1, **options), n=2)
    assert torch.allclose(z, 2 * x - 1, atol=1e-3)


@ALL
def test_the_same_seed_gives_the_same_samples_for_any_chunk_size_and_batch(kind):
    sampler, case = make(kind, steps=8), known()
    whole, _ = finished(case, sampler)
    assert torch.equal(finished(case, sampler, chunk=1)[0], whole)
    assert not torch.allclose(whole[0], whole[1])
    assert not torch.allclose(finished(case, sampler, seed=1)[0], whole)


@ALL
def test_the_global_random_state_is_left_alone(kind):
    before = torch.random.get_rng_state()
    finished(known(), make(kind, steps=5), n=1)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("kind", "calls"), [("dps", 9), ("diffpir", 10), ("ddrm", 10), ("ula", 10)]
)
def test_network_calls_are_counted_per_sample(kind, calls):
    _, target = finished(known(), make(kind, steps=10))
    assert target.network_calls == pytest.approx(calls)


@pytest.mark.parametrize("kind", ["dps", "diffpir", "ula"])
def test_operators_without_a_spectrum_are_supported(kind):
    case = known(plain=True)
    operator = case.problem.likelihood.operator
    dense = known().problem.likelihood.operator
    operator.solve = dense.solve
    x, _ = finished(case, make(kind, steps=5), n=1)
    assert torch.isfinite(x).all()


def test_ddrm_without_a_diagonalised_operator_is_an_error():
    with pytest.raises(UsageError, match="DDRM needs a diagonalised operator") as caught:
        finished(known(plain=True), make("ddrm"))
    assert "baselines.diffpir" in caught.value.hint


def complex_problem():
    """Complex images through a masked, unitary Fourier transform."""
    mask = torch.zeros(6, 6)
    mask[::2] = 1.0

    class Fourier:
        eigenvalues = mask

        def to_spectral(self, x):
            c = torch.view_as_complex(x.movedim(1, -1).contiguous())
            return torch.fft.fft2(c, norm="ortho")

        def from_spectral(self, c):
            return torch.view_as_real(torch.fft.ifft2(c, norm="ortho")).movedim(-1, 1)

        def spectral_white(self, xi):
            return self.to_spectral(xi)

        def forward(self, x):
            return mask * self.to_spectral(x)

        def adjoint(self, y):
            return self.from_spectral(mask * y)

        def normal(self, x):
            return self.adjoint(self.forward(x))

        def solve(self, alpha, beta, b):
            return self.from_spectral(self.to_spectral(b) / (alpha + beta * mask))

    case = known()
    g = torch.Generator().manual_seed(0)
    means = 0.3 * torch.randn(3, 2, 6, 6, generator=g)
    prior = replace(
        case.problem.prior, means=means, variance=0.01, weights=torch.ones(3),
        sigma_range=(0.01, 5.0),
    )  # fmt: skip
    operator = Fourier()
    y = operator.forward(means[:1])
    likelihood = replace(case.problem.likelihood, operator=operator, y=y, noise_var=0.02**2)
    problem = replace(case.problem, prior=prior, likelihood=likelihood, shape=(2, 6, 6))
    return replace(case, problem=problem)


@ALL
def test_complex_images_and_data_come_out_near_the_truth(kind):
    case = complex_problem()
    options = {"steps": 60} | ({"guidance": "annealed"} if kind == "dps" else {})
    x, _ = finished(case, make(kind, **options), n=2, dtype=torch.float32)
    truth = case.problem.prior.means[0]
    assert (x - truth).square().mean().sqrt() < 0.75 * truth.std()
    assert case.problem.likelihood.chi2(x).mean() < 30


def test_beyond_the_noise_range_of_the_prior_the_nearest_level_is_used():
    case = known()
    object.__setattr__(case.problem.prior, "sigma_range", (0.01, 5.0))
    target = Target(case.problem, 1, 1, dtype=torch.float64)
    scaled = Scaled(target, case.problem.likelihood, 0.0, 1.0)
    g = torch.Generator().manual_seed(0)
    noise = torch.randn(1, 16, generator=g, dtype=torch.float64)
    mean = case.problem.prior.means
    assert torch.allclose(scaled.denoised(mean + 100 * noise, 100.0), mean, atol=0.05)
    assert torch.allclose(scaled.denoised(mean, 0.0), mean, atol=0.01)


def network_problem(denoise):
    case = complex_problem()
    prior = DenoiserPrior(denoise, 2, (0.01, 5.0), "")
    return replace(case, problem=replace(case.problem, prior=prior))


def test_dps_differentiates_through_the_network_as_it_is_loaded():
    from tiltkit.priors.denoiser import _inference

    network = ScoreUNet(widths=(8, 8), blocks=(1, 1)).eval().requires_grad_(requires_grad=False)
    denoise = _inference(network, torch.device("cpu"), low_precision=False)
    case = network_problem(denoise)
    x, _ = finished(case, make("dps", steps=4), n=1, dtype=torch.float32)
    assert torch.isfinite(x).all()


def test_dps_with_a_prior_without_gradients_is_an_error():
    case = network_problem(lambda x, sigma: x.detach())
    with pytest.raises(TiltkitError, match="DPS differentiates through the prior"):
        finished(case, make("dps"), n=1, dtype=torch.float32)


def test_a_likelihood_that_is_not_gaussian_is_an_error():
    case = known()
    with pytest.raises(UsageError, match="Gaussian likelihood, not object"):
        finished(replace(case, problem=replace(case.problem, likelihood=object())), make("ula"))


def test_an_empty_image_range_is_refused():
    with pytest.raises(UsageError, match="range 1 to 1 is empty"):
        make("ddrm", low=1.0)


@ALL
def test_the_certificate_holds_and_has_no_fisher_divergence(kind):
    steps = solve(
        [complex_problem().problem],
        make(kind, steps=6),
        seed=(0,),
        n=2,
        devices=[torch.device("cpu")],
    )
    *_, outcome = steps
    report = outcome.diagnostics
    assert "fisher" not in report
    assert report["independent_samples"] == pytest.approx(2)
    assert report["chi2"] > 0
    assert isinstance(report["warnings"], tuple)


def test_the_module_is_imported_without_deepinv():
    code = "import sys, tiltkit_baselines.deepinv; assert 'deepinv' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
