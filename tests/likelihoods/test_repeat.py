"""Repeated measurements: simulated data have the noise, two data sets the product likelihood."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tiltkit.errors import UsageError
from tiltkit.likelihoods import (
    GaussianLikelihood,
    Likelihood,
    PoissonGaussianLikelihood,
    PoissonLikelihood,
    TransmissionPoissonLikelihood,
    combine,
    gaussian,
    remeasure,
    simulate,
)
from tiltkit.operators.compose import Pointwise

SHAPE = (1, 60, 50)
OPERATOR = Pointwise(torch.full(SHAPE, 2.0))


def counts(y: torch.Tensor) -> Likelihood:
    return PoissonLikelihood(OPERATOR, y, gain=3.0, background=0.5)


def transmission(y: torch.Tensor) -> Likelihood:
    return TransmissionPoissonLikelihood(OPERATOR, y, i0=200.0, background=4.0)


def camera(y: torch.Tensor) -> Likelihood:
    return PoissonGaussianLikelihood(
        OPERATOR, y, gain=2.0, offset=100.0, read_noise=3.0, background=20.0
    )


def white(y: torch.Tensor) -> Likelihood:
    return GaussianLikelihood(OPERATOR, y, 0.25)


def uneven(y: torch.Tensor) -> Likelihood:
    variance = torch.ones(SHAPE)
    variance[:, :10] = torch.inf
    variance[:, 10:20] = 4.0
    return gaussian(OPERATOR, y, variance)


@pytest.fixture(params=[white, uneven, counts, transmission, camera])
def make(request: pytest.FixtureRequest) -> Callable[[torch.Tensor], Likelihood]:
    return request.param


def test_simulated_data_fit_their_image_as_the_noise_says(
    make: Callable[[torch.Tensor], Likelihood],
) -> None:
    x = torch.full((1, *SHAPE), 0.7)
    likelihood = make(torch.full((1, *SHAPE), 20.0))
    y = simulate(likelihood, x, torch.Generator().manual_seed(1))
    assert (y.shape, y.dtype) == ((1, *SHAPE), torch.float32)
    chi2 = float(remeasure(likelihood, y).chi2(x))
    assert chi2 == pytest.approx(1, abs=0.1)


def test_the_same_seed_gives_the_same_data_and_another_seed_others(
    make: Callable[[torch.Tensor], Likelihood],
) -> None:
    x, likelihood = torch.full((1, *SHAPE), 0.7), make(torch.full((1, *SHAPE), 20.0))
    a, b, c = (simulate(likelihood, x, torch.Generator().manual_seed(k)) for k in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_the_potential_of_two_data_sets_is_the_sum_of_their_potentials_up_to_a_constant(
    make: Callable[[torch.Tensor], Likelihood],
) -> None:
    likelihood = make(torch.full((1, *SHAPE), 20.0))
    truth = torch.full((1, *SHAPE), 0.7)
    one, two = (simulate(likelihood, truth, torch.Generator().manual_seed(k)) for k in (1, 2))
    images = 0.7 + 0.2 * torch.rand((5, *SHAPE), generator=torch.Generator().manual_seed(3))
    both = combine(remeasure(likelihood, one), two).potential(images)
    each = sum(remeasure(likelihood, y).potential(images) for y in (one, two))
    torch.testing.assert_close(both - both[0], each - each[0], rtol=2e-3, atol=1e-2)


def test_values_that_were_not_measured_stay_zero() -> None:
    likelihood = uneven(torch.full((1, *SHAPE), 20.0))
    y = simulate(likelihood, torch.ones(1, *SHAPE), torch.Generator().manual_seed(1))
    assert not y[:, :, :10].any()
    assert y[:, :, 10:].all()


def test_complex_noise_has_its_variance_in_both_components() -> None:
    y = torch.zeros((1, *SHAPE), dtype=torch.complex64)
    likelihood = GaussianLikelihood(OPERATOR, y, 0.25)
    noise = simulate(likelihood, torch.zeros(1, *SHAPE), torch.Generator().manual_seed(1))
    for part in (noise.real, noise.imag):
        assert float(part.var()) == pytest.approx(0.25, rel=0.1)


def test_a_likelihood_that_cannot_simulate_is_named() -> None:
    with pytest.raises(UsageError, match="The likelihood int cannot simulate"):
        simulate(3, torch.zeros(1), torch.Generator())  # type: ignore[arg-type]
