"""Old checkpoints become safetensors, through torch's restricted loader only."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tiltkit.digest import digest
from tiltkit.errors import InputError, UsageError
from tiltkit.priors.weights import write_tensors

__all__ = ["Converted", "convert"]

# Where training programs keep weights, the smoothed ones first: those are meant for use.
KEYS = (
    "ema", "model_ema", "ema_model", "ema_state_dict", "state_dict_ema", "params_ema",
    "state_dict", "model_state_dict", "model", "params", "net", "network", "module",
)  # fmt: skip
PREFIXES = ("module.", "_orig_mod.", "ema_model.", "online_model.", "model.", "net.", "denoiser.")


@dataclass(frozen=True, slots=True)
class Converted:
    """Result of a conversion.

    Attributes:
        key: Key of the weights in the checkpoint; empty for its top.
        prefix: Prefix that was removed from every name.
        tensors: Number of tensors.
        parameters: Number of values in them.
        left_out: Names of entries that are no tensors.
        sha256: Digest of the new file.
        source_sha256: Digest of the old file.
    """

    key: str
    prefix: str
    tensors: int
    parameters: int
    left_out: tuple[str, ...]
    sha256: str
    source_sha256: str


def convert(
    old: Path,
    new: Path,
    *,
    key: str | None = None,
    prefixes: Sequence[str] = PREFIXES,
    notes: Mapping[str, str] | None = None,
) -> Converted:
    """Write the weights of a checkpoint as a safetensors file.

    Args:
        old: File of `torch.save`: .pt, .pth, .ckpt.
        new: The file to write; one that is there is replaced.
        key: Key of the weights, such as ``state_dict`` or ``callbacks.ema``; looked for when
            None, smoothed weights first.
        prefixes: Taken off while every name begins with one of them.
        notes: Notes for the file, such as its licence.

    Raises:
        InputError: The file is none, holds more than weights (code, say), or holds no weights.
        UsageError: No such key.
    """
    found, weights = _weights(_load(old), old, key)
    tensors = {n: v.detach().clone().contiguous() for n, v in weights.items() if _is_tensor(v)}
    prefix = ""
    while start := _shared_prefix(tensors, prefixes):
        tensors = {name.removeprefix(start): value for name, value in tensors.items()}
        prefix += start
    source = digest(old)
    written = {**(notes or {}), "source": old.name, "source_sha256": source, "source_key": found}
    part = new.with_name(new.name + ".part")
    write_tensors(part, tensors, written)
    part.replace(new)
    return Converted(
        found,
        prefix,
        len(tensors),
        sum(t.numel() for t in tensors.values()),
        tuple(str(name) for name, value in weights.items() if not _is_tensor(value)),
        digest(new),
        source,
    )


def _load(path: Path) -> Any:
    if not path.is_file():
        raise InputError(f"There is no file {path}.", "check its name and folder.")
    try:
        # Only tensors and plain containers: a general unpickle would run whatever is inside.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old formats; conversion runs in one thread
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path.name} is refused: it holds more than weights ({_culprit(error)}), and reading"
            " that would run code from the file.",
            "get a file with the weights alone: torch.save(model.state_dict(), FILE).",
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError) as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(
            f"{path.name} cannot be read as a checkpoint of torch: {reason}.",
            "check that it is whole, and that torch.save wrote it.",
        ) from error


def _culprit(error: BaseException) -> str:
    """Name of the type that torch refused, from its message."""
    text = str(error)
    for mark in ("Unsupported global: GLOBAL ", "Unsupported class ", "Unsupported operand "):
        if mark in text:
            return text.split(mark, 1)[1].split()[0].rstrip(".,")
    return "of a kind that torch's restricted loader does not accept"


def _weights(content: Any, path: Path, key: str | None) -> tuple[str, Mapping[str, Any]]:
    """Key of the weights, and the mapping that holds them."""
    if key:
        for part in key.split("."):
            if not isinstance(content, Mapping) or part not in content:
                there = ", ".join(map(str, content)) if isinstance(content, Mapping) else "nothing"
                raise UsageError(f"{path.name} has no {key!r}.", f"at {part!r} there is: {there}.")
            content = content[part]
    if isinstance(content, Mapping) and any(map(_is_tensor, content.values())):
        return key or "", {str(name): value for name, value in content.items()}
    inside = content if isinstance(content, Mapping) else {}
    for name in KEYS:
        if isinstance(inside.get(name), Mapping):
            found, weights = _weights(inside[name], path, None)
            return ".".join(filter(None, (key, name, found))), weights
    raise InputError(
        f"{path.name} holds no weights that can be found; it holds"
        f" {', '.join(map(str, inside)) or type(content).__name__}.",
        "say where they are with --key.",
    )


def _shared_prefix(names: Iterable[str], prefixes: Sequence[str]) -> str:
    """The prefix that every name begins with; empty where there is none."""
    return next((p for p in prefixes if all(name.startswith(p) for name in names)), "")


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)
