"""Gaussian conditioning, diagonal and iterative, against dense formulas."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import MultivariateNormal

from tiltkit.likelihoods import GaussianLikelihood
from tiltkit.operators.spectral import Dense
from tiltkit.priors.closed_form import SmoothGaussian
from tiltkit.problem import Problem
from tiltkit.sampling.gaussian.conditioning import Step
from tiltkit.sampling.gaussian.diagonal import DiagonalConditioning
from tiltkit.sampling.gaussian.iterative import IterativeConditioning
from tiltkit.sampling.particles.rng import ParticleRng
from tiltkit.sampling.target import Target
from tiltkit.testing.known import Plain

PIXELS, DATA, NOISE_VAR = 6, 4, 0.09
ALL = pytest.mark.parametrize("kind", ["spectral", "solve", "preconditioned"])
CPU = torch.device("cpu")
EYE = torch.eye(PIXELS, dtype=torch.float64)


def matrix():
    g = torch.Generator().manual_seed(0)
    return torch.randn(DATA, PIXELS, generator=g, dtype=torch.float64)


Y = torch.tensor([[1.0, -0.5, 2.0, 0.3]], dtype=torch.float64)


class Preconditioned(Plain):
    """A plain operator with an approximate preconditioner for ``A A^H``."""

    def __init__(self, dense):
        super().__init__(dense)
        self._rough = dense.matrix @ dense.matrix.T + 0.3 * torch.eye(DATA).to(dense.matrix)

    def data_preconditioner(self, variance, c):
        inverse = torch.linalg.inv(variance[0].diag() + c * self._rough)
        return lambda r: r @ inverse


def make(kind, dtype=torch.float64):
    dense = Dense(matrix().to(dtype), (PIXELS,))
    operator = {"spectral": lambda d: d, "solve": Plain, "preconditioned": Preconditioned}[kind]
    likelihood = GaussianLikelihood(operator(dense), Y.to(dtype), NOISE_VAR)
    if kind == "spectral":
        return DiagonalConditioning(likelihood, (PIXELS,), dtype)
    return IterativeConditioning(
        likelihood, (PIXELS,), dtype, potential_error=1e-12, sample_error=1e-6
    )


@pytest.mark.parametrize(
    ("wrap", "algebra"), [(lambda d: d, DiagonalConditioning), (Plain, IterativeConditioning)]
)
def test_a_diagonalised_operator_needs_no_solves(wrap, algebra):
    operator = wrap(Dense(matrix(), (PIXELS,)))
    likelihood = GaussianLikelihood(operator, Y, NOISE_VAR)
    prior = SmoothGaussian(0.3, 2.0, 3.0, channels=0)
    problem = Problem(prior, likelihood, (PIXELS,), lambda x: x, Y)
    assert isinstance(Target(problem, 1, 1, dtype=torch.float64).conditioning, algebra)


def spread(s):
    """Covariance of the data around ``A x`` in the potential of level ``s``."""
    a = matrix()
    return NOISE_VAR * torch.eye(DATA, dtype=torch.float64) + s**2 * a @ a.T


def conditioned(mean, covariance, s):
    """Mean and covariance of a Gaussian times the exponential of minus the potential."""
    a = matrix()
    gain = covariance @ a.T @ torch.linalg.inv(a @ covariance @ a.T + spread(s))
    return mean + gain @ (Y[0] - a @ mean), covariance - gain @ a @ covariance


def assert_law(x, mean, covariance):
    n, std = len(x), covariance.diagonal().sqrt()
    assert ((x.mean(0) - mean) / std).abs().max() < 5 / n**0.5
    error = (x.T.cov() - covariance) / torch.outer(std, std)
    assert error.abs().max() < 5 * (2 / n) ** 0.5


@ALL
@pytest.mark.parametrize("s", [0.0, 0.7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_potentials_are_those_of_the_marginal_of_the_data(kind, s, dtype):
    conditioning = make(kind, dtype)
    x = torch.randn(8, PIXELS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    got = conditioning.potential(conditioning.coordinates(x.to(dtype)), s)
    expected = -MultivariateNormal(x @ matrix().T, spread(s)).log_prob(Y[0])
    assert got.dtype == torch.float64
    tolerance = 1e-3 if dtype == torch.float32 else 1e-6
    torch.testing.assert_close(got - got[0], expected - expected[0], rtol=tolerance, atol=tolerance)


@ALL
@pytest.mark.parametrize("s", [0.0, 0.7])
def test_the_likelihood_score_is_minus_the_gradient_of_the_potential(kind, s):
    conditioning = make(kind)
    x = torch.randn(8, PIXELS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    score, potential = conditioning.likelihood_score(conditioning.coordinates(x), [s**2])
    expected = torch.linalg.solve(spread(s), (Y - x @ matrix().T).T).T @ matrix()
    torch.testing.assert_close(conditioning.image(score), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(potential, conditioning.potential(conditioning.coordinates(x), s))


@ALL
def test_white_noise_is_white(kind):
    conditioning, n = make(kind), 20_000
    xi = conditioning.white_noise(ParticleRng([0], n, torch.device("cpu")), slice(0, n))
    assert_law(conditioning.image(xi), torch.zeros(PIXELS), EYE)


@ALL
def test_predictions_follow_the_conditioned_kernel(kind):
    conditioning, n, step = make(kind), 20_000, Step(v=0.4, s=0.6)
    m = torch.linspace(-1, 1, PIXELS, dtype=torch.float64)
    rng = ParticleRng([0], n, torch.device("cpu"))
    c, _, _ = conditioning.predict(
        conditioning.coordinates(m.expand(n, -1)), step, rng, slice(0, n)
    )
    assert_law(conditioning.image(c), *conditioned(m, 0.4 * EYE, 0.6))


@ALL
def test_the_normaliser_of_a_prediction_is_the_evidence_of_its_kernel(kind):
    conditioning, step = make(kind), Step(v=0.4, s=0.6)
    m = torch.randn(9, PIXELS, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    rng = ParticleRng([0], 9, torch.device("cpu"))
    _, _, log_z = conditioning.predict(conditioning.coordinates(m), step, rng, slice(0, 9))
    a = matrix()
    expected = MultivariateNormal(m @ a.T, spread(0.6) + 0.4 * a @ a.T).log_prob(Y[0])
    torch.testing.assert_close(log_z - log_z[0], expected - expected[0], rtol=1e-5, atol=1e-5)


@ALL
def test_the_last_noise_of_a_prediction_is_independent_of_the_rest(kind):
    conditioning, n, step = make(kind), 4000, Step(v=0.4, s=0.6)
    m = torch.zeros(n, PIXELS, dtype=torch.float64)
    c, last_noise, _ = conditioning.predict(
        m, step, ParticleRng([0], n, torch.device("cpu")), slice(0, n)
    )
    rest = conditioning.image(c - last_noise.spread * last_noise.xi)
    torch.testing.assert_close(rest, rest[:1].expand_as(rest), rtol=1e-4, atol=1e-4)


def gaussian_target(b, s, prior):
    """Mean and covariance of ``N(mu, prior + b^2 I) exp(-R_s)``."""
    mu = torch.linspace(2, 0, PIXELS, dtype=torch.float64)
    return mu, *conditioned(mu, prior + b**2 * EYE, s)


@ALL
def test_a_move_leaves_a_target_with_the_preconditioner_s_covariance_invariant(kind):
    conditioning, n, b, s = make(kind), 20_000, 0.5, 0.4
    mu, mean, covariance = gaussian_target(b, s, 0 * EYE)
    g = torch.Generator().manual_seed(3)
    xi = torch.randn(n, PIXELS, generator=g, dtype=torch.float64)
    x = mean + xi @ torch.linalg.cholesky(covariance).T
    score = conditioning.coordinates((mu - x) / b**2)
    step = Step(v=b**2, s=s, length=0.8)
    rng = ParticleRng([1], n, torch.device("cpu"))
    c, _ = conditioning.move(conditioning.coordinates(x), score, step, None, rng, slice(0, n))
    assert_law(conditioning.image(c), mean, covariance)


@pytest.mark.parametrize("length", [0.3, 1.5])
def test_many_moves_leave_a_gaussian_much_wider_than_the_preconditioner_invariant(length):
    """For any spectrum of the prior, without a Metropolis test or small steps."""
    conditioning, n, b, s = make("spectral"), 4000, 0.3, 0.25
    q = torch.linalg.qr(matrix().T @ matrix() + EYE).Q
    prior = q @ torch.diag(torch.tensor([1.0, 0.3, 0.1, 0.03, 0.0, 0.5]).double()) @ q.T
    mu, mean, covariance = gaussian_target(b, s, prior)
    precision = torch.linalg.inv(prior + b**2 * EYE)
    rng, rows = ParticleRng([2], n, torch.device("cpu")), slice(0, n)
    xi = torch.randn(n, PIXELS, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    c, last_noise = conditioning.coordinates(mean + xi @ torch.linalg.cholesky(covariance).T), None
    for _ in range(60):
        score = conditioning.coordinates((mu - conditioning.image(c)) @ precision)
        c, last_noise = conditioning.move(c, score, Step(b**2, s, length), last_noise, rng, rows)
    assert_law(conditioning.image(c), mean, covariance)


def test_solves_are_counted():
    conditioning = make("solve")
    assert conditioning.iterations == 0
    conditioning.potential(torch.ones(2, PIXELS, dtype=torch.float64), 0.5)
    assert conditioning.iterations > 0


def test_a_preconditioner_saves_iterations():
    x = torch.ones(2, PIXELS, dtype=torch.float64)
    counts = []
    for kind in ("preconditioned", "solve"):
        conditioning = make(kind)
        conditioning._potential_error = 1e-3
        conditioning.potential(x, 3.0)
        counts.append(conditioning.iterations)
    assert counts[0] < counts[1]


@pytest.mark.parametrize("noise", [1e-1, 1e-3, 1e-5])
def test_iterations_are_bounded_as_the_noise_becomes_small(noise):
    d, data = 60, 40
    g = torch.Generator().manual_seed(1)
    rows = torch.randn(data, d, generator=g) * torch.logspace(0, -3, data)[:, None]
    likelihood = GaussianLikelihood(Plain(Dense(rows, (d,))), torch.zeros(1, data), noise**2)
    conditioning = IterativeConditioning(likelihood, (d,), torch.float32)
    c, _, _ = conditioning.predict(
        torch.ones(3, d), Step(25.0, 5.0), ParticleRng([0], 3, CPU), slice(0, 3)
    )
    assert c.isfinite().all()
    assert conditioning.iterations < 10 * data


@pytest.mark.parametrize("noise", [1e-2, 1e-3, 1e-4])
@pytest.mark.parametrize("v", [4.0, 0.01])
def test_iterative_samples_have_the_exact_spread_for_any_noise(noise, v):
    d, data, n = 30, 12, 2000
    g = torch.Generator().manual_seed(1)
    a = torch.randn(data, d, generator=g, dtype=torch.float64)
    dense = Dense(a.float(), (d,))
    likelihood = GaussianLikelihood(Plain(dense), torch.zeros(1, data), noise**2)
    conditioning = IterativeConditioning(likelihood, (d,), torch.float32)
    rng = ParticleRng([0], n, torch.device("cpu"))
    x, _, _ = conditioning.predict(torch.zeros(n, d), Step(v, 0.0), rng, slice(0, n))
    values, vectors = torch.linalg.eigh(a.T @ a)
    expected = 1 / (1 / v + values.clamp_min(0) / noise**2)
    ratio = (x.double() @ vectors).var(0) / expected
    assert (ratio - 1).abs().max() < 6 * (2 / n) ** 0.5


@pytest.mark.parametrize("length", [0.2, 1.0])
def test_iterative_moves_keep_the_spread_of_a_prior_much_wider_than_their_kernel(length):
    # Prior N(0, 1) noised to the variance v: its score is -x / (1 + v).
    d, data, n, v, noise = 30, 12, 2000, 0.02, 0.1
    g = torch.Generator().manual_seed(1)
    a = torch.randn(data, d, generator=g, dtype=torch.float64) / d**0.5
    likelihood = GaussianLikelihood(Plain(Dense(a.float(), (d,))), torch.zeros(1, data), noise**2)
    conditioning = IterativeConditioning(likelihood, (d,), torch.float32)
    values, vectors = torch.linalg.eigh(a.T @ a)
    expected = 1 / (1 / (1 + v) + values.clamp_min(0) / noise**2)
    x = (torch.randn(n, d, generator=g, dtype=torch.float64) * expected.sqrt()) @ vectors.T
    x, rng = x.float(), ParticleRng([0], n, torch.device("cpu"))
    step = Step(v, 0.0, length, mean_jacobian=1 / (1 + v))
    for _ in range(60):
        x, _ = conditioning.move(x, -x / (1 + v), step, None, rng, slice(0, n))
    ratio = (x.double() @ vectors).var(0) / expected
    assert (ratio - 1).abs().max() < 6 * (2 / n) ** 0.5
