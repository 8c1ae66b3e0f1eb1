"""Check that a result belongs to a run: same settings, same input, same shape."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiltkit.errors import UsageError
from tiltkit.io.reading import read_provenance, read_recipe, result_shape

__all__ = ["check_same_run", "same_run"]

# Settings that change speed and rounding only.
_FREE = ("device", "memory_gb", "swmr", "threads")


def same_run(
    result: Path,
    shape: tuple[int, ...],
    recipe: Mapping[str, Any],
    provenance: Mapping[str, Any],
    *,
    refuse: bool,
) -> bool:
    """Return whether a result is of this run; with ``refuse``, raise an error if it is not."""
    try:
        check_same_run(result, shape, recipe, provenance)
    except UsageError:
        if refuse:
            raise
        return False
    return True


def check_same_run(
    result: Path,
    shape: tuple[int, ...],
    recipe: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> None:
    """Check that a file is of this run, so that two runs are never mixed.

    Raises:
        UsageError: Settings, input or image shape differ from those of the file.
    """
    old, old_shape = read_provenance(result), result_shape(result)
    start_again = "use --overwrite to start again, or the settings and input of the first run."
    # Files are compared by digest, not by path; older results have no digests.
    new_files = provenance.get("files_sha256", {})
    old_files = old.get("files_sha256", new_files)
    files = {f"{part}.{name}" for part, options in new_files.items() for name in options}
    changed = _changed(read_recipe(result), json.loads(json.dumps(dict(recipe), default=str)))
    if settings := [name for name in changed if name not in files]:
        raise UsageError(
            f"{result} was made with other settings: {', '.join(settings)}.", start_again
        )
    for key in ("raw_sha256", "weights_sha256"):
        if old.get(key, "") != provenance.get(key, ""):
            what = "input file" if key == "raw_sha256" else "prior"
            raise UsageError(f"{result} was made from another {what} ({key} differs).", start_again)
    if others := _changed(old_files, new_files):
        raise UsageError(
            f"{result} was made with another file for {', '.join(others)} (sha256 differs).",
            start_again,
        )
    if old_shape != shape:
        raise UsageError(f"{result} holds {old_shape} images, this run gives {shape}.", start_again)


def _changed(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Dotted names of the settings that differ."""
    names: list[str] = []
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            names += _changed(a, b, f"{prefix}{key}.")
        elif a != b:
            names.append(f"{prefix}{key}")
    return [name for name in names if name not in _FREE]
