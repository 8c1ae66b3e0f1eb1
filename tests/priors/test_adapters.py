"""Foreign networks as priors: their units, their kinds of output, their weights."""

from __future__ import annotations

import re

import pytest
import torch
from safetensors.torch import save_file

from tiltkit.errors import InputError, UsageError
from tiltkit.hookspecs import PriorEntry
from tiltkit.priors.deepinv import DeepinvOptions, deepinv_prior
from tiltkit.priors.module import ModuleOptions, module_prior

ENTRY = PriorEntry(name="x", target="", summary="")
DRUNET = {"in_channels": 1, "out_channels": 1, "nc": (4, 4, 4, 4), "nb": 1}
# Images whose values are independent Gaussians, in the network's units.
MEAN, DEVIATION = 0.4, 0.3

FACTORIES = """
import torch
from torch import nn

MEAN, DEVIATION = 0.4, 0.3

class Gaussian(nn.Module):
    def __init__(self, output):
        super().__init__()
        self.output = output
        self.shift = nn.Parameter(torch.zeros(()))

    def forward(self, x, level):
        mean = MEAN if self.output != "edm" else 0.0
        s = (4 * level).exp() if self.output == "edm" else level
        s = s[:, None, None, None]
        if self.output == "v":
            x = x * (1 + s**2).sqrt()
        if self.output == "edm":
            return torch.zeros_like(x)
        clean = mean + DEVIATION**2 / (DEVIATION**2 + s**2) * (x - mean) + self.shift
        noise = (x - clean) / s
        if self.output == "noise":
            return noise
        if self.output == "score":
            return -noise / s
        if self.output == "v":
            root = (1 + s**2).sqrt()
            return noise / root - s / root * clean
        return clean

def no_network():
    return 3

def fails():
    raise ValueError("no luck")

class Plain(nn.Module):
    def forward(self, x):
        return x

class Smaller(nn.Module):
    def forward(self, x, level):
        return x[..., 1:]
"""


@pytest.fixture
def factory(tmp_path, monkeypatch):
    (tmp_path / "lab_networks.py").write_text(FACTORIES)
    monkeypatch.syspath_prepend(tmp_path)
    return "lab_networks:Gaussian"


