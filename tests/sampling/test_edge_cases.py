"""Edge cases: a clear error of one or two lines, or the posterior in closed form."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tiltkit.errors import TiltkitError, UsageError
from tiltkit.likelihoods import GaussianLikelihood, gaussian
from tiltkit.operators.spectral import Dense
from tiltkit.posterior.outcome import Outcome
from tiltkit.priors.closed_form import Mixture
from tiltkit.problem import Problem
from tiltkit.recon.solve import solve
from tiltkit.sampling.particles.rng import ParticleRng
from tiltkit.sampling.run import run
from tiltkit.sampling.samplers.twisted import Twisted
from tiltkit.sampling.samplers.walmc import Walmc
from tiltkit.sampling.target import Target
from tiltkit.testing.known import Plain

VARIANCE, NOISE, RANGE = 0.5, 0.3, (0.01, 20.0)
SAMPLERS = pytest.mark.parametrize("kind", [Walmc, Twisted])


def matrix(data: int = 3, pixels: int = 6, seed: int = 1) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(data, pixels, generator=g, dtype=torch.float64) / pixels**0.5


def make(
    a: Tensor,
    *,
    shape: tuple[int, ...] | None = None,
    noise: float = NOISE,
    y: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
    scale: float = 1.0,
    plain: bool = False,
) -> Problem:
    """A Gaussian prior and a measurement of a sample of it; all values times ``scale``."""
    data, pixels = a.shape
    g = torch.Generator().manual_seed(0)
    mean = torch.linspace(-1, 1, pixels, dtype=torch.float64)
    truth = mean + VARIANCE**0.5 * torch.randn(pixels, generator=g, dtype=torch.float64)
    if y is None:
        y = (truth @ a.T + noise * torch.randn(data, generator=g, dtype=torch.float64))[None]
    shape = shape or (pixels,)
    dense = Dense(a.to(dtype), shape)
    low, high = RANGE
    return Problem(
        prior=Mixture(
            (scale * mean).reshape(1, *shape).to(dtype),
            VARIANCE * scale**2,
            torch.ones(1, dtype=dtype),
            (low * scale, high * scale),
        ),
        likelihood=GaussianLikelihood(
            Plain(dense) if plain else dense, (scale * y).to(dtype), (noise * scale) ** 2
        ),
        shape=shape,
        to_image=lambda x: x,
        baseline=torch.zeros(shape),
    )


def solved(
    problem: Problem, *, kind: type = Walmc, n: int = 200, memory_gb: float = 1.0, **options: Any
) -> Outcome:
    sampler = kind(kind.Options.model_validate({"levels": 48} | options))
    device = torch.device("cpu")
    *_, outcome = solve([problem], sampler, seed=(0,), n=n, devices=[device], memory_gb=memory_gb)
    assert isinstance(outcome, Outcome)
    return outcome


def exact(problem: Problem, a: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the posterior, one value per pixel."""
    prior, likelihood = problem.prior, problem.likelihood
    assert isinstance(prior, Mixture)
    assert isinstance(likelihood, GaussianLikelihood)
    variance = prior.variance + prior.sigma_range[0] ** 2
    precision = torch.eye(a.shape[1]) / variance + a.T @ a / likelihood.noise_var
    covariance = torch.linalg.inv(precision.double())
    information = prior.means.double().flatten() / variance
    information = information + likelihood.y.double()[0] @ a / likelihood.noise_var
    return covariance @ information, covariance.diagonal().sqrt()


def assert_exact(outcome: Outcome, problem: Problem, a: Tensor) -> None:
    mean, std = exact(problem, a)
    found = torch.from_numpy(outcome.mean).double().flatten()
    assert ((found - mean).abs() < 0.4 * std).all()
    ratio = torch.from_numpy(outcome.std).double().flatten() / std
    assert ((ratio > 0.75) & (ratio < 1.25)).all()


def short(error: TiltkitError) -> bool:
    return len(str(error).splitlines()) <= 2 and "Traceback" not in str(error)


# Operators


