"""Content of a file: a result with its settings, or the datasets of any HDF5 file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiltkit.io.calibration import load_calibration
from tiltkit.io.reading import (
    further_names,
    is_result,
    open_hdf5,
    read_axes,
    read_finished,
    read_provenance,
    read_recipe,
    read_slice_diagnostics,
    read_title,
    result_shape,
)
from tiltkit.io.sniff import datasets, matching_readers
from tiltkit.plugins import load_plugins
from tiltkit.posterior.verdict import stored_verdict, worst_verdict
from tiltkit.posterior.warnings import group_warnings

if TYPE_CHECKING:
    from tiltkit.plugins import Plugins
    from tiltkit.problem import Note

__all__ = ["describe", "numbered", "summarise"]


def describe(path: Path, plugins: Plugins | None = None) -> Mapping[str, Any]:
    """Describe the content of a file as nested mappings, in the order in which they are printed.

    Args:
        path: A result of tiltkit (complete or not), a calibration, or any other HDF5 file.
        plugins: Plugins with readers; all installed ones when None.

    Raises:
        InputError: The file is missing, is not an HDF5 file, or is damaged.
    """
    with open_hdf5(path) as file:
        result = is_result(file)
        contents = {} if result else datasets(file)
        calibration = file.attrs.get("kind") == "calibration"
    if result:
        return _describe_result(path)
    if calibration:
        return _describe_calibration(path)
    names = matching_readers(path, load_plugins() if plugins is None else plugins)
    return {"kind": "scan" if names else "HDF5 file", "readers": names, "datasets": contents}


def summarise(diagnostics: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Combine the certificates of all slices: one value, or the range over the slices."""
    names = {name: None for slices in diagnostics for name in slices}
    summary: dict[str, Any] = {}
    for name in names:
        values = [slices[name] for slices in diagnostics if name in slices]
        if isinstance(values[0], str):
            distinct = list(dict.fromkeys(values))
            summary[name] = distinct[0] if len(distinct) == 1 else distinct
        elif np.ndim(values[0]) == 0:
            summary[name] = _range(values)
    return summary


def _describe_result(path: Path) -> dict[str, Any]:
    slices, *image = result_shape(path)
    done = read_finished(path)
    reports = [read_slice_diagnostics(path, index) for index in done]
    warnings = group_warnings(one.get("warnings", ()) for one in reports)
    verdict = worst_verdict([stored_verdict(one) for one in reports])
    notes = dict.fromkeys(note for one in reports for note in one.get("notes", ()))
    return {
        "kind": "result",
        "title": read_title(path),
        "slices": slices if len(done) == slices else f"{len(done)} of {slices} (unfinished)",
        "image": " x ".join(str(n) for n in image),
        "axes": {name: units or "-" for name, units in read_axes(path).items()},
        "samples": read_recipe(path)["samples"],
        "further images": ", ".join(further_names(path)) or "none",
        "recipe": read_recipe(path),
        "verdict": {
            "spread and mean": f"{verdict.local.status}: {verdict.local.text}",
            "shares between separate explanations": (
                f"{verdict.shares.status}: {verdict.shares.text}"
            ),
        },
        "warnings": {one.code: str(one) for one, _ in warnings} or "none",
        "notes": numbered(notes) or "none",
        "certificate": summarise(reports),
        "provenance": read_provenance(path),
    }


def _describe_calibration(path: Path) -> dict[str, Any]:
    found = load_calibration(path)
    report = found.report()
    numbers = {
        one["name"]: f"intervals of {one['nominal']:.0%} hold {one['coverage']:.1%}"
        f" ({one['band'][0]:.0%} to {one['band'][1]:.0%} if right)"
        for one in report["regions"]
    }
    return {
        "kind": "calibration",
        "known images": "reference images" if found.plan.kind == "images" else "posterior samples",
        "draws": report["draws"],
        "samples": report["samples"],
        "verdict": report["verdict"],
        "text": report["text"],
        "regions": numbers,
        "factors": report.get("factors", "none"),
        "recipe": dict(found.plan.settings),
        "provenance": dict(found.provenance),
    }


def numbered(notes: Iterable[Note]) -> dict[str, str]:
    """Texts of notes under ``assumed 1``, ``note 2`` and so on: codes can occur more than once."""
    return {
        f"{'assumed' if note.assumed else 'note'} {number}": note.text
        for number, note in enumerate(notes, start=1)
    }


def _range(values: Sequence[float]) -> Any:
    """Return the common value, or minimum and maximum; whole numbers as int."""
    low, high = (int(v) if float(v).is_integer() else v for v in (min(values), max(values)))
    return low if low == high else {"min": low, "max": high}
