"""Volumes through priors that see a few neighbouring planes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tiltkit.errors import UsageError
from tiltkit.priors.denoiser import DenoiserPrior
from tiltkit.priors.slicewise import slicewise
from tiltkit.priors.stacked import stacked


def volumes(depth: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(0)
    return torch.randn(2, 1, depth, 6, 7, generator=g)


def prior(channels: int, denoise: object) -> DenoiserPrior:
    return DenoiserPrior(denoise, channels, (0.01, 5.0), "")  # type: ignore[arg-type]


def test_independent_planes_are_denoised_one_by_one() -> None:
    def shrink(x: torch.Tensor, sigma: float) -> torch.Tensor:
        return x.tanh() / (1 + sigma)

    x = volumes(9)
    one_by_one = slicewise(prior(1, shrink)).score(x, 0.3)
    torch.testing.assert_close(stacked(prior(5, shrink)).score(x, 0.3), one_by_one)


@pytest.mark.parametrize("depth", [1, 2, 3, 8])
def test_a_plane_has_its_neighbours_and_mirrored_ones_beyond_the_ends(depth: int) -> None:
    def average(x: torch.Tensor, _: float) -> torch.Tensor:
        return x.mean(1, keepdim=True).expand_as(x)

    x = volumes(depth)
    score = stacked(prior(5, average)).score(x, 1.0)
    padded = np.pad(x.numpy(), [(0, 0), (0, 0), (2, 2), (0, 0), (0, 0)], mode="reflect")
    expected = np.stack([padded[:, :, z : z + 5].mean(2) for z in range(depth)], 2)
    np.testing.assert_allclose((score + x).numpy(), expected, rtol=1e-5, atol=1e-5)


def test_many_particles_at_once_and_one_by_one_have_the_same_scores() -> None:
    def low(x: torch.Tensor, _: float) -> torch.Tensor:
        return x.cumsum(1) / 5

    x, volume_prior = volumes(4), stacked(prior(3, low))
    whole = volume_prior.score(x, 0.5)
    torch.testing.assert_close(whole[1:], volume_prior.score(x[1:], 0.5))
    assert volume_prior.channels == 1


def test_an_even_number_of_planes_has_no_middle() -> None:
    with pytest.raises(UsageError, match="no middle"):
        stacked(prior(4, lambda x, _: x))


@pytest.mark.parametrize("depth", [1, 2, 8])
def test_the_middle_plane_with_its_neighbours_is_what_the_prior_compares(depth: int) -> None:
    class Known:
        channels, sigma_range, value_range = 5, (0.01, 5.0), ""

        def training_distance(self, images: torch.Tensor) -> torch.Tensor:
            assert images.shape[1:] == (5, 6, 7)
            return images[:, 2].mean((1, 2))

        def score(self, x: torch.Tensor, sigma: float) -> torch.Tensor:
            return -x / sigma

        def to(self, device: torch.device) -> Known:
            return self

    x = volumes(depth)
    found = stacked(Known()).training_distance(x)  # type: ignore[attr-defined]
    torch.testing.assert_close(found, x[:, 0, depth // 2].mean((1, 2)))
    assert stacked(prior(5, lambda x, _: x)).training_distance(x) is None  # type: ignore[attr-defined]
