"""Gaussian noise that is not white: whitening is exact, and what is dead does not count."""

from __future__ import annotations

import math

import pytest
import torch

from tiltkit.errors import InputError, UsageError
from tiltkit.likelihoods import GaussianLikelihood, gaussian
from tiltkit.operators.compose import Pointwise, Weighted
from tiltkit.protocols import SpectralOperator

from .conftest import dense

VARIANCE = torch.tensor([[0.2, 1.0, 3.0, 0.5, 0.5]], dtype=torch.float64)
Y = torch.tensor([[1.0, -2.0, 0.3, 0.0, 4.0]], dtype=torch.float64)


def images(n=4, pixels=3):
    g = torch.Generator().manual_seed(1)
    return torch.randn(n, pixels, generator=g, dtype=torch.float64)


def test_potential_and_gradient_are_those_of_independent_noise():
    operator, x = dense(5, 3), images().requires_grad_()
    likelihood = gaussian(operator, Y, VARIANCE)
    expected = ((Y - operator.forward(x)).square() / (2 * VARIANCE)).sum(1)
    torch.testing.assert_close(likelihood.potential(x), expected)
    (gradient,) = torch.autograd.grad(expected.sum(), x)
    torch.testing.assert_close(likelihood.gradient(x.detach()), gradient)


@pytest.mark.parametrize("variance", [0.3, torch.tensor(0.3), torch.full((1, 5), 0.3)])
def test_one_variance_for_all_keeps_the_operator_diagonalised(variance):
    operator = dense(5, 3)
    likelihood = gaussian(operator, Y, variance)
    assert likelihood.operator is operator
    assert likelihood.noise_var == pytest.approx(0.3)


def test_pointwise_operators_stay_diagonalised_for_any_variances():
    operator = Pointwise(torch.full((5,), 2.0, dtype=torch.float64))
    likelihood = gaussian(operator, Y, VARIANCE)
    assert isinstance(likelihood.operator, SpectralOperator)
    assert likelihood.operator.eigenvalues.shape == (5,)
    x = images(pixels=5)
    expected = ((Y - 2 * x).square() / (2 * VARIANCE)).sum(1)
    torch.testing.assert_close(likelihood.potential(x), expected)


def test_dead_values_are_as_if_they_had_never_been_measured():
    operator = dense(5, 3)
    live = [0, 2, 4]
    variance = torch.full((1, 5), math.inf, dtype=torch.float64)
    variance[:, live] = VARIANCE[:, live]
    y = Y.clone()
    y[:, [1, 3]] = math.nan
    likelihood = gaussian(operator, y, variance)
    few = type(operator)(operator.matrix[live], (3,))
    without = gaussian(few, Y[:, live], VARIANCE[:, live])
    x = images()
    assert likelihood.measured == without.measured == 3
    torch.testing.assert_close(likelihood.potential(x), without.potential(x))
    torch.testing.assert_close(likelihood.gradient(x), without.gradient(x))
    torch.testing.assert_close(likelihood.chi2(x), without.chi2(x))


def test_variances_per_coil_broadcast_and_complex_components_count_twice():
    class Coils:
        def forward(self, x):
            return torch.complex(x[:, :1], x[:, 1:]).expand(-1, 3, -1)

    y = torch.zeros(1, 3, 4, dtype=torch.complex128)
    variance = torch.tensor([1.0, 2.0, math.inf], dtype=torch.float64)[:, None]
    likelihood = gaussian(Coils(), y, variance)
    assert likelihood.measured == 2 * 2 * 4
    x = torch.ones(1, 2, 4, dtype=torch.float64)
    assert float(likelihood.chi2(x)) == pytest.approx((8 / 1 + 8 / 2) / 16)


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan])
def test_variances_that_are_none_are_refused(bad):
    variance = VARIANCE.clone()
    variance[0, 2] = bad
    for given in (variance, bad):
        with pytest.raises(UsageError, match="variance"):
            gaussian(dense(5, 3), Y, given)


def test_a_measurement_that_is_all_dead_or_nan_is_refused():
    with pytest.raises(InputError, match="All 5 measured values"):
        gaussian(dense(5, 3), Y, torch.full((1, 5), math.inf))
    with pytest.raises(InputError, match="NaN or infinite"):
        gaussian(dense(5, 3), Y * math.nan, VARIANCE)


def test_chi2_of_the_truth_is_one_on_average():
    g = torch.Generator().manual_seed(3)
    operator, truth = dense(5, 3), images(1)
    xi = torch.randn(2000, 5, generator=g, dtype=torch.float64)
    y = operator.forward(truth) + VARIANCE.sqrt() * xi
    values = [float(gaussian(operator, item[None], VARIANCE).chi2(truth)) for item in y]
    assert sum(values) / len(values) == pytest.approx(1, abs=0.05)


def test_a_gaussian_likelihood_is_made_by_default_of_white_noise_alone():
    likelihood = GaussianLikelihood(dense(5, 3), Y, 1.0)
    assert not isinstance(likelihood.operator, Weighted)
    assert likelihood.measured == 5
