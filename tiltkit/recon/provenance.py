"""Where a result comes from: the input, the software, the weights and the command."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tiltkit.digest import digest

if TYPE_CHECKING:
    from tiltkit.config import Recipe
    from tiltkit.plugins import Plugins

__all__ = ["provenance", "software"]

_PACKAGES = ("tiltkit", "torch", "numpy", "h5py")


def provenance(
    source: Path, slices: Sequence[int], plugins: Plugins, recipe: Recipe, command: str
) -> dict[str, Any]:
    """Plain values for the result file.

    Args:
        source: The input file.
        slices: Numbers, in the input, of the slices that the result holds.
        plugins: All plugins.
        recipe: The resolved recipe.
        command: The command line.
    """
    stat = source.stat()
    prior = plugins.get("prior", recipe.prior["name"])
    return {
        "command": _text(command),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "raw_file": _text(source.name),
        "raw_path": _text(str(source.resolve())),
        "raw_size": stat.st_size,
        "raw_modified": datetime.fromtimestamp(stat.st_mtime, UTC).isoformat(timespec="seconds"),
        "raw_sha256": digest(source),
        "slices": list(slices),
        "weights_sha256": getattr(prior, "sha256", ""),
        "files_sha256": _files(recipe),
        **software(plugins),
    }


def software(plugins: Plugins) -> dict[str, Any]:
    """Versions of packages and plugins, and the platform."""
    return {
        "versions": {name: version(name) for name in _PACKAGES}
        | {"python": sys.version.split()[0]},
        "plugins": {p.distribution: p.version for p in plugins.plugins if p.status == "ok"},
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
    }


def _files(recipe: Recipe) -> dict[str, dict[str, str]]:
    """Digests of the files that options name, by part of the recipe and option."""
    return {
        part: {name: digest(path) for name, path in named.items() if path.exists()}
        for part, named in recipe.files.items()
    }


def _text(name: str) -> str:
    """A name in bytes that are no UTF-8, which HDF5 has no place for, with question marks."""
    return name.encode(errors="replace").decode()