def singular(name: str) -> Tensor:
    a = matrix()
    if name == "zero matrix":
        return torch.zeros_like(a)
    a[2] = 0 if name == "zero row" else a[0] + a[1]
    return a


@SAMPLERS
@pytest.mark.parametrize("plain", [False, True], ids=["spectral", "conjugate gradients"])
@pytest.mark.parametrize("name", ["zero matrix", "zero row", "dependent rows"])
def test_the_posterior_is_the_prior_in_the_null_space_of_a_singular_operator(name, plain, kind):
    a = singular(name)
    problem = make(a, plain=plain)
    assert_exact(solved(problem, kind=kind), problem, a)


@SAMPLERS
@pytest.mark.parametrize("spoilt", ["adjoint", "normal"])
@pytest.mark.parametrize("factor", [1.5, 0.98, -1.0, float("nan")])
def test_a_wrong_adjoint_is_an_error_with_both_inner_products(kind, spoilt, factor):
    problem = make(matrix(), plain=True)
    operator = problem.likelihood.operator
    right = getattr(operator, spoilt)
    setattr(operator, spoilt, lambda x: factor * right(x))
    with pytest.raises(TiltkitError, match=f"{spoilt} does not fit its forward") as caught:
        solved(problem, kind=kind, n=4, levels=6)
    assert short(caught.value)
    there, energy = re.findall(r"is (\S+?)(?: |\.\n)", str(caught.value))
    assert float(there) == pytest.approx(factor * float(energy), rel=1e-3, nan_ok=True)


def test_an_adjoint_that_returns_no_images_is_an_error():
    problem = make(matrix(), plain=True)
    right = problem.likelihood.operator.adjoint
    problem.likelihood.operator.adjoint = lambda y: right(y)[..., :1]
    with pytest.raises(TiltkitError, match=r"adjoint gives torch.float32 \(1, 1\)") as caught:
        solved(problem, n=4, levels=6)
    assert short(caught.value)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    height=st.integers(1, 5), width=st.integers(1, 5), data=st.integers(1, 6), plain=st.booleans()
)
def test_any_image_size_and_number_of_measurements_gives_the_exact_posterior(
    height, width, data, plain
):
    a = matrix(data, height * width, seed=height + 7 * width)
    problem = make(a, shape=(1, height, width), plain=plain)
    assert_exact(solved(problem), problem, a)


@SAMPLERS
def test_one_pixel_has_its_exact_posterior(kind):
    a = torch.ones(1, 1, dtype=torch.float64)
    problem = make(a, shape=(1, 1, 1))
    outcome = solved(problem, kind=kind)
    assert outcome.mean.shape == (1, 1, 1)
    assert_exact(outcome, problem, a)


# Particles


@SAMPLERS
def test_one_particle_is_a_sample(kind):
    a = matrix()
    problem = make(a)
    outcome = solved(problem, kind=kind, n=1)
    mean, std = exact(problem, a)
    assert outcome.samples.shape == (1, 6)
    assert ((torch.from_numpy(outcome.samples[0]) - mean).abs() < 5 * std).all()


@SAMPLERS
def test_particles_handled_one_by_one_give_the_same_answer(kind):
    problem = make(matrix())
    whole, single = (solved(problem, kind=kind, n=12, memory_gb=gb) for gb in (1.0, 1e-12))
    assert single.samples == pytest.approx(whole.samples, rel=1e-3, abs=1e-4)


# Numbers


@pytest.mark.parametrize("variance", [0.0, -1.0, float("nan")])
@pytest.mark.parametrize("form", [GaussianLikelihood, gaussian])
def test_a_noise_variance_that_is_not_positive_is_an_error(form, variance):
    with pytest.raises(TiltkitError, match="noise variance") as caught:
        form(Dense(matrix(), (6,)), torch.zeros(1, 3), variance)
    assert short(caught.value)


@SAMPLERS
def test_noise_below_single_precision_keeps_the_prior_in_the_null_space(kind):
    """Along the null space the posterior is the prior, however small the noise."""
    a = matrix()
    outcome = solved(make(a, noise=1e-6), kind=kind, n=400)
    null = torch.linalg.svd(a)[2][3:]
    expected = null @ torch.linspace(-1, 1, 6, dtype=torch.float64)
    found = null @ torch.from_numpy(outcome.mean).double()
    assert ((found - expected).abs() < 0.4 * VARIANCE**0.5).all()


