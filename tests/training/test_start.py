"""``network.start``: a training that begins with the weights of another one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tiltkit.errors import TiltkitError, UsageError
from tiltkit.priors.network import ScoreUNet
from tiltkit.priors.weights import load_network, save_network
from tiltkit.training.learner import new_network
from tiltkit.training.recipe import TrainRecipe

from .conftest import Recipe


@pytest.fixture
def grey(tmp_path: Path) -> Path:
    """Weights of a network of one channel, none of them zero."""
    net = ScoreUNet(1, (8, 16), (1, 1))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weights in net.parameters():
            weights.copy_(0.1 * torch.randn(weights.shape, generator=generator))
    path = tmp_path / "grey.safetensors"
    save_network(path, net, {})
    return path


def network(recipe: TrainRecipe) -> ScoreUNet:
    return new_network(recipe, 0.3, (0.01, 5.0)).eval()


def test_it_begins_as_the_other_network(folder: Path, recipe: Recipe, grey: Path) -> None:
    x = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    alike = network(recipe(folder, network={"start": str(grey)}))
    fresh = network(recipe(folder))
    given, _ = load_network(grey)
    with torch.no_grad():
        assert torch.equal(alike(x, 0.5), given(x, 0.5))
        assert not torch.allclose(fresh(x, 0.5), given(x, 0.5), atol=1e-3)


def test_of_other_channels_it_takes_those_that_both_have(
    folder: Path, recipe: Recipe, grey: Path
) -> None:
    x = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    both = torch.cat([x, torch.zeros_like(x)], 1)
    grey_net = network(recipe(folder, network={"start": str(grey)}))
    made = recipe(folder, network={"start": str(grey)}, data={"kind": "complex", "augment": "mri"})
    with torch.no_grad():
        real = network(made)(both, 0.5)[:, :1]
        torch.testing.assert_close(real, grey_net(x, 0.5))


def test_weights_that_cannot_be_begun_with_are_refused(
    folder: Path, recipe: Recipe, grey: Path
) -> None:
    with pytest.raises(UsageError, match=r"of widths \[8, 16\] and blocks \[1, 1\]"):
        network(recipe(folder, network={"start": str(grey), "widths": [8, 24]}))
    with pytest.raises(TiltkitError, match="no network weights at"):
        network(recipe(folder, network={"start": "absent.safetensors"}))
