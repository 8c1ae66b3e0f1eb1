"""Provenance of a result: input, software, weights, settings, command."""

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
    """Return the provenance of a result as plain values.

    Args:
        source: The input file.
        slices: Indices of the slices of the result, in the input.
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
    """Return versions of packages and plugins, platform and number of threads."""
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
        part: {name: digest(path) for name, path in paths.items() if path.exists()}
        for part, paths in recipe.files.items()
    }


def _text(name: str) -> str:
    """Replace bytes that are not UTF-8 by question marks: HDF5 texts cannot contain them."""
    return name.encode(errors="replace").decode()
