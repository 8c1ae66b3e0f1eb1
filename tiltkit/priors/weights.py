"""Write and read a denoiser network and the profile of its images: one checked safetensors file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from tiltkit.digest import digest
from tiltkit.errors import InputError, UsageError
from tiltkit.priors.network import ScoreUNet
from tiltkit.priors.profile import Profile

ARCHITECTURE = "tiltkit.ScoreUNet/1"
# Prefix of the names of tensors that belong to the profile and not to a layer.
_PROFILE = "profile."


def save_network(
    path: str | Path,
    net: ScoreUNet,
    metadata: Mapping[str, str],
    profile: Profile | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write a network, what is needed to rebuild it and any further notes.

    Args:
        path: file to write, by custom with the suffix .safetensors.
        net: the network.
        metadata: notes such as licence, citation and value range; not "architecture" and
            "config", which say how to rebuild the network.
        profile: profile of its training images, where there is one.
        dtype: of the weights in the file; float16 halves it. The network has float32 in any case.
    """
    taken = {"architecture", "config"} & metadata.keys()
    if taken:
        raise UsageError(
            f"The metadata keys {sorted(taken)} are taken.", "choose other names for your notes."
        )
    notes = {**metadata, "architecture": ARCHITECTURE, "config": json.dumps(net.config)}
    state = net.state_dict()
    tensors = {name: value.detach().to("cpu", dtype).contiguous() for name, value in state.items()}
    if profile:
        tensors |= {_PROFILE + name: value for name, value in profile.tensors().items()}
    write_tensors(path, tensors, notes)


def write_tensors(
    path: str | Path, tensors: Mapping[str, torch.Tensor], notes: Mapping[str, str]
) -> None:
    """Write contiguous tensors of the CPU and notes, with the file mode of the process.

    safetensors' own function makes files that only their owner may read.
    """
    Path(path).write_bytes(save(dict(tensors), metadata=dict(notes)))


def load_network(path: str | Path, sha256: str | None = None) -> tuple[ScoreUNet, dict[str, str]]:
    """Read a network in evaluation mode on the CPU, and the notes that came with it.

    Args:
        path: file that `save_network` wrote.
        sha256: digest that the file must have; None accepts any.

    Raises:
        InputError: the file is missing, damaged, of another architecture or not the one expected.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(
            f"There are no network weights at {path}.",
            "check the path, or install the plugin that brings them again.",
        )
    if sha256 is not None and digest(path) != sha256.lower():
        raise InputError(
            f"{path.name} is not the expected file: its sha256 differs.",
            "download or install it again.",
        )
    notes, tensors = _read(path)
    if notes.get("architecture") != ARCHITECTURE:
        raise InputError(
            f"{path.name} holds weights of {notes.get('architecture')!r}, not {ARCHITECTURE!r}.",
            "use weights that tiltkit wrote, or a tiltkit that has this architecture.",
        )
    try:
        # Initial values would be drawn from the global random state, which is the caller's.
        with torch.device("meta"):
            net = ScoreUNet(**json.loads(notes["config"]))
        weights = {k: v.float() for k, v in tensors.items() if not k.startswith(_PROFILE)}
        net.load_state_dict(weights, assign=True)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"The weights in {path.name} do not fit the network that they describe.",
            "write them again with tiltkit.priors.weights.save_network.",
        ) from error
    return net.eval().requires_grad_(False), notes


def load_profile(path: str | Path) -> Profile | None:
    """The profile of the training images, from a file that `load_network` accepts.

    None where the file has none.

    Raises:
        InputError: a part of it is missing.
    """
    _, tensors = _read(Path(path))
    found = {k.removeprefix(_PROFILE): v for k, v in tensors.items() if k.startswith(_PROFILE)}
    try:
        return Profile.from_tensors(found) if found else None
    except KeyError as error:
        raise InputError(
            f"The profile in {Path(path).name} lacks {error}.",
            "write it again with tiltkit.priors.weights.save_network.",
        ) from error


def _read(path: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    """Read notes and tensors of a safetensors file."""
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path.name} is damaged or no safetensors file.", "download or install it again."
        ) from error
