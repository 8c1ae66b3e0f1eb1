"""Weights files: what is written is read back bit for bit, and anything else is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tiltkit.digest import digest
from tiltkit.errors import InputError, TiltkitError, UsageError
from tiltkit.priors.network import ScoreUNet
from tiltkit.priors.weights import ARCHITECTURE, load_network, save_network


@pytest.fixture
def net() -> ScoreUNet:
    net = ScoreUNet(widths=(8, 12), blocks=(1, 2), sigma_data=0.4, sigma_max=7.0)
    g = torch.Generator().manual_seed(1)
    for parameter in net.parameters():
        parameter.data = 0.1 * torch.randn(parameter.shape, generator=g)
    return net.to(memory_format=torch.channels_last)


@pytest.fixture
def path(net: ScoreUNet, tmp_path: Path) -> Path:
    path = tmp_path / "prior.safetensors"
    save_network(path, net, {"licence": "BSD-3-Clause"})
    return path


def test_a_network_comes_back_bit_for_bit(net: ScoreUNet, path: Path) -> None:
    again, notes = load_network(path)
    assert notes["licence"] == "BSD-3-Clause"
    assert notes["architecture"] == ARCHITECTURE
    assert again.config == net.config
    for name, value in net.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    x = torch.randn(1, 2, 19, 23, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(again(x, 0.1), net(x, 0.1))


def test_weights_of_half_the_size_load_as_float32(net: ScoreUNet, path: Path) -> None:
    whole = path.stat().st_size
    save_network(path, net, {}, dtype=torch.float16)
    assert path.stat().st_size < 0.6 * whole
    again, _ = load_network(path)
    for name, value in net.state_dict().items():
        found = again.state_dict()[name]
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, value, rtol=1e-3, atol=1e-6)


def test_a_loaded_network_is_ready_to_run_and_not_to_train(path: Path) -> None:
    net, _ = load_network(path)
    assert not net.training
    assert not any(p.requires_grad for p in net.parameters())


def test_the_right_digest_is_accepted_in_either_case(path: Path) -> None:
    load_network(path, sha256=digest(path))
    load_network(path, sha256=digest(path).upper())


def test_a_wrong_digest_is_refused(path: Path) -> None:
    with pytest.raises(InputError, match="sha256 differs") as error:
        load_network(path, sha256="0" * 64)
    assert error.value.hint


def test_one_flipped_bit_changes_the_digest(path: Path) -> None:
    before, content = digest(path), bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="sha256 differs"):
        load_network(path, sha256=before)


@pytest.mark.parametrize("keep", [0, 5, 200, -1])
def test_a_truncated_file_is_refused(path: Path, keep: int) -> None:
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match="damaged"):
        load_network(path)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.safetensors"
    path.write_text("These are not weights at all, but text of some length.")
    with pytest.raises(InputError, match="damaged or no safetensors file"):
        load_network(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.safetensors"):
        load_network(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize("notes", [None, {"architecture": "somebody/else"}])
def test_another_architecture_is_refused(path: Path, notes: dict[str, str] | None) -> None:
    save_file(load_file(path), path, metadata=notes)
    with pytest.raises(TiltkitError, match=r"not 'tiltkit\.ScoreUNet"):
        load_network(path)


@pytest.mark.parametrize(
    "config", ["{}", "no json", '{"colour": 3}', '{"widths": [4], "blocks": 1}']
)
def test_a_config_that_does_not_fit_the_weights_is_refused(path: Path, config: str) -> None:
    save_file(load_file(path), path, metadata={"architecture": ARCHITECTURE, "config": config})
    with pytest.raises(InputError, match="do not fit"):
        load_network(path)


def test_notes_cannot_take_the_place_of_the_config(net: ScoreUNet, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="are taken"):
        save_network(tmp_path / "x.safetensors", net, {"config": "{}"})
