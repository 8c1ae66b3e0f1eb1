"""Likelihoods of counts: potentials, gradients, chi2 and errors."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tiltkit.errors import InputError, TiltkitError, UsageError
from tiltkit.likelihoods import (
    Approximable,
    GaussianLikelihood,
    Likelihood,
    MomentMatched,
    PoissonGaussianLikelihood,
    PoissonLikelihood,
    TransmissionPoissonLikelihood,
)

from .conftest import MAKERS, counts, dense

CONVEX = [name for name in MAKERS if name != "transmission with background"]


def images(n, pixels, seed, scale):
    g = torch.Generator().manual_seed(seed)
    return scale * torch.randn(n, pixels, generator=g, dtype=torch.float64)


def test_likelihoods_of_counts_keep_the_protocols(kind):
    likelihood = MAKERS[kind](dense(4, 3), counts(4))
    assert isinstance(likelihood, Likelihood)
    assert isinstance(likelihood, Approximable)
    assert isinstance(likelihood, MomentMatched)
    assert isinstance(likelihood.approximation(), GaussianLikelihood)


@pytest.mark.parametrize("name", MAKERS)
@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 99), st.floats(0.1, 30))
@settings(max_examples=15, deadline=None)
def test_the_gradient_is_that_of_the_potential(name, data, pixels, seed, scale):
    likelihood = MAKERS[name](dense(data, pixels, seed), counts(data, seed))
    x = images(3, pixels, seed, scale)
    gradient = likelihood.gradient(x)
    step, numeric = 1e-5, torch.zeros_like(x)
    for i in range(pixels):
        d = torch.zeros_like(x)
        d[:, i] = step
        numeric[:, i] = (likelihood.potential(x + d) - likelihood.potential(x - d)) / (2 * step)
    torch.testing.assert_close(gradient, numeric, rtol=1e-4, atol=1e-4 * (1 + scale))


@pytest.mark.parametrize("name", MAKERS)
@given(st.integers(1, 5), st.integers(0, 99), st.floats(0.1, 30))
@settings(max_examples=15, deadline=None)
def test_the_gradient_is_that_of_autograd(name, data, seed, scale):
    likelihood = MAKERS[name](dense(data, 3, seed), counts(data, seed))
    x = images(3, 3, seed, scale).requires_grad_()
    (expected,) = torch.autograd.grad(likelihood.potential(x).sum(), x)
    torch.testing.assert_close(likelihood.gradient(x.detach()), expected)


@pytest.mark.parametrize("name", CONVEX)
@given(st.integers(0, 999), st.floats(0.1, 20), st.floats(0.05, 0.95))
@settings(max_examples=30, deadline=None)
def test_potentials_lie_below_their_chords(name, seed, scale, share):
    likelihood = MAKERS[name](dense(4, 2, seed), counts(4, seed))
    a, b = images(5, 2, seed, scale), images(5, 2, seed + 1, scale)
    chord = (1 - share) * likelihood.potential(a) + share * likelihood.potential(b)
    below = likelihood.potential((1 - share) * a + share * b)
    assert bool((below <= chord + 1e-9 * (1 + chord.abs())).all())


def test_transmission_with_background_is_concave_where_the_object_is_opaque():
    likelihood = MAKERS["transmission with background"](
        dense(1, 1), torch.full((1, 1), 9.0, dtype=torch.float64)
    )
    x = torch.tensor([[8.0], [10.0], [12.0]], dtype=torch.float64) / likelihood.operator.matrix
    first, middle, last = likelihood.potential(x)
    assert middle > (first + last) / 2


def test_differences_of_poisson_potentials_are_those_of_the_log_probability():
    operator, y = dense(4, 3), counts(4)
    x = images(6, 3, 0, 1.0).abs() + 1  # rates above the floor
    rate = 2.0 * (operator.forward(x) + 0.3)
    expected = -torch.distributions.Poisson(rate).log_prob(y).sum(1)
    potential = MAKERS["poisson"](operator, y).potential(x)
    assert potential.dtype == torch.float64
    torch.testing.assert_close(potential - potential[0], expected - expected[0])


def test_differences_of_transmission_potentials_are_those_of_the_log_probability():
    operator, y = dense(4, 3), counts(4) + 3
    x = images(6, 3, 0, 1.0).abs()
    rate = 20.0 * (-operator.forward(x)).exp() + 1.5
    expected = -torch.distributions.Poisson(rate).log_prob(y).sum(1)
    potential = MAKERS["transmission with background"](operator, y).potential(x)
    torch.testing.assert_close(potential - potential[0], expected - expected[0])


@pytest.mark.parametrize("value", [-1e4, -3.0, 0.0, 1e4])
@pytest.mark.parametrize("count", [0.0, 1.0, 1e5])
def test_everything_is_finite_for_any_image_and_count(kind, value, count):
    likelihood = MAKERS[kind](dense(2, 2), torch.full((1, 2), count, dtype=torch.float64))
    x = torch.full((1, 2), value, dtype=torch.float64)
    for result in (likelihood.potential(x), likelihood.gradient(x), likelihood.chi2(x)):
        assert bool(result.isfinite().all())
    linear = likelihood.approximation()
    assert bool(linear.y.isfinite().all())
    assert math.isfinite(linear.noise_var)


def test_single_precision_images_give_single_precision_gradients(kind):
    operator = type(dense(3, 2))(dense(3, 2).matrix.float(), (2,))
    likelihood = MAKERS[kind](operator, counts(3).float())
    x = images(4, 2, 0, 1.0).float()
    assert likelihood.gradient(x).dtype == torch.float32
    assert likelihood.potential(x).dtype == torch.float64
    assert likelihood.approximation().y.dtype == torch.float32


def test_whole_numbers_are_counts_too():
    y = torch.tensor([[3, 0, 7]])
    operator = type(dense(3, 2))(dense(3, 2).matrix.float(), (2,))
    x = images(2, 2, 0, 1.0).float()
    for make in MAKERS.values():
        expected = make(operator, y.float())
        torch.testing.assert_close(make(operator, y).potential(x), expected.potential(x))
        make(operator, y).approximation()


def simulated(name, operator, truth, n):
    g = torch.Generator().manual_seed(5)
    t = operator.forward(truth).expand(n, -1)
    if name == "poisson":
        return torch.poisson(2.0 * (t + 0.3), generator=g)
    if name == "camera":
        xi = torch.randn(t.shape, generator=g, dtype=t.dtype)
        return 1.5 * torch.poisson(t + 0.2, generator=g) - 2.0 + 1.2 * xi
    return torch.poisson(20.0 * (-t).exp() + 1.5, generator=g)


@pytest.mark.parametrize("name", ["poisson", "camera", "transmission with background"])
@pytest.mark.parametrize("value", [0.3, 2.0, 8.0])
def test_chi2_of_the_truth_is_one_on_average_for_few_counts_and_many(name, value):
    operator = dense(6, 3)
    truth = torch.full((1, 3), value, dtype=torch.float64)
    y = simulated(name, operator, truth, 2000)
    values = [float(MAKERS[name](operator, item[None]).chi2(truth)) for item in y]
    assert sum(values) / len(values) == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize("name", ["poisson", "transmission", "camera"])
def test_the_approximation_is_near_where_counts_are_many(name):
    operator = dense(3, 1)
    truth = torch.full((1, 1), 400.0 if name != "transmission" else 1.0, dtype=torch.float64)
    y = simulated(name, operator, truth, 1)
    if name == "transmission":
        y = 1e6 * (-operator.forward(truth)).exp()
        likelihood = TransmissionPoissonLikelihood(operator, y, 1e6)
    else:
        likelihood = MAKERS[name](operator, y)
    x = truth + torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None] * truth * 0.002
    exact, linear = likelihood.potential(x), likelihood.approximation().potential(x)
    torch.testing.assert_close(exact - exact[2], linear - linear[2], rtol=0.05, atol=0.02)


def test_dead_pixels_have_no_effect():
    operator, y = dense(4, 3), counts(4) + 1
    live = torch.tensor([True, False, True, True])
    dead_y = y.where(live, math.nan)
    few = type(operator)(operator.matrix[live], (3,))
    gain, noise = live.double(), torch.where(live, 1.0, math.inf)
    pairs = [
        (PoissonLikelihood(operator, dead_y, gain), PoissonLikelihood(few, y[:, live])),
        (
            TransmissionPoissonLikelihood(operator, dead_y, 20 * gain),
            TransmissionPoissonLikelihood(few, y[:, live], 20.0),
        ),
        (
            PoissonGaussianLikelihood(operator, dead_y, 1.0, 0.0, noise),
            PoissonGaussianLikelihood(few, y[:, live], 1.0, 0.0, 1.0),
        ),
    ]
    x = images(5, 3, 0, 1.0)
    for full, without in pairs:
        torch.testing.assert_close(full.potential(x), without.potential(x))
        torch.testing.assert_close(full.gradient(x), without.gradient(x))
        torch.testing.assert_close(full.chi2(x), without.chi2(x))
        linear, linear_few = full.approximation(), without.approximation()
        assert linear.measured == linear_few.measured == 3
        torch.testing.assert_close(linear.potential(x), linear_few.potential(x))


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
@pytest.mark.parametrize("name", ["poisson", "transmission"])
def test_negative_and_nonfinite_counts_are_an_error(name, bad):
    y = counts(3)
    y[0, 1] = bad
    with pytest.raises(InputError, match="counts contain values that are negative, NaN") as caught:
        MAKERS[name](dense(3, 2), y)
    assert caught.value.hint


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_negative_and_nonfinite_parameters_are_an_error(bad):
    a, y = dense(3, 2), counts(3)
    for make in (
        lambda: PoissonLikelihood(a, y, bad),
        lambda: PoissonLikelihood(a, y, 1.0, bad).potential(torch.ones(1, 2).double()),
        lambda: TransmissionPoissonLikelihood(a, y, bad),
        lambda: PoissonGaussianLikelihood(a, y, bad),
        lambda: PoissonGaussianLikelihood(a, y, 1.0, 0.0, 1.0, bad),
    ):
        with pytest.raises(TiltkitError, match="negative, NaN or infinite"):
            make()


def test_complex_counts_dead_detectors_and_zero_gains_are_errors():
    a, y = dense(3, 2), counts(3)
    with pytest.raises(InputError, match="must be real"):
        PoissonLikelihood(a, y.to(torch.complex128))
    with pytest.raises(InputError, match="All 3 measured values"):
        PoissonLikelihood(a, y, 0.0)
    with pytest.raises(InputError, match="All 3 measured values"):
        TransmissionPoissonLikelihood(a, y, 0.0)
    with pytest.raises(InputError, match="All 3 measured values"):
        PoissonGaussianLikelihood(a, y, 1.0, 0.0, math.inf)
    with pytest.raises(UsageError, match="camera gain contains zeros"):
        PoissonGaussianLikelihood(a, y, 0.0)
