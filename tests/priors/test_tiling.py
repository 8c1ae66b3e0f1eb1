"""Tiles: every pixel, no more memory, the same image."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from tiltkit.hookspecs import PriorEntry
from tiltkit.priors.denoiser import NetworkOptions, network_prior
from tiltkit.priors.network import ScoreUNet
from tiltkit.priors.tiling import tiled
from tiltkit.priors.weights import save_network


def images(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [(40, 33), (65, 200), (32, 32), (97, 20)])
@pytest.mark.parametrize("overlap", [0, 5, 16])
def test_tiles_do_not_change_a_denoiser_of_single_pixels(size, overlap):
    x = images(2, 1, *size)
    seen = []

    def denoise(part, sigma):
        seen.append(part.shape)
        return sigma * part.tanh()

    out = tiled(denoise, 32, overlap)(x, 0.5)
    torch.testing.assert_close(out, 0.5 * x.tanh())
    assert all(max(shape[-2:]) <= 32 for shape in seen)


def test_tiles_hardly_change_a_denoiser_with_a_field_of_less_than_half_the_overlap():
    kernel = torch.ones(1, 1, 7, 7) / 49

    def blur(x, _sigma):
        return F.conv2d(F.pad(x, (3, 3, 3, 3), mode="reflect"), kernel)

    x = images(1, 1, 150, 130)
    error = (tiled(blur, 64, 24)(x, 1.0) - blur(x, 1.0)).square().mean()
    assert error < 1e-3 * blur(x, 1.0).square().mean()


def test_tiles_of_a_network_cost_less_than_a_twentieth_of_a_decibel(tmp_path, monkeypatch):
    """A network trained for a moment, so that it denoises by what it sees around a pixel."""
    net = trained()
    package = tmp_path / "lab_tiles"
    package.mkdir()
    (package / "__init__.py").touch()
    save_network(package / "net.safetensors", net, {})
    monkeypatch.syspath_prepend(tmp_path)
    entry = PriorEntry(name="lab.n", target="", summary="", weights="lab_tiles:net.safetensors")
    clean = waves(1, 320)
    noisy = clean + 0.3 * images(*clean.shape)
    levels = []
    for tile in (None, 256):
        prior = network_prior(NetworkOptions(precision="float32", tile=tile), entry)
        error = (prior.denoise(noisy, 0.3) - clean).square().mean()
        levels.append(-10 * math.log10(float(error)))
    assert levels[0] > 14, "better than the noisy image by 4 dB"
    assert levels[1] == pytest.approx(levels[0], abs=0.05)


def waves(n, size):
    g = torch.Generator().manual_seed(7)
    y, x = torch.meshgrid(torch.arange(size) / 12.0, torch.arange(size) / 12.0, indexing="ij")
    a = 2 * torch.rand(n, 1, 1, 1, 3, generator=g)
    return torch.sin(a[..., 0] * y + a[..., 1] * x + 3 * a[..., 2]).view(n, 1, size, size)


def trained() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = ScoreUNet(channels=1, widths=(8, 12), blocks=(1, 1), sigma_data=0.7)
        optimiser = torch.optim.Adam(net.parameters(), 3e-3)
        for _ in range(60):
            clean = waves(8, 48)
            loss = (net(clean + 0.3 * torch.randn(clean.shape), 0.3) - clean).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return net.eval()
