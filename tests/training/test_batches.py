"""Training pairs: what they are, that draws repeat, and what augmentation keeps."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from tiltkit.training.augment import draw_crop
from tiltkit.training.batches import Batches, batches, pair
from tiltkit.training.images import Image
from tiltkit.training.learner import loss_of

from .conftest import volume


def source(**changes: object) -> Batches:
    images = [Image(v[None] / 1000, 0.0, "here", str(k)) for k, v in enumerate(volume(0))]
    values = {
        "images": images, "crop": 16, "batch": 4, "augment": "natural",
        "sigma_range": (0.01, 5.0), "sigma_data": 0.3, "seed": 3,
    }  # fmt: skip
    return Batches(**values | changes)


def equal(one: tuple[torch.Tensor, ...], other: tuple[torch.Tensor, ...]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_step_draws_the_same_whenever_and_wherever() -> None:
    assert equal(source()[7], source()[7])
    assert not equal(source()[7], source()[8])
    assert not equal(source()[7], source(seed=4)[7])
    ahead = list(itertools.islice(batches(source(), 5, workers=1, pin=False), 3))
    assert all(equal(batch, source()[5 + k]) for k, batch in enumerate(ahead))


def test_devices_share_one_batch() -> None:
    whole, (even, odd) = source()[2], (source(rank=r, ranks=2)[2] for r in (0, 1))
    for a, b, c in zip(whole, even, odd, strict=True):
        assert torch.equal(a[0::2], b)
        assert torch.equal(a[1::2], c)


def test_noise_levels_fill_the_range_that_is_asked_for() -> None:
    sigma = torch.cat([source(batch=64)[k][2] for k in range(20)])
    assert float(sigma.min()) < 0.02
    assert float(sigma.max()) > 3.0
    assert 0.05 < float(sigma.median()) < 0.2, "a third of sigma_data, mostly"
    assert float(sigma.min()) >= np.float32(0.01)
    assert float(sigma.max()) <= 5


def test_some_pieces_are_too_bright_where_that_is_asked_for() -> None:
    plain = torch.cat([source(batch=64)[k][1] for k in range(4)]).flatten(1).amax(1)
    some = torch.cat([source(batch=64, bright=0.2)[k][1] for k in range(4)]).flatten(1).amax(1)
    changed = some[some != plain] / plain[some != plain]
    assert 0.1 < len(changed) / len(plain) < 0.3
    assert float(changed.min()) > 1
    assert 5 < float(changed.max()) <= 10.01


def test_clean_images_are_their_own_target_and_get_the_noise_asked_for() -> None:
    given = np.zeros((1, 200, 200), np.float32)
    xi = np.random.default_rng(0).standard_normal(given.shape, dtype=np.float32)
    noisy, target = pair(given, 0.0, 0.3, xi)
    np.testing.assert_array_equal(target, given)
    np.testing.assert_allclose(noisy, 0.3 * xi, rtol=1e-6)


def test_noisy_images_give_independent_pairs_of_the_noise_asked_for() -> None:
    rng = np.random.default_rng(0)
    own, level = 0.2, 0.5
    given = (own * rng.standard_normal((1, 600, 600))).astype(np.float32)
    noisy, target = pair(given, own, level, rng.standard_normal(given.shape, dtype=np.float32))
    assert noisy.std() == pytest.approx(level, rel=0.01)
    assert target.var() == pytest.approx(own**2 / (1 - (own / level) ** 2), rel=0.01)
    assert abs(np.corrcoef(noisy.ravel(), target.ravel())[0, 1]) < 0.006


def test_the_loss_of_noisy_images_has_the_minimum_of_clean_ones() -> None:
    """The loss of noisy pairs has its minimum at the best denoiser of clean images."""
    rng = np.random.default_rng(1)
    clean = (0.4 * rng.standard_normal((1, 1, 700, 700))).astype(np.float32)
    own, level = 0.2, 0.5
    given = clean + np.float32(own) * rng.standard_normal(clean.shape, dtype=np.float32)
    noisy, target = pair(given, own, level, rng.standard_normal(clean.shape, dtype=np.float32))
    sigma, noise = torch.tensor([level]), torch.tensor([own])
    factors = np.linspace(0.2, 0.6, 81)
    losses = [
        float(loss_of(torch.from_numpy(np.float32(f) * noisy), torch.from_numpy(target), sigma,
                      noise, 0.4)) for f in factors
    ]  # fmt: skip
    best = 0.4**2 / (0.4**2 + level**2)  # Wiener's
    assert factors[int(np.argmin(losses))] == pytest.approx(best, abs=0.01)


def test_the_loss_of_an_untrained_network_is_one_at_every_level() -> None:
    """EDM's weighting: the preconditioned network starts with a loss of about one everywhere."""
    g = torch.Generator().manual_seed(0)
    data = 0.3
    for level in (0.02, 0.3, 3.0):
        clean = data * torch.randn(4, 1, 200, 200, generator=g)
        noisy = clean + level * torch.randn(clean.shape, generator=g)
        sigma = torch.full((4,), level)
        wiener = noisy * data**2 / (data**2 + level**2)
        loss = loss_of(wiener, clean, sigma, torch.zeros(4), data)
        assert float(loss) == pytest.approx(1.0, rel=0.02)


def test_augmentation_keeps_what_the_images_are() -> None:
    image = volume(0)[0:1] / np.float32(1000)
    both = np.concatenate([image, 0 * image])
    for seed in range(20):
        rng = np.random.default_rng(seed)
        assert draw_crop(image, 16, "natural", rng).shape == (1, 16, 16)
        assert draw_crop(image, 16, "microscopy", rng).min() >= 0
        phased = draw_crop(both, 16, "mri", rng)
        assert phased.shape == (2, 16, 16)
        assert phased.dtype == np.float32
        assert np.hypot(*phased).max() < 1.5
        piece = draw_crop(image, 16, "none", rng)
        assert np.isin(piece, image).all()
    assert any(draw_crop(both, 16, "mri", np.random.default_rng(s))[1].any() for s in range(3))


def test_a_crop_of_the_whole_image_can_be_augmented() -> None:
    image = volume(0, height=16, width=16)[0:1]
    for seed in range(10):
        assert draw_crop(image, 16, "natural", np.random.default_rng(seed)).shape == (1, 16, 16)