@SAMPLERS
def test_small_noise_in_double_precision_gives_the_exact_posterior(kind):
    a = matrix()
    problem = make(a, noise=1e-6, dtype=torch.float64)
    target = Target(problem, 500, 500, dtype=torch.float64)
    sampler = kind(kind.Options(levels=100, collect=1))
    *_, (state, _) = run(target, sampler, ParticleRng([0], 500, target.device))
    x = sampler.images(target, state)
    mean, std = exact(problem, a)
    assert ((x.mean(0) - mean).abs() < 0.5 * std).all()
    assert problem.likelihood.chi2(x).mean() < 10


@SAMPLERS
def test_double_precision_stays_double(kind):
    problem = make(matrix(), dtype=torch.float64)
    target = Target(problem, 5, 5, dtype=torch.float64)
    sampler = kind(kind.Options(levels=4))
    for state, _ in run(target, sampler, ParticleRng([0], 5, target.device)):
        assert sampler.images(target, state).dtype == torch.float64


def test_solving_a_problem_in_double_precision_is_right_or_a_clear_error():
    a = matrix()
    problem = make(a, dtype=torch.float64)
    try:
        outcome = solved(problem)
    except TiltkitError as error:
        assert short(error)  # noqa: PT017  (either is fine)
    else:
        assert_exact(outcome, problem, a)


@SAMPLERS
@settings(max_examples=6, deadline=None, derandomize=True)
@given(power=st.integers(-20, 20))
def test_samples_scale_with_the_units_of_the_image(kind, power):
    a, scale = matrix(), 2.0**power
    found = solved(make(a, scale=scale), kind=kind, n=8, levels=12).samples / scale
    assert found == pytest.approx(solved(make(a), kind=kind, n=8, levels=12).samples, rel=0.01)


@SAMPLERS
@pytest.mark.parametrize("scale", [1e-25, 1e-10, 1e10, 1e25])
def test_units_beyond_single_precision_are_right_or_a_clear_error(kind, scale):
    a = matrix()
    problem = make(a, scale=scale)
    try:
        outcome = solved(problem, kind=kind)
    except TiltkitError as error:
        assert short(error)  # noqa: PT017  (either is fine)
    else:
        assert_exact(outcome, problem, a)


@SAMPLERS
def test_data_that_are_all_zero_are_data_like_any_other(kind):
    a = matrix()
    problem = make(a, y=torch.zeros(1, 3, dtype=torch.float64))
    assert_exact(solved(problem, kind=kind), problem, a)


@SAMPLERS
def test_data_that_contradict_the_prior_give_a_warning(kind):
    problem = make(matrix(), y=torch.full((1, 3), 1e4, dtype=torch.float64))
    warnings = solved(problem, kind=kind, n=20).diagnostics["warnings"]
    assert "data_fit_narrow" in [warning.code for warning in warnings]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("form", [GaussianLikelihood, gaussian])
def test_data_that_are_not_finite_are_refused_by_the_likelihood(form, bad):
    with pytest.raises(TiltkitError, match="measurement contains NaN") as caught:
        form(Dense(matrix(), (6,)), torch.tensor([[0.0, bad, 1.0]]), 1.0)
    assert short(caught.value)


@pytest.mark.parametrize("shape", [(1, 4), (3,), (2, 3)], ids=str)
def test_a_measurement_of_another_shape_than_the_operators_is_a_clear_error(shape):
    with pytest.raises(TiltkitError) as caught:
        solved(make(matrix(), y=torch.zeros(shape, dtype=torch.float64)), n=4)
    assert short(caught.value)


# Settings


