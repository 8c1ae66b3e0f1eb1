"""The state of a training on disk, so that it goes on after any interruption."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tiltkit.errors import InputError, MachineError, UsageError
from tiltkit.io.atomic import part_path, publish
from tiltkit.training.learner import Learner
from tiltkit.training.record import Check, Record

__all__ = ["Checkpoint", "load", "refuse_changes", "save"]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """State of a training beside that of the learner.

    Attributes:
        record: Steps, losses and checks so far.
        best: Averaged weights at the best check; empty before the first one.
        settings: Settings that may not change, and the digest of the images.
    """

    record: Record
    best: Mapping[str, Tensor]
    settings: Mapping[str, object]


def save(path: Path, learner: Learner, kept: Checkpoint) -> None:
    """Write the state; what was there stays until the new one is complete."""
    tensors = {
        **_named("net", learner.net.state_dict()),
        **_named("average", learner.average.state_dict()),
        **_named("best", kept.best),
        "losses": torch.tensor(kept.record.losses, dtype=torch.float32),
    }
    for index, values in learner.adam.state_dict()["state"].items():
        tensors |= _named(f"adam/{index}", values)
    plain = asdict(kept.record) | {"losses": None}
    notes = {"record": json.dumps(plain), "settings": json.dumps(kept.settings)}
    part = part_path(path)
    try:
        save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, part, notes)
    except (OSError, SafetensorError) as error:
        part.unlink(missing_ok=True)
        raise MachineError(
            f"The state of the training could not be written to {path}: {error}.",
            "free some space and go on with --resume.",
        ) from error
    publish(part, path)


def load(path: Path, learner: Learner, settings: Mapping[str, object]) -> Checkpoint:
    """Put the learner into the state of a file.

    Raises:
        UsageError: It is of a training with other settings or images.
        InputError: It is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            notes = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        before, plain = json.loads(notes["settings"]), json.loads(notes["record"])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise InputError(
            f"{path} is damaged, or no state of a training.", "start again with --overwrite."
        ) from error
    refuse_changes(path, before, settings)
    _restore(learner, tensors)
    checks = [Check(one["step"], tuple(one["psnr"])) for one in plain["checks"]]
    record = Record(**plain | {"losses": tensors["losses"].tolist(), "checks": checks})
    return Checkpoint(record, _inside("best", tensors), settings)


def refuse_changes(path: Path, before: Mapping[str, Any], now: Mapping[str, object]) -> None:
    """Raise a `UsageError` for a setting that was another one when ``path`` was written."""
    for name, value in json.loads(json.dumps(now)).items():
        if before.get(name) != value:
            raise UsageError(
                f"The training in {path} had {name} = {before.get(name)!r}, not {value!r}.",
                "undo that change, or start again with --overwrite.",
            )


def _restore(learner: Learner, tensors: Mapping[str, Tensor]) -> None:
    learner.net.load_state_dict(_inside("net", tensors))
    learner.average.load_state_dict(_inside("average", tensors))
    parameters = list(learner.net.parameters())
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in _inside("adam", tensors).items():
        index, _, key = name.partition("/")
        like = parameters[int(index)]
        # The fused optimiser takes for granted that its state lies in memory as the weights do.
        same = torch.empty_like(like).copy_(value) if value.shape == like.shape else value
        state.setdefault(int(index), {})[key] = same.detach()
    groups = learner.adam.state_dict()["param_groups"]
    learner.adam.load_state_dict({"state": state, "param_groups": groups})


def _named(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}/{name}": value for name, value in tensors.items()}


def _inside(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}/"
    return {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}
