"""deepinv physics as operators: adjoint, copies, traps, and a whole run."""

from __future__ import annotations

import pytest
import torch

from tiltkit.errors import InputError, TiltkitError, UsageError
from tiltkit.likelihoods import GaussianLikelihood
from tiltkit.operators.deepinv import DeepinvOperator
from tiltkit.priors.closed_form import Mixture
from tiltkit.problem import Problem
from tiltkit.sampling.particles.rng import ParticleRng
from tiltkit.sampling.run import run
from tiltkit.sampling.samplers.walmc import Walmc, WalmcOptions
from tiltkit.sampling.target import Target

physics = pytest.importorskip("deepinv.physics")
NY, NX = 12, 10


def mask():
    g = torch.Generator().manual_seed(0)
    return (torch.rand(1, 1, NY, NX, generator=g) < 0.4).float()


def make(name):
    g = torch.Generator().manual_seed(1)
    if name == "mri":
        return physics.MRI(mask=mask(), img_size=(NY, NX)), (2, NY, NX)
    if name == "multi-coil mri":
        maps = torch.randn(1, 3, NY, NX, dtype=torch.complex64, generator=g)
        return physics.MultiCoilMRI(mask=mask(), coil_maps=maps, img_size=(NY, NX)), (2, NY, NX)
    if name == "blur":
        kernel = torch.rand(1, 1, 3, 3, generator=g)
        return physics.BlurFFT((1, NY, NX), filter=kernel / kernel.sum()), (1, NY, NX)
    if name == "inpainting":
        return physics.Inpainting((1, NY, NX), mask=mask()[0]), (1, NY, NX)
    return physics.Tomography(angles=7, img_width=12, normalize=False), (1, 12, 12)


NAMES = ["mri", "multi-coil mri", "blur", "inpainting", "tomography"]


def matrix(operator):
    """The operator as a matrix, column by column."""
    pixels = torch.eye(torch.Size(operator.shape).numel())
    return operator.forward(pixels.view(-1, *operator.shape)).T


@pytest.mark.parametrize("name", NAMES)
def test_the_adjoint_is_the_transposed_matrix(name):
    operator = DeepinvOperator(*make(name))
    a = matrix(operator)
    columns = operator.adjoint(torch.eye(len(a)))
    torch.testing.assert_close(columns.flatten(1), a, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_a_solve_in_inference_mode_inverts_the_shifted_normal_operator(name):
    operator = DeepinvOperator(*make(name))
    b = torch.randn(3, *operator.shape, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        x = operator.solve(0.5, 2.0, b)
        torch.testing.assert_close(0.5 * x + 2 * operator.normal(x), b, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_measurements_of_the_physics_are_laid_out_as_forward_does(name):
    original, shape = make(name)
    operator = DeepinvOperator(original, shape)
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(operator.gather(original.A(x)), operator.forward(x))


def test_values_that_a_mask_sets_to_zero_are_not_measured():
    operator = DeepinvOperator(*make("mri"))
    assert operator.forward(torch.ones(1, 2, NY, NX)).shape == (1, 2 * int(mask().sum()))


def test_later_changes_of_the_physics_do_not_change_the_operator():
    original, shape = make("mri")
    operator = DeepinvOperator(original, shape)
    x = torch.randn(1, *shape, generator=torch.Generator().manual_seed(4))
    before = operator.forward(x)
    original.update(mask=torch.ones(1, 1, NY, NX))
    torch.testing.assert_close(operator.forward(x), before)


def test_the_noise_model_of_the_physics_is_left_out():
    original, shape = make("inpainting")
    original.noise_model = physics.GaussianNoise(10.0)
    x = torch.ones(1, *shape)
    assert DeepinvOperator(original, shape).forward(x).unique().tolist() == [1.0]


def test_a_wrong_adjoint_is_refused_with_a_hint():
    tomography = physics.Tomography(
        angles=7, img_width=12, normalize=False, adjoint_via_backprop=False
    )
    with pytest.raises(UsageError, match="not the adjoint of A") as caught:
        DeepinvOperator(tomography, (1, 12, 12))
    assert "adjoint_via_backprop=True" in caught.value.hint


@pytest.mark.parametrize("shape", [(1, NY, NX), (3, NY, NX)])
def test_images_that_do_not_fit_the_physics_are_refused(shape):
    with pytest.raises(TiltkitError, match="MRI"):
        DeepinvOperator(make("mri")[0], shape)


def test_what_is_no_linear_physics_is_refused():
    with pytest.raises(UsageError, match="Linear is no linear physics"):
        DeepinvOperator(torch.nn.Linear(2, 2), (1, 2))


def test_a_measurement_of_another_shape_is_refused():
    operator = DeepinvOperator(*make("mri"))
    with pytest.raises(InputError, match="measurement has shape"):
        operator.gather(torch.ones(1, 2, 4, 4))


def test_a_run_with_a_blur_samples_the_exact_gaussian_posterior():
    g = torch.Generator().manual_seed(5)
    kernel = torch.tensor([[1.0, 2, 1]])[None, None]
    blur = DeepinvOperator(physics.BlurFFT((1, 4, 4), filter=kernel / kernel.sum()), (1, 4, 4))
    prior = Mixture(torch.rand(1, 1, 4, 4, generator=g), 0.5, torch.ones(1), (0.02, 20.0))
    noise = 0.2
    truth = prior.means + 0.5**0.5 * torch.randn(1, 1, 4, 4, generator=g)
    y = blur.forward(truth) + noise * torch.randn(1, 16, generator=g)
    problem = Problem(
        prior, GaussianLikelihood(blur, y, noise**2), (1, 4, 4), lambda x: x, torch.zeros(4, 4)
    )
    a = matrix(blur).double()
    covariance = torch.linalg.inv(2 * torch.eye(16) + a.T @ a / noise**2)
    mean = covariance @ (2 * prior.means.double().flatten() + a.T @ y[0].double() / noise**2)

    n = 300
    sampler = Walmc(WalmcOptions(levels=60, collect=1))
    target = Target(problem, n, n)
    *_, (state, _) = run(target, sampler, ParticleRng([0], n, target.device))
    x = sampler.images(target, state).flatten(1).double()
    std = covariance.diagonal().sqrt()
    assert ((x.mean(0) - mean) / std).abs().max() < 5 / n**0.5
    correlation = (x.T.cov() - covariance) / torch.outer(std, std)
    assert correlation.abs().max() < 6 * (1 / n) ** 0.5
