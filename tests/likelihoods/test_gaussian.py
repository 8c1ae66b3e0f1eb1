"""The Gaussian likelihood: potential, gradient and chi2."""

from __future__ import annotations

import math

import pytest
import torch

from tiltkit.errors import UsageError
from tiltkit.likelihoods import GaussianLikelihood, Likelihood
from tiltkit.operators.spectral import Dense

G = torch.Generator().manual_seed(0)
MATRIX = torch.randn(7, 4, generator=G, dtype=torch.float64)


def likelihood(noise_var=0.3, dtype=torch.float64):
    y = torch.randn(1, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return GaussianLikelihood(Dense(MATRIX.to(dtype), (1, 4)), y.to(dtype), noise_var)


class Turned:
    """A complex diagonal operator on (re, im) channels."""

    phase = torch.polar(torch.tensor([1.0, 2.0]), torch.tensor([0.3, -1.0])).to(torch.complex128)

    def forward(self, x):
        return self.phase * torch.complex(x[:, 0], x[:, 1])

    def adjoint(self, y):
        z = self.phase.conj() * y
        return torch.stack([z.real, z.imag], 1)

    def normal(self, x):
        return self.adjoint(self.forward(x))

    def solve(self, alpha, beta, b):
        return b / (alpha + beta * self.phase.abs().square())


def test_the_gaussian_likelihood_keeps_the_protocol():
    assert isinstance(likelihood(), Likelihood)


def test_differences_of_the_potential_are_those_of_the_log_density():
    given = likelihood()
    x = torch.randn(5, 1, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    density = torch.distributions.Normal(x.flatten(1) @ MATRIX.T, math.sqrt(0.3))
    expected = -density.log_prob(given.y).sum(1)
    potential = given.potential(x)
    assert potential.dtype == torch.float64
    torch.testing.assert_close(potential - potential[0], expected - expected[0])


@pytest.mark.parametrize("is_complex", [False, True], ids=["real", "complex"])
def test_the_gradient_is_that_of_the_potential(is_complex):
    given = likelihood()
    x = torch.randn(3, 1, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    if is_complex:
        y = torch.tensor([[1 + 2j, -0.5j]], dtype=torch.complex128)
        given, x = GaussianLikelihood(Turned(), y, 0.3), x.repeat(1, 2, 1)[..., :2]
    x.requires_grad_()
    (expected,) = torch.autograd.grad(given.potential(x).sum(), x)
    torch.testing.assert_close(given.gradient(x.detach()), expected)


@pytest.mark.parametrize("is_complex", [False, True], ids=["real", "complex"])
def test_chi2_of_the_truth_is_one_on_average(is_complex):
    g = torch.Generator().manual_seed(4)
    operator = Turned() if is_complex else Dense(MATRIX, (1, 4))
    truth = torch.ones(1, 2, 2, dtype=torch.float64) if is_complex else torch.ones(1, 1, 4).double()
    clean, values = operator.forward(truth), []
    for _ in range(2000):
        xi = torch.randn(*clean.shape, 2, generator=g, dtype=torch.float64) * 0.5
        noise = torch.view_as_complex(xi) if is_complex else xi[..., 0]
        values.append(float(GaussianLikelihood(operator, clean + noise, 0.25).chi2(truth)))
    assert sum(values) / 2000 == pytest.approx(1, abs=0.05)


def test_single_precision_gives_the_same_potential():
    x = torch.randn(5, 1, 4, generator=torch.Generator().manual_seed(5))
    single = likelihood(dtype=torch.float32).potential(x)
    torch.testing.assert_close(single, likelihood().potential(x.double()), rtol=1e-5, atol=0)


@pytest.mark.parametrize("noise_var", [0.0, -1.0, math.nan, math.inf])
def test_a_noise_variance_that_is_not_positive_and_finite_is_an_error(noise_var):
    with pytest.raises(UsageError, match="noise variance"):
        likelihood(noise_var)
