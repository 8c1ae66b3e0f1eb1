"""Priors of classic kind: patch mixtures, mixtures from files, wavelets."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from tiltkit.errors import InputError
from tiltkit.hookspecs import PriorEntry
from tiltkit.priors.fit_patches import fit_patches, patches_of
from tiltkit.priors.mixture import MixtureOptions, mixture_prior
from tiltkit.priors.patches import PatchMixture, PatchOptions, patches_prior, save_patches
from tiltkit.priors.wavelet import WaveletOptions, wavelet_prior

ENTRY = PriorEntry(name="x", target="", summary="")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def one_gaussian(side=3, channels=1, variance=0.25):
    d = channels * side * side
    return PatchMixture(
        torch.ones(1), torch.full((1, d), 0.5), torch.full((1, d), variance),
        torch.linalg.qr(torch.randn(1, d, d, generator=generator())).Q, channels, side,
    )  # fmt: skip


def cartoon(n=6, size=40):
    """Rectangles of random place and brightness."""
    g = generator(4)
    out = torch.zeros(n, 1, size, size)
    for image in out:
        for _ in range(5):
            top, left = torch.randint(0, size - 12, (2,), generator=g).tolist()
            image[0, top : top + 12, left : left + 16] = torch.rand((), generator=g)
    return out


@pytest.fixture(scope="module")
def fitted():
    g = generator()
    patches = patches_of(list(cartoon()), 4, 4000, g)
    return list(fit_patches(patches, channels=1, side=4, components=8, steps=12, generator=g))


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("shape", [(2, 1, 12, 17), (1, 1, 9, 9), (1, 2, 3, 4)])
def test_independent_pixels_make_the_average_of_patches_exact(shape, stride):
    x = torch.randn(shape, generator=generator())
    found = one_gaussian(channels=shape[1]).denoise(x, 0.3, stride)
    expected = 0.5 + 0.25 / (0.25 + 0.09) * (x - 0.5)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_the_posterior_mean_of_patches_is_that_of_the_mixture(fitted):
    """Against the same mean by full covariance matrices."""
    mixture, sigma = fitted[-1].mixture, 0.2
    y = torch.rand(5, 16, generator=generator()).double()
    eye = sigma**2 * torch.eye(16, dtype=torch.float64)
    logs, means = [], []
    for k in range(8):
        axes, mean = mixture.axes[k].double(), mixture.means[k].double()
        c = axes @ torch.diag(mixture.variances[k].double()) @ axes.T
        law = torch.distributions.MultivariateNormal(mean, c + eye)
        logs.append(mixture.weights[k].double().log() + law.log_prob(y))
        means.append(mean + (y - mean) @ torch.linalg.solve(c + eye, c))
    share = torch.stack(logs).softmax(0)
    expected = (share[..., None] * torch.stack(means)).sum(0)
    found = mixture.posterior_mean(y.float(), sigma)
    torch.testing.assert_close(found, expected.float(), rtol=1e-3, atol=1e-3)


def test_further_steps_of_the_fit_raise_the_likelihood(fitted):
    values = [fit.log_likelihood for fit in fitted]
    assert all(b > a - 1e-2 for a, b in pairwise(values))
    assert [fit.step for fit in fitted] == [5, 10, 12]
    assert values[-1] > values[0]


def test_a_fitted_mixture_denoises_images_of_its_kind(fitted, tmp_path):
    file = tmp_path / "patches.safetensors"
    save_patches(file, fitted[-1].mixture, {"fitted_to": "rectangles"})
    prior = patches_prior(PatchOptions(file=file), ENTRY)
    clean = cartoon(8)[6:]
    noisy = clean + 0.1 * torch.randn(clean.shape, generator=generator(9))
    error = (prior.denoise(noisy, 0.1) - clean).square().mean()
    assert error < 0.25 * 0.1**2
    coarse = patches_prior(PatchOptions(file=file, stride=2), ENTRY)
    assert (coarse.denoise(noisy, 0.1) - clean).square().mean() < 1.3 * error


def test_patches_that_cannot_be_fitted_are_refused():
    with pytest.raises(InputError, match="cannot be fitted"):
        next(fit_patches(torch.ones(50, 9), channels=1, side=3, components=4, steps=1,
                         generator=generator()))  # fmt: skip
    with pytest.raises(InputError, match="An image has 3 x 3 pixels"):
        patches_of([torch.zeros(1, 3, 3)], 4, 10, generator())
    with pytest.raises(InputError, match="has 2 channels, the first one 1"):
        patches_of([torch.zeros(1, 9, 9), torch.zeros(2, 9, 9)], 4, 10, generator())


@pytest.mark.parametrize("kind", ["npz", "h5", "safetensors"])
def test_a_mixture_from_a_file_has_the_score_of_its_formula(tmp_path, kind):
    means = np.random.default_rng(0).normal(size=(3, 1, 4, 5)).astype(np.float32)
    arrays = {"means": means, "variance": np.float32([0.2]), "weights": np.float32([1, 2, 3])}
    path = tmp_path / f"m.{kind}"
    if kind == "npz":
        np.savez(path, **arrays)
    elif kind == "h5":
        import h5py

        with h5py.File(path, "w") as file:
            for name, value in arrays.items():
                file[name] = value
    else:
        from safetensors.numpy import save_file

        save_file(arrays, path)
    prior = mixture_prior(MixtureOptions(file=path), ENTRY)
    x = torch.randn(2, 1, 4, 5, generator=generator()).double().requires_grad_()
    distance = (x.flatten(1)[:, None] - torch.from_numpy(means).double().flatten(1)).square().sum(2)
    variance = np.float64(np.float32(0.2)) + 0.3**2
    log = torch.tensor([1.0, 2, 3]).double().log() - distance / (2 * variance)
    log.logsumexp(1).sum().backward()
    found = prior.score(x.detach().float(), 0.3)
    torch.testing.assert_close(found, x.grad.float(), rtol=1e-4, atol=1e-4)
    assert prior.channels == 1


@pytest.mark.parametrize(
    ("arrays", "what"),
    [({"means": np.zeros((2, 1, 4, 4))}, "has no variance"),
     ({"means": np.zeros((2, 4)), "variance": 1.0}, "has means"),
     ({"means": np.zeros((2, 1, 4, 4)), "variance": -1.0}, "variance in .* is -1"),
     ({"means": np.zeros((2, 1, 4, 4)), "variance": 1.0, "weights": np.ones(3)}, "weights")],
)  # fmt: skip
def test_a_file_that_is_no_mixture_is_refused(tmp_path, arrays, what):
    np.savez(tmp_path / "m.npz", **arrays)
    with pytest.raises(InputError, match=what):
        mixture_prior(MixtureOptions(file=tmp_path / "m.npz"), ENTRY)


@pytest.mark.parametrize("shape", [(1, 1, 40, 40), (2, 2, 33, 21), (1, 1, 16, 16)])
def test_wavelets_take_noise_away_and_leave_clean_constants(shape):
    prior = wavelet_prior(WaveletOptions(), ENTRY)
    flat = torch.full(shape, 0.7)
    torch.testing.assert_close(prior.denoise(flat, 0.1), flat)
    noisy = flat + 0.1 * torch.randn(shape, generator=generator())
    assert (prior.denoise(noisy, 0.1) - flat).square().mean() < 0.2 * 0.1**2


def test_wavelets_do_not_care_about_shifts_or_phases():
    prior = wavelet_prior(WaveletOptions(wavelet="haar", levels=2), ENTRY)
    x = torch.randn(1, 2, 48, 48, generator=generator())
    out, moved = prior.denoise(x, 0.5), prior.denoise(x.roll(3, -1), 0.5)
    torch.testing.assert_close(
        out.roll(3, -1)[..., 16:32, 16:32], moved[..., 16:32, 16:32], rtol=1e-4, atol=1e-5
    )
    turned = torch.stack([-x[:, 1], x[:, 0]], dim=1)  # by 90 degrees
    expected = torch.stack([-out[:, 1], out[:, 0]], dim=1)
    torch.testing.assert_close(prior.denoise(turned, 0.5), expected, rtol=1e-4, atol=1e-5)


def test_an_unknown_wavelet_is_refused():
    with pytest.raises(ValueError, match="orthogonal wavelet of PyWavelets"):
        WaveletOptions(wavelet="bior2.2")