@SAMPLERS
@pytest.mark.parametrize("levels", [(2.0, 2.0), (2.0, 5.0), (20.0, 1e-3), (21.0, 1.0)], ids=str)
def test_a_ladder_that_does_not_fall_within_the_priors_range_is_wrong_use(kind, levels):
    with pytest.raises(UsageError, match="ladder") as caught:
        solved(make(matrix()), kind=kind, n=4, sigma_max=levels[0], tau=levels[1])
    assert short(caught.value)


@SAMPLERS
def test_two_levels_give_the_exact_posterior_or_a_warning(kind):
    a = matrix()
    problem = make(a)
    outcome = solved(problem, kind=kind, levels=2)
    if not outcome.diagnostics["warnings"]:
        assert_exact(outcome, problem, a)


@SAMPLERS
def test_collecting_nothing_is_a_clear_error(kind):
    with pytest.raises(TiltkitError, match="collect") as caught:
        solved(make(matrix()), kind=kind, n=4, collect=0)
    assert short(caught.value)


# Priors


class Changed:
    """A prior whose score is changed at and below a noise level."""

    channels, sigma_range, value_range = 0, RANGE, ""

    def __init__(self, prior: Any, change: Any, below: float = float("inf")) -> None:
        self._prior, self._change, self._below = prior, change, below

    def score(self, x: Tensor, sigma: float) -> Any:
        score = self._prior.score(x, sigma)
        return self._change(score) if sigma <= self._below else score

    def to(self, device: torch.device) -> Changed:
        return self


def changed(change: Any, below: float = float("inf")) -> Problem:
    problem = make(matrix())
    return replace(problem, prior=Changed(problem.prior, change, below))


@SAMPLERS
@pytest.mark.parametrize("below", [30.0, 1.0, 0.01])
@pytest.mark.parametrize(
    "change",
    [
        lambda s: s * float("nan"),
        lambda s: s * float("inf"),
        lambda s: s * 1e38,
        lambda s: torch.cat([s[:-1], s[-1:] * float("nan")]),
    ],
    ids=["nan", "infinite", "overflow", "nan in one particle"],
)
def test_a_prior_that_breaks_stops_the_run_at_that_noise_level(kind, below, change):
    with pytest.raises(TiltkitError, match="NaN or infinite at noise level") as caught:
        solved(changed(change, below), kind=kind, n=8, levels=12)
    assert short(caught.value)
    level = float(str(caught.value).split("noise level ")[1].split(".\n")[0])
    assert level <= below


@SAMPLERS
def test_a_prior_that_gives_nan_is_not_blamed_on_the_operator(kind):
    problem = changed(lambda s: s * float("nan"), below=1.0)
    problem = replace(problem, likelihood=make(matrix(), plain=True).likelihood)
    with pytest.raises(TiltkitError, match="NaN or infinite") as caught:
        solved(problem, kind=kind, n=4, levels=12)
    assert "prior" in caught.value.hint
    assert "adjoint" not in str(caught.value)


WRONG = {
    "fewer pixels": lambda s: s[:, :3],
    "one for all": lambda s: s[:1],
    "scalar": lambda s: s.sum(),
    "double": lambda s: s.double(),
    "half": lambda s: s.half(),
    "numpy": lambda s: s.numpy(),
    "nothing": lambda s: None,
    "the end of the program": lambda s: sys.exit(),
}


@SAMPLERS
@pytest.mark.parametrize("name", WRONG)
def test_a_score_of_another_shape_or_type_than_the_image_is_a_clear_error(kind, name):
    with pytest.raises(TiltkitError, match="prior") as caught:
        solved(changed(WRONG[name]), kind=kind, n=4, levels=6)
    assert short(caught.value)


@SAMPLERS
@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"channels": 3}, "images with 3 channels, but these images have 6"),
        ({"sigma_range": (5.0, 0.01)}, "5 to 0.01, is empty"),
    ],
)
def test_a_prior_of_other_images_is_an_error_before_its_score_is_evaluated(kind, wrong, complaint):
    def never(score: Tensor) -> Tensor:
        raise AssertionError

    problem = changed(never)
    for name, value in wrong.items():
        setattr(problem.prior, name, value)
    with pytest.raises(TiltkitError, match=complaint):
        solved(problem, kind=kind, n=4, levels=6)
