"""Old checkpoints: their weights come out, their code never runs."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from tiltkit.digest import digest
from tiltkit.errors import InputError, UsageError
from tiltkit.priors.convert import convert


def net():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


class Malicious:
    """Creates a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize(
    ("wrap", "key"),
    [(lambda state: state, ""),
     (lambda state: {"state_dict": state, "epoch": 3}, "state_dict"),
     (lambda state: {"model": {k: v * 0 for k, v in state.items()}, "ema": state}, "ema"),
     (lambda state: {"model": {"state_dict": state}}, "model.state_dict")],
)  # fmt: skip
def test_weights_are_found_wherever_training_programs_put_them(tmp_path, wrap, key):
    state = net().state_dict()
    torch.save(wrap(state), tmp_path / "old.pth")
    done = convert(tmp_path / "old.pth", tmp_path / "new.safetensors")
    assert done.key == key
    new = load_file(tmp_path / "new.safetensors")
    assert new.keys() == state.keys()
    for name, value in state.items():
        assert torch.equal(new[name], value), name


def test_shared_prefixes_go_and_others_stay(tmp_path):
    state = {f"module._orig_mod.{k}": v for k, v in net().state_dict().items()}
    torch.save(state, tmp_path / "old.pt")
    done = convert(tmp_path / "old.pt", tmp_path / "new.safetensors")
    assert done.prefix == "module._orig_mod."
    net().load_state_dict(load_file(tmp_path / "new.safetensors"))
    torch.save({"module.a": torch.ones(1), "b": torch.ones(1)}, tmp_path / "old.pt")
    convert(tmp_path / "old.pt", tmp_path / "new.safetensors")
    assert load_file(tmp_path / "new.safetensors").keys() == {"module.a", "b"}


def test_the_new_file_names_its_source(tmp_path):
    torch.save(net().state_dict() | {"step": 7}, tmp_path / "old.ckpt")
    new = tmp_path / "new.safetensors"
    done = convert(tmp_path / "old.ckpt", new, notes={"licence": "MIT"})
    with safe_open(new, "pt") as file:
        notes = file.metadata()
    assert notes["source"] == "old.ckpt"
    assert notes["source_sha256"] == done.source_sha256 == digest(tmp_path / "old.ckpt")
    assert notes["licence"] == "MIT"
    assert done.sha256 == digest(new)
    assert done.left_out == ("step",)
    assert done.tensors == len(net().state_dict())


def test_weights_that_share_memory_are_written_one_by_one(tmp_path):
    a = torch.ones(3, 4)
    torch.save({"a": a, "b": a.T}, tmp_path / "old.pt")
    convert(tmp_path / "old.pt", tmp_path / "new.safetensors")
    assert load_file(tmp_path / "new.safetensors")["b"].shape == (4, 3)


@pytest.mark.parametrize("kind", ["torch", "plain pickle", "old torch"])
def test_code_in_a_checkpoint_is_refused_and_does_not_run(tmp_path, kind):
    mark, old = tmp_path / "mark", tmp_path / "old.pth"
    content = {"weight": torch.ones(2), "extra": Malicious(mark)}
    if kind == "plain pickle":
        old.write_bytes(pickle.dumps(Malicious(mark)))
    else:
        torch.save(content, old, _use_new_zipfile_serialization=kind == "torch")
    with pytest.raises(InputError, match="refused: it holds more than weights") as error:
        convert(old, tmp_path / "new.safetensors")
    assert "state_dict" in error.value.hint
    assert not mark.exists()
    assert not (tmp_path / "new.safetensors").exists()


def test_a_whole_network_is_refused_with_its_class(tmp_path):
    torch.save(net(), tmp_path / "old.pt")
    with pytest.raises(InputError, match=r"torch\.nn\.modules\.container\.Sequential"):
        convert(tmp_path / "old.pt", tmp_path / "new.safetensors")


def damaged(path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"a": torch.ones(100)}, buffer)
    path.write_bytes(buffer.getvalue()[:-300])


def other_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("readme", "no weights")


@pytest.mark.parametrize("make", [damaged, other_zip, lambda p: p.touch()])
def test_what_is_no_checkpoint_is_named(tmp_path, make):
    make(tmp_path / "old.pt")
    with pytest.raises(InputError, match=r"old\.pt"):
        convert(tmp_path / "old.pt", tmp_path / "new.safetensors")


def test_a_key_can_be_chosen_and_a_wrong_one_is_named(tmp_path):
    torch.save({"ema": net().state_dict(), "raw": {"w": torch.ones(1)}}, tmp_path / "old.pt")
    new = tmp_path / "new.safetensors"
    assert convert(tmp_path / "old.pt", new, key="raw").tensors == 1
    with pytest.raises(UsageError, match="has no 'rae'"):
        convert(tmp_path / "old.pt", new, key="rae")
    torch.save({"other": {"w": torch.ones(1)}, "epoch": 1}, tmp_path / "old.pt")
    with pytest.raises(InputError, match="it holds other, epoch"):
        convert(tmp_path / "old.pt", new)