def images(n=2, channels=1, size=16):
    return torch.randn(n, channels, size, size + 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("sigma", [0.05, 0.6, 4.0])
@pytest.mark.parametrize("output", ["denoised", "noise", "score", "v"])
def test_every_kind_of_output_gives_the_exact_score_of_a_gaussian(factory, output, sigma):
    # Network values 0 to 1 stand for image values -2 to 6.
    options = ModuleOptions(
        factory=factory, arguments={"output": output}, output=output, low=-2, high=6
    )
    x = images()
    mean, deviation = -2 + 8 * MEAN, 8 * DEVIATION
    expected = -(x - mean) / (deviation**2 + sigma**2)
    found = module_prior(options, ENTRY).score(x, sigma)
    torch.testing.assert_close(found * sigma, expected * sigma, rtol=1e-3, atol=1e-4)


def test_a_raw_edm_network_of_zeros_is_the_denoiser_of_its_sigma_data(factory):
    options = ModuleOptions(
        factory=factory, arguments={"output": "edm"}, output="edm", sigma_data=0.7
    )
    x, sigma = images(), 0.5
    expected = -x / (0.7**2 + sigma**2)
    torch.testing.assert_close(module_prior(options, ENTRY).score(x, sigma), expected)


def test_weights_from_a_file_are_used(factory, tmp_path):
    file = tmp_path / "w.safetensors"
    save_file({"shift": torch.tensor(0.25)}, file)
    plain = ModuleOptions(factory=factory, arguments={"output": "denoised"})
    with_weights = plain.model_copy(update={"weights": file})
    x = images()
    before, after = (module_prior(o, ENTRY).denoise(x, 0.3) for o in (plain, with_weights))
    torch.testing.assert_close(after - before, torch.full_like(x, 0.25))


@pytest.mark.parametrize(
    ("tensors", "what"),
    [({"shift": torch.zeros(2)}, r"must have shape \(\), but has shape \(2,\)"),
     ({}, "but is not there"),
     ({"shift": torch.zeros(()), "more": torch.zeros(1)}, "has no 'more'")],
)  # fmt: skip
def test_weights_of_another_network_are_refused(factory, tmp_path, tensors, what):
    file = tmp_path / "w.safetensors"
    save_file(tensors, file)
    options = ModuleOptions(factory=factory, arguments={"output": "denoised"}, weights=file)
    with pytest.raises(InputError, match=what):
        module_prior(options, ENTRY)


@pytest.mark.parametrize(
    ("name", "what"),
    [("no_network", "made a int"), ("fails", "ValueError: no luck"), ("absent", "be imported")],
)
def test_a_factory_that_makes_no_network_is_named(factory, name, what):
    with pytest.raises(UsageError, match=what):
        module_prior(ModuleOptions(factory=f"lab_networks:{name}"), ENTRY)


@pytest.mark.parametrize(
    ("name", "what"),
    [("Plain", "(1, 1, 64, 64), failed: TypeError"), ("Smaller", "returned (1, 1, 64, 63)")],
)
def test_a_network_that_cannot_denoise_is_refused_when_it_is_made(factory, name, what):
    with pytest.raises(UsageError, match=re.escape(what)):
        module_prior(ModuleOptions(factory=f"lab_networks:{name}"), ENTRY)


def test_scores_are_differentiable(factory):
    prior = module_prior(ModuleOptions(factory=factory, arguments={"output": "denoised"}), ENTRY)
    x = images().requires_grad_()
    prior.score(x, 0.5).sum().backward()
    torch.testing.assert_close(x.grad, torch.full_like(x, -1 / (DEVIATION**2 + 0.25)))


def test_wrong_ranges_are_refused(factory):
    with pytest.raises(ValueError, match="low must be less than high"):
        ModuleOptions(factory=factory, low=1, high=1)
    with pytest.raises(ValueError, match="overlap must be less"):
        ModuleOptions(factory=factory, tile=32, overlap=32)
    with pytest.raises(UsageError, match="6 to 5, is empty"):
        module_prior(ModuleOptions(factory=factory, arguments={"output": "noise"}, sigma_min=6),
                     ENTRY)  # fmt: skip


@pytest.fixture
def drunet(tmp_path):
    """A small network of deepinv and the file of its weights."""
    models = pytest.importorskip("deepinv.models")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = models.DRUNet(**DRUNET, pretrained=None).eval()
    file = tmp_path / "drunet.safetensors"
    save_file(net.state_dict(), file)
    return net, file


def test_a_deepinv_network_gives_what_deepinv_gives(drunet):
    net, file = drunet
    options = DeepinvOptions(denoiser="DRUNet", arguments=DRUNET, weights=file)
    prior, x = deepinv_prior(options, ENTRY), images(size=32)
    assert prior.channels == 1
    with torch.no_grad():
        torch.testing.assert_close(prior.denoise(x, 0.1), net(x, 0.1))


def test_images_in_other_units_are_denoised_alike(drunet):
    _, file = drunet
    unit = DeepinvOptions(denoiser="DRUNet", arguments=DRUNET, weights=file)
    bytes_ = unit.model_copy(update={"low": 10.0, "high": 265.0})
    x = images(size=32)
    one, other = (deepinv_prior(o, ENTRY) for o in (unit, bytes_))
    torch.testing.assert_close(
        other.denoise(10 + 255 * x, 25.5), 10 + 255 * one.denoise(x, 0.1), rtol=1e-4, atol=1e-2
    )


def test_channels_one_by_one_are_those_of_single_images(drunet):
    _, file = drunet
    options = DeepinvOptions(denoiser="DRUNet", arguments=DRUNET, weights=file)
    single = deepinv_prior(options, ENTRY)
    each = deepinv_prior(options.model_copy(update={"per_channel": True}), ENTRY)
    x = images(channels=2, size=32)
    assert each.channels == 0
    expected = torch.cat([single.denoise(x[:, k : k + 1], 0.1) for k in range(2)], dim=1)
    torch.testing.assert_close(each.denoise(x, 0.1), expected)


def test_a_deepinv_network_without_weights_is_refused_and_downloads_nothing():
    pytest.importorskip("deepinv")
    with pytest.raises(UsageError, match="DRUNet is a network, and no weights") as error:
        deepinv_prior(DeepinvOptions(denoiser="DRUNet", arguments=DRUNET), ENTRY)
    assert "prior convert" in error.value.hint


def test_deepinv_denoisers_without_weights_remove_noise_of_the_given_level():
    pytest.importorskip("deepinv")
    prior = deepinv_prior(DeepinvOptions(denoiser="TVDenoiser"), ENTRY)
    clean = torch.zeros(1, 1, 32, 32)
    clean[..., 8:24, 8:24] = 1
    noisy = clean + 0.1 * images(1, 1, 36)[..., :32, :32]
    before, after = ((x - clean).square().mean() for x in (noisy, prior.denoise(noisy, 0.1)))
    assert after < 0.3 * before
    assert "guess" not in prior.value_range


def test_a_noise_blind_denoiser_has_a_note():
    pytest.importorskip("deepinv")
    prior = deepinv_prior(
        DeepinvOptions(denoiser="MedianFilter", arguments={"kernel_size": 3}), ENTRY
    )
    assert "its score is a guess" in prior.value_range


def test_wrong_names_and_arguments_of_deepinv_are_named():
    pytest.importorskip("deepinv")
    with pytest.raises(UsageError, match="no denoiser 'DRUnet'") as error:
        deepinv_prior(DeepinvOptions(denoiser="DRUnet"), ENTRY)
    assert "did you mean 'DRUNet'?" in error.value.hint
    with pytest.raises(UsageError, match="colour"):
        deepinv_prior(DeepinvOptions(denoiser="TVDenoiser", arguments={"colour": 3}), ENTRY)
