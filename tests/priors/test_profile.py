"""Images unlike those of training are told from unseen ones of the same kind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tiltkit.errors import TiltkitError
from tiltkit.plugins import load_plugins
from tiltkit.priors.network import ScoreUNet
from tiltkit.priors.profile import Profile, describe, profile_of
from tiltkit.priors.slicewise import slicewise
from tiltkit.priors.weights import load_network, load_profile, save_network
from tiltkit.protocols import TrainingDistance


def blobs(count: int, seed: int, side: int = 48) -> Tensor:
    """Round objects of one brightness each in air (count, 1, side, side)."""
    g = torch.Generator().manual_seed(seed)
    t = torch.linspace(-1, 1, side)
    where, size = (torch.rand(n, count, 5, 1, 1, generator=g) for n in (2, 1))
    where, size = 0.6 * where - 0.3, 0.1 + 0.4 * size[0]
    value = torch.rand(count, 5, 1, 1, generator=g)
    distance = (t[:, None] - where[0]).square() + (t - where[1]).square()
    return (value * (distance < size.square())).amax(1, keepdim=True)


def stripes(count: int, side: int = 48) -> Tensor:
    t = torch.arange(side)
    return torch.stack([((t // (k + 2)) % 2).float().expand(1, side, side) for k in range(count)])


@pytest.fixture(scope="module")
def net() -> ScoreUNet:
    net = ScoreUNet(channels=1, widths=(8, 12), blocks=(1, 1))
    g = torch.Generator().manual_seed(1)
    for parameter in net.parameters():
        parameter.data = 0.1 * torch.randn(parameter.shape, generator=g)
    return net.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def profile(net: ScoreUNet) -> Profile:
    return profile_of([[describe(net, blobs(24, seed), seed)] for seed in range(8)])


def test_held_out_images_of_the_same_kind_are_within_the_limit(
    net: ScoreUNet, profile: Profile
) -> None:
    distances = profile.training_distance(net, blobs(60, seed=100))
    assert (distances > 1).float().mean() < 0.1
    assert distances.median() < 0.9


def test_images_of_another_kind_are_beyond_it(net: ScoreUNet, profile: Profile) -> None:
    assert profile.training_distance(net, stripes(4)).min() > 1
    assert profile.training_distance(net, 3 * blobs(8, seed=100)).median() > 1, "of another scale"


def test_air_and_a_little_noise_hardly_change_the_distance(
    net: ScoreUNet, profile: Profile
) -> None:
    images = blobs(20, seed=100)
    wide = torch.nn.functional.pad(images, (32, 32, 32, 32))
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    bare = profile.training_distance(net, images)
    assert (profile.training_distance(net, wide).median() / bare.median() - 1).abs() < 0.3
    assert (
        profile.training_distance(net, images + 0.01 * noise).median() / bare.median() - 1
    ).abs() < 0.3


def test_the_same_image_has_always_the_same_distance(net: ScoreUNet, profile: Profile) -> None:
    state = torch.random.get_rng_state()
    images = blobs(3, seed=100)
    assert torch.equal(
        profile.training_distance(net, images), profile.training_distance(net, images)
    )
    assert torch.equal(torch.random.get_rng_state(), state), "the global state is left alone"


@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (16, 16), (500, 20)])
def test_any_size_and_empty_images_have_a_distance(
    net: ScoreUNet, profile: Profile, shape: tuple[int, int]
) -> None:
    assert profile.training_distance(net, torch.zeros(2, 1, *shape)).isfinite().all()


def test_a_profile_comes_back_from_the_weights_file(
    net: ScoreUNet, profile: Profile, tmp_path: Path
) -> None:
    path, bare = tmp_path / "with.safetensors", tmp_path / "without.safetensors"
    save_network(path, net, {}, profile)
    save_network(bare, net, {})
    again, images = load_profile(path), blobs(3, seed=100)
    assert again is not None
    same = again.training_distance(load_network(path)[0], images)
    assert torch.equal(same, profile.training_distance(net, images))
    assert load_profile(bare) is None


def test_a_file_with_half_a_profile_is_refused(net: ScoreUNet, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "half.safetensors"
    save_file({**net.state_dict(), "profile.residual.centre": torch.zeros(12)}, path)
    with pytest.raises(TiltkitError, match="lacks"):
        load_profile(path)


def test_a_prior_has_the_profile_of_its_file(
    net: ScoreUNet, profile: Profile, tmp_path: Path
) -> None:
    path = tmp_path / "prior.safetensors"
    for known in (profile, None):
        save_network(path, net, {}, known)
        prior = load_plugins().create("prior", "network", {"weights": str(path)})
        assert isinstance(prior, TrainingDistance)
        found = prior.training_distance(blobs(2, seed=100))
        assert (found is None) == (known is None)
    gaussian = load_plugins().create("prior", "gaussian", {})
    assert not isinstance(gaussian, TrainingDistance)


def test_a_volume_has_the_distance_of_its_middle_plane(
    net: ScoreUNet, profile: Profile, tmp_path: Path
) -> None:
    path = tmp_path / "prior.safetensors"
    save_network(path, net, {}, profile)
    prior = load_plugins().create("prior", "network", {"weights": str(path)})
    volume = torch.stack(list(blobs(6, seed=100)), 1)[None]  # (1, channel, z, y, x)
    around = slicewise(prior, ("xy", "xz"))
    assert isinstance(around, TrainingDistance)
    torch.testing.assert_close(
        around.training_distance(volume), profile.training_distance(net, volume[:, :, 3]),
        rtol=1e-5, atol=0,
    )  # fmt: skip
