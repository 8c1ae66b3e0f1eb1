"""Layout of a result file: groups and empty datasets, according to the NeXus standard.

Every image quantity has a group of class NXdata, which viewers can plot. Datasets are allocated in
full at creation: a disk that is too small raises an error before the run starts, and a run that is
killed while it writes cannot damage data written before.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from tiltkit.io.diagnostics import early_allocation
from tiltkit.posterior.outcome import QUANTILES, FurtherImage
from tiltkit.protocols import Axis, Layout

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from tiltkit.problem import Problem

__all__ = ["add_further", "add_phase", "build", "image_bytes", "outline", "store", "store_tree"]

# Pixels of a chunk along each axis of a plane.
_LARGEST_CHUNK = 512

_TEXT = h5py.string_dtype()


def build(
    file: h5py.File,
    layout: Layout,
    samples: int,
    recipe: Mapping[str, Any],
    provenance: Mapping[str, Any],
    *,
    allocate: bool = True,
) -> None:
    """Create groups and datasets of an empty result file.

    Args:
        file: An empty file, open for writing.
        layout: Axes, units and title of the result.
        samples: Posterior samples per slice.
        recipe: The resolved settings, stored as JSON.
        provenance: Input, versions and command, as nested mappings of scalars.
        allocate: Take the disk space of all images at once.
    """
    version = _versions(provenance).get("tiltkit", "")
    file.attrs.update(
        NX_class="NXroot",
        default="entry",
        creator="tiltkit",
        creator_version=version,
        file_time=datetime.now(UTC).isoformat(timespec="seconds"),
        HDF5_Version=h5py.version.hdf5_version,
        h5py_version=h5py.version.version,
    )
    entry = _group(file, "entry", "NXentry")
    entry.attrs["default"] = "data"
    store(entry, "title", layout.title or "tiltkit result")
    _images(entry, layout, samples, allocate=allocate)
    _process(entry, version, recipe, provenance)
    if layout.metadata:
        store_tree(_group(entry, "scan_header", "NXcollection"), layout.metadata)
    diagnostics = _group(entry, "diagnostics", "NXcollection")
    diagnostics.create_dataset("complete", data=np.zeros(layout.shape[0], np.uint8))


@contextmanager
def outline(
    name: str, layout: Layout, recipe: Mapping[str, Any], provenance: Mapping[str, Any]
) -> Iterator[Path]:
    """Temporary result file without finished slices: all that is known before sampling.

    Its images have their shapes, but no values and no disk space.

    Args:
        name: Name of the file.
        layout: Axes, units and title of the result.
        recipe: The resolved settings.
        provenance: Input, versions and command.
    """
    with TemporaryDirectory(prefix="tiltkit-") as folder:
        path = Path(folder, name)
        with h5py.File(path, "w") as file:
            build(file, layout, int(recipe["samples"]), recipe, provenance, allocate=False)
        yield path


def image_bytes(layout: Layout, samples: int, problem: Problem | None = None) -> int:
    """Size in bytes of all images of a result: samples, mean, std, baseline, phase, quantiles.

    Args:
        layout: Axes of the result.
        samples: Samples per slice.
        problem: The problem of a slice, which may have further images; None for none.
    """
    numbers = samples + 4 + len(QUANTILES)
    if problem is not None:
        numbers += len(problem.maps)
        # Samples and mean with two parts, and the spread of the phase.
        numbers += 2 * (samples + 1) + 1 if problem.complex_image else 0
    return 4 * math.prod(layout.shape) * numbers


def add_phase(entry: h5py.Group, layout: Layout) -> None:
    """Create the group for the phase of the posterior mean, for complex images."""
    group = _plot(entry, "phase", "phase", layout)
    _add_stack(group, "phase", layout, "phase of the posterior mean", units="rad")


def add_further(entry: h5py.Group, layout: Layout, name: str, image: FurtherImage) -> None:
    """Create the group of a further image, ``further/NAME``.

    Args:
        entry: The NXentry.
        layout: Axes and units of the result.
        name: Name of the image.
        image: The image of one slice, or those of its samples.
    """
    if "further" not in entry:
        _group(entry, "further", "NXcollection")
    samples = len(image.values) if image.values.ndim == len(layout.shape) else 0
    draws = Axis("sample", range(samples), long_name="sample number") if samples else None
    group = _plot(entry, f"further/{name}", name, layout, draws)
    _add_stack(
        group, name, layout, image.long_name, first=samples, units=image.units,
        dtype=image.values.dtype,
    )  # fmt: skip


def store(group: h5py.Group, name: str, value: Any) -> None:
    """Write one scalar, text or array; values of other types are written as text."""
    if isinstance(value, str | bytes):
        group.create_dataset(name, data=value, dtype=_TEXT)
        return
    array = np.asarray(value)
    if array.dtype.kind in "biufc":
        group.create_dataset(name, data=array)
        if array.dtype.kind in "fc":
            group[name].attrs["units"] = ""  # required by NeXus; unknown here
    elif array.dtype.kind == "U":
        group.create_dataset(name, data=array.astype(object), dtype=_TEXT)
    else:
        group.create_dataset(name, data=str(value), dtype=_TEXT)


def store_tree(group: h5py.Group, tree: Mapping[str, Any]) -> None:
    """Write nested mappings as nested groups; values that are None are left out.

    A key that is not a valid NeXus name is changed to one; the attribute ``key`` has the original.
    """
    for key, value in tree.items():
        if value is None:
            continue
        name = _free_name(group, str(key))
        if isinstance(value, Mapping):
            store_tree(_group(group, name, "NXcollection"), value)
        else:
            store(group, name, value)
        if name != key:
            group[name].attrs["key"] = str(key)


def _free_name(group: h5py.Group, key: str) -> str:
    name = re.sub(r"[^A-Za-z0-9_]", "_", key) or "_"
    while name in group:
        name += "_"
    return name


def _images(entry: h5py.Group, layout: Layout, samples: int, *, allocate: bool) -> None:
    """Create the groups of mean with std, baseline, samples and quantiles."""
    add_stack = partial(_add_stack, allocate=allocate)
    data = _plot(entry, "data", "data", layout)
    add_stack(data, "data", layout, layout.long_name)
    add_stack(data, "data_errors", layout, "standard deviation")
    data["std"] = data["data_errors"]
    data.attrs["auxiliary_signals"] = np.array(["std"], dtype=_TEXT)
    spread = _plot(entry, "uncertainty", "std", layout)
    spread["std"] = data["data_errors"]
    baseline = _plot(entry, "baseline", "baseline", layout)
    add_stack(baseline, "baseline", layout, "reconstruction without a prior")
    draws = Axis("sample", range(samples), long_name="sample number")
    group = _plot(entry, "samples", "samples", layout, draws)
    add_stack(group, "samples", layout, "posterior sample", first=samples)
    levels = Axis("level", QUANTILES, long_name="quantile level")
    group = _plot(entry, "quantiles", "quantiles", layout, levels)
    add_stack(group, "quantiles", layout, "posterior quantile", first=len(QUANTILES))


def _plot(
    entry: h5py.Group, name: str, signal: str, layout: Layout, first: Axis | None = None
) -> h5py.Group:
    """Create a group of class NXdata with its axes; ``first`` precedes those of the layout."""
    group = _group(entry, name, "NXdata")
    axes = ([first] if first else []) + list(layout.axes)
    group.attrs["signal"] = signal
    group.attrs["axes"] = np.array([axis.name for axis in axes], dtype=_TEXT)
    for position, axis in enumerate(axes):
        group.attrs[f"{axis.name}_indices"] = position
        _axis(entry, group, axis, shared=axis is not first)
    return group


def _axis(entry: h5py.Group, group: h5py.Group, axis: Axis, *, shared: bool) -> None:
    """Write the coordinates of one axis; axes of the layout are stored once and linked."""
    if shared and group.name != "/entry/data":
        group[axis.name] = entry[f"data/{axis.name}"]
        return
    # NeXus requires floating-point numbers on spatial axes.
    dataset = group.create_dataset(axis.name, data=np.asarray(axis.coordinates, np.float64))
    dataset.attrs["units"] = axis.units
    dataset.attrs["long_name"] = axis.long_name or axis.name


def _add_stack(
    group: h5py.Group,
    name: str,
    layout: Layout,
    long_name: str,
    *,
    first: int = 0,
    units: str | None = None,
    dtype: DTypeLike = np.float32,
    allocate: bool = True,
) -> None:
    """Create an image stack (slice, *image) or (first, slice, *image), with one chunk per plane.

    Large planes have several chunks, so that a tile is written without rewriting the plane.
    """
    lead = (first,) if first else ()
    shape = (*lead, *layout.shape)
    plane = tuple(min(n, _LARGEST_CHUNK) for n in layout.shape[1:][-2:])
    dataset = group.create_dataset(
        name,
        shape,
        dtype,
        chunks=(1,) * (len(shape) - len(plane)) + plane,
        fletcher32=True,
        dcpl=early_allocation() if allocate else None,
    )
    dataset.attrs["units"] = layout.units if units is None else units
    dataset.attrs["long_name"] = long_name
    dataset.attrs["interpretation"] = "image"


def _process(
    entry: h5py.Group, version: str, recipe: Mapping[str, Any], provenance: Mapping[str, Any]
) -> None:
    """Write program, version, provenance and settings of the run."""
    process = _group(entry, "reconstruction", "NXprocess")
    store(process, "program", "tiltkit")
    store(process, "version", version)
    store(process, "date", str(provenance.get("date", "")) or datetime.now(UTC).isoformat())
    process.create_dataset("sequence_index", data=1)
    store_tree(_group(process, "parameters", "NXparameters"), provenance)
    note = _group(process, "configuration", "NXnote")
    store(note, "type", "application/json")
    store(note, "data", json.dumps(recipe, indent=1, default=str))


def _versions(provenance: Mapping[str, Any]) -> Mapping[str, str]:
    versions: Mapping[str, str] = provenance.get("versions", {})
    return versions


def _group(parent: h5py.Group, name: str, nx_class: str) -> h5py.Group:
    group = parent.create_group(name)
    group.attrs["NX_class"] = nx_class
    return group
