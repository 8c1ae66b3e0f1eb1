"""The default denoiser network: any image size, images of a batch apart, exact limits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tiltkit.priors.network import ScoreUNet, pad_to_multiple


def small_net(channels: int = 2) -> ScoreUNet:
    """Make a small network with every weight non-zero, so that nothing is hidden by its start."""
    net = ScoreUNet(channels=channels, widths=(8, 12, 16), blocks=(1, 1, 1))
    g = torch.Generator().manual_seed(3)
    for parameter in net.parameters():
        parameter.data = 0.1 * torch.randn(parameter.shape, generator=g)
    return net.eval().requires_grad_(False)


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", [(32, 32), (37, 53), (9, 64), (3, 5), (1, 1)])
def test_any_image_size_goes_in_and_comes_out(size: tuple[int, int]) -> None:
    x = images(2, 2, *size)
    out = small_net()(x, 0.3)
    assert out.shape == x.shape
    assert out.dtype == torch.float32
    assert out.isfinite().all()


def test_a_number_of_channels_other_than_two() -> None:
    assert small_net(channels=1)(images(1, 1, 16, 24), 0.1).shape == (1, 1, 16, 24)


def test_images_of_a_batch_do_not_depend_on_each_other() -> None:
    net, x = small_net(), images(3, 2, 20, 28)
    sigma = torch.tensor([0.02, 0.3, 4.0])
    together = net(x, sigma)
    for i in range(3):
        torch.testing.assert_close(together[i : i + 1], net(x[i : i + 1], float(sigma[i])))


def test_one_number_for_sigma_equals_the_same_number_for_each_image() -> None:
    net, x = small_net(), images(2, 2, 16, 16)
    torch.testing.assert_close(net(x, 0.2), net(x, torch.full((2,), 0.2)), rtol=0, atol=0)


def test_the_noise_level_changes_the_inner_network() -> None:
    net, x = small_net(), images(1, 2, 16, 16)
    low, high = (net._inner(x, torch.tensor([s])) for s in (0.02, 2.0))
    assert (low - high).abs().max() > 1e-3 * low.abs().max()


def test_almost_no_noise_leaves_the_image_as_it_is() -> None:
    x = images(1, 2, 24, 24)
    torch.testing.assert_close(small_net()(x, 1e-6), x, rtol=0, atol=1e-4)


@pytest.mark.parametrize("sigma", [0.05, 0.5, 5.0])
def test_an_untrained_network_is_the_denoiser_of_a_gaussian_prior(sigma: float) -> None:
    net, x = ScoreUNet(widths=(8, 8), blocks=(1, 1), sigma_data=0.3), images(1, 2, 16, 16)
    with torch.inference_mode():
        torch.testing.assert_close(net(x, sigma), x * 0.09 / (0.09 + sigma**2))


def test_equal_inputs_give_equal_outputs_bit_for_bit() -> None:
    net, x = small_net(), images(2, 2, 33, 17)
    assert torch.equal(net(x, 0.1), net(x, 0.1))


def test_low_precision_stays_far_below_the_noise() -> None:
    net, x, sigma = small_net(), images(1, 2, 32, 32), 0.05
    with torch.autocast("cpu", torch.bfloat16):
        low = net(x, sigma)
    assert low.dtype == torch.float32
    assert (low - net(x, sigma)).square().mean().sqrt() < 0.1 * sigma


def test_every_parameter_gets_a_gradient() -> None:
    net = small_net().requires_grad_(True)
    net(images(2, 2, 16, 16), torch.tensor([0.1, 1.0])).square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_the_config_rebuilds_the_same_network() -> None:
    net = ScoreUNet(widths=(8, 16), blocks=(2, 1), sigma_data=0.25, sigma_min=0.02, sigma_max=3)
    again = ScoreUNet(**net.config)  # type: ignore[arg-type]
    assert again.config == net.config
    again.load_state_dict(net.state_dict())


def test_widths_and_blocks_must_agree() -> None:
    with pytest.raises(ValueError, match="one entry per resolution"):
        ScoreUNet(widths=(8, 16), blocks=(1,))


def test_padding_mirrors_and_leaves_fitting_sizes_alone() -> None:
    x = torch.arange(6.0).reshape(1, 1, 1, 6).expand(1, 1, 6, 6)
    assert pad_to_multiple(x, 8)[0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5, 4, 3]
    assert torch.equal(pad_to_multiple(x, 6), x)


def test_building_a_network_takes_its_numbers_from_the_seed_alone() -> None:
    weights = []
    for _ in range(2):
        with torch.random.fork_rng():
            torch.manual_seed(5)
            weights.append(ScoreUNet(widths=(8,), blocks=(1,)).head.weight)
    assert torch.equal(*weights)
