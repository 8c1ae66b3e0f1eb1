"""Reading of result files: settings, slices, provenance."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from tiltkit.errors import InputError
from tiltkit.io.diagnostics import COMPLETE, members, read_diagnostics
from tiltkit.io.opening import is_hdf5, open_hdf5, raised_by_h5py, unreadable
from tiltkit.posterior.outcome import FurtherImage
from tiltkit.posterior.verdict import stored_verdict, worst_verdict
from tiltkit.posterior.warnings import group_warnings
from tiltkit.protocols import Estimate

__all__ = [
    "check_finished", "further_names", "is_hdf5", "is_result", "open_hdf5", "open_result",
    "read_axes", "read_diagnostics_of", "read_estimate", "read_findings", "read_finished",
    "read_further", "read_provenance", "read_recipe", "read_scan_pictures",
    "read_slice_diagnostics", "read_steps", "read_title", "read_units", "result_shape", "tree",
]  # fmt: skip


@contextmanager
def open_result(path: Path) -> Iterator[h5py.File]:
    """Open a result file read-only.

    Raises:
        InputError: It cannot be read, is no result of tiltkit, or lacks what all results have.
    """
    with open_hdf5(path) as file:
        if not is_result(file):
            raise InputError(
                f"{path} is not a result of tiltkit.", "give the file that 'tiltkit run' wrote."
            )
        try:
            yield file
        except KeyError as error:
            if raised_by_h5py(error):
                raise unreadable(path, error) from error
            raise


def is_result(file: h5py.File) -> bool:
    """Return whether tiltkit wrote this file."""
    return file.attrs.get("creator") == "tiltkit" and "entry/reconstruction" in file


def result_shape(path: Path) -> tuple[int, ...]:
    """Return the shape (slices, *image) of a result file."""
    with open_result(path) as file:
        return tuple(file["entry/data/data"].shape)


def read_finished(path: Path) -> list[int]:
    """Return the positions of the finished slices of a result."""
    with open_result(path) as file:
        flags = file["entry/diagnostics"][COMPLETE][:]
        finished: list[int] = np.flatnonzero(flags).tolist()
        return finished


def check_finished(path: Path) -> None:
    """Check that all slices of a result are finished.

    Raises:
        InputError: The result cannot be read, or is not finished.
    """
    slices, done = result_shape(path)[0], len(read_finished(path))
    if done < slices:
        raise InputError(
            f"{path} has {done} of {slices} slices.",
            "finish it first: run the same command with --resume.",
        )


def read_title(path: Path) -> str:
    """Return the title of a result."""
    with open_result(path) as file:
        return str(file["entry/title"].asstr()[()])


def read_recipe(path: Path) -> dict[str, Any]:
    """Return the resolved settings of a result, as a recipe for another run."""
    with open_result(path) as file:
        text = file["entry/reconstruction/configuration/data"][()]
    try:
        recipe: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise unreadable(path, error) from error
    return recipe


def read_provenance(path: Path) -> dict[str, Any]:
    """Return input, versions, plugins and command of a result as nested mappings."""
    with open_result(path) as file:
        return tree(file["entry/reconstruction/parameters"])


def read_axes(path: Path) -> dict[str, str]:
    """Return the units of the axes of an image stack by name, slices first."""
    with open_result(path) as file:
        data = file["entry/data"]
        return {str(name): str(data[name].attrs.get("units", "")) for name in data.attrs["axes"]}


def read_units(path: Path) -> str:
    """Return the unit of the image values of a result; empty for arbitrary units."""
    with open_result(path) as file:
        return str(file["entry/data/data"].attrs["units"])


def read_steps(path: Path) -> tuple[float, ...]:
    """Return the step between neighbours along every axis, slices first; 1 for a single one."""
    with open_result(path) as file:
        data = file["entry/data"]
        axes = [data[name][:2] for name in data.attrs["axes"]]
    return tuple(float(abs(np.diff(ends)[0])) if len(ends) > 1 else 1.0 for ends in axes)


def further_names(path: Path) -> list[str]:
    """Return the names of the further images of a result, such as ``snr``."""
    with open_result(path) as file:
        return list(file["entry"].get("further", ()))


def read_estimate(path: Path, index: int, cut: tuple[int | slice, ...] = ()) -> Estimate:
    """Read one slice of a result.

    Args:
        path: The result file, complete or not.
        index: Position of the slice in the result.
        cut: Which part of the image, as an array index; all of it when empty.

    Raises:
        InputError: No such file, not a result, or the slice is not finished or not there.
    """
    with open_result(path) as file:
        entry = file["entry"]
        complete = entry["diagnostics"][COMPLETE][:]
        if not 0 <= index < len(complete):
            raise InputError(
                f"{path} has no slice {index}; it has {len(complete)}.", "count slices from 0."
            )
        if not complete[index]:
            raise InputError(f"Slice {index} of {path} is not finished.", "run with --resume.")
        levels = entry["quantiles/level"][:]
        quantiles = entry["quantiles/quantiles"][(slice(None), index, *cut)]
        return Estimate(
            mean=entry["data/data"][(index, *cut)],
            std=entry["data/data_errors"][(index, *cut)],
            quantiles=dict(zip(levels.tolist(), quantiles, strict=True)),
            samples=entry["samples/samples"][(slice(None), index, *cut)],
            baseline=entry["baseline/baseline"][(index, *cut)],
            diagnostics=read_diagnostics(entry, index),
        )


def read_further(
    path: Path, index: int | None = None, cut: tuple[int | slice, ...] = ()
) -> dict[str, FurtherImage]:
    """Read the further images of a result by name.

    Args:
        path: The result file.
        index: Position of the slice in the result; all slices when None.
        cut: Which part of the image, as an array index; all of it when empty.
    """
    found = {}
    with open_result(path) as file:
        group, axes = file["entry"].get("further", {}), file["entry/data/data"].ndim
        for name, plot in group.items():
            dataset = plot[name]
            at = (slice(None) if index is None else index, *cut)
            values = dataset[(slice(None), *at) if dataset.ndim > axes else at]
            texts = (str(dataset.attrs[key]) for key in ("long_name", "units"))
            found[name] = FurtherImage(values, *texts)
    return found


def read_slice_diagnostics(path: Path, index: int) -> dict[str, Any]:
    """Read the certificate of one slice of a result, without its images."""
    with open_result(path) as file:
        return read_diagnostics(file["entry"], index)


read_diagnostics_of = read_slice_diagnostics  # the former name, until release 0.3


def read_findings(path: Path) -> str:
    """Read the certificate of all slices in words: warnings, and the verdict on what is right."""
    reports = [read_slice_diagnostics(path, i) for i in range(result_shape(path)[0])]
    found = [str(one) for one, _ in group_warnings(one.get("warnings", ()) for one in reports)]
    verdict = worst_verdict([stored_verdict(one) for one in reports]).sentence()
    return " ".join([*found, verdict]).strip()


def read_scan_pictures(path: Path) -> dict[str, NDArray[np.float32]]:
    """Read the pictures of the scan that `Layout.metadata` has, such as its PSF, by name."""
    with open_result(path) as file:
        group = file.get("entry/scan_header/pictures", {})
        return {name: np.asarray(item[()], np.float32) for name, item in members(group)}


def tree(group: h5py.Group) -> dict[str, Any]:
    """Read groups and datasets as nested mappings of plain Python values."""
    return {
        str(item.attrs.get("key", name)): tree(item)
        if isinstance(item, h5py.Group)
        else _plain(item[()])
        for name, item in members(group)
    }


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, np.ndarray):
        return [_plain(item) for item in value.tolist()]
    return value.item() if isinstance(value, np.generic) else value
