"""Network priors: compiled or not, on any device, the same score."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tiltkit.hookspecs import PriorEntry
from tiltkit.priors.denoiser import NetworkOptions, network_prior, prior_of
from tiltkit.priors.network import ScoreUNet
from tiltkit.priors.weights import save_network
from tiltkit.priors.wrapper import PriorWrapper, fallback_of


def random_network(channels, widths, blocks):
    net = ScoreUNet(channels, widths, blocks)
    g = torch.Generator().manual_seed(3)
    for parameter in net.parameters():
        parameter.data = 0.1 * torch.randn(parameter.shape, generator=g)
    return net.eval().requires_grad_(False)


@pytest.fixture
def network():
    return random_network(2, (8, 16), (2, 1))


@pytest.fixture
def entry(tmp_path, monkeypatch):
    """A plugin's package with the weights of a small network."""
    net = random_network(1, (4,), (1,))
    package = tmp_path / "lab_weights"
    package.mkdir()
    (package / "__init__.py").touch()
    save_network(package / "net.safetensors", net, {})
    monkeypatch.syspath_prepend(tmp_path)
    return PriorEntry(
        name="lab.net", target="", summary="", channels=1, weights="lab_weights:net.safetensors"
    )


def images(n):
    return torch.randn(n, 1, 8, 12, generator=torch.Generator().manual_seed(0))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_a_compiled_network_gives_the_same_score_at_every_noise_level(entry):
    plain, compiled = (
        network_prior(NetworkOptions(precision="float32", compile=chosen), entry)
        for chosen in (False, True)
    )
    for sigma in (2.0, 0.3, 0.04):
        expected = plain.score(images(2), sigma)
        found = compiled.score(images(2), sigma)
        torch.testing.assert_close(found * sigma, expected * sigma, rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("chosen", [False, True])
def test_scores_on_a_gpu_are_those_of_the_cpu(entry, chosen):
    options = NetworkOptions(precision="float32", compile=chosen)
    expected = network_prior(NetworkOptions(precision="float32"), entry).score(images(3), 0.3)
    prior = network_prior(options, entry).to(torch.device("cuda"))
    first = prior.score(images(3).cuda(), 0.3)
    second = prior.score(images(3).cuda(), 0.5)
    assert not torch.equal(first, second)
    torch.testing.assert_close(first.cpu(), expected, rtol=1e-3, atol=1e-3)


class Casts(TorchDispatchMode):
    """Counts conversions to bfloat16."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and out.dtype == torch.bfloat16:
            self.count += isinstance(args[0], torch.Tensor) and args[0].dtype == torch.float32
        return out


def test_low_precision_rounds_weights_once_and_gives_the_bits_of_autocast(network):
    prior = prior_of(network, {}, NetworkOptions(precision="bfloat16"))
    parameters = len(list(network.parameters()))
    x = torch.randn(3, 2, 40, 48, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        expected = network(x, torch.tensor(0.5))
    assert torch.equal(prior.denoise(x, 0.5), expected)
    with Casts() as casts:
        prior.denoise(x, 0.5)
    assert 0 < casts.count < parameters / 4


def test_low_precision_leaves_the_weights_of_the_profile_in_single_precision(network):
    prior_of(network, {}, NetworkOptions(precision="bfloat16"))
    assert {weight.dtype for weight in network.parameters()} == {torch.float32}


def test_the_fallback_of_an_entry_stays_with_its_prior_on_any_device_and_wrapped(entry):
    prior = network_prior(NetworkOptions(), replace(entry, fallback="lab.wide"))
    moved = prior.to(torch.device("cpu"))
    assert fallback_of(moved) == fallback_of(PriorWrapper(moved)) == "lab.wide"
    assert fallback_of(network_prior(NetworkOptions(), entry)) == ""
