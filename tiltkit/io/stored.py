"""Content of results: arrays in memory, or a result file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from tiltkit.errors import InputError, Kind, MachineError
from tiltkit.io.reading import (
    open_result,
    read_finished,
    read_further,
    read_provenance,
    read_recipe,
    read_slice_diagnostics,
    tree,
)
from tiltkit.io.tiles import Bounds, window_bounds
from tiltkit.posterior.outcome import QUANTILES, FurtherImage, Outcome
from tiltkit.protocols import Axis, Layout

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

__all__ = ["Stored", "StoredInFile", "StoredInMemory"]

# Datasets of the images in a result file.
_DATASETS = {
    "mean": "data/data",
    "std": "data/data_errors",
    "samples": "samples/samples",
    "baseline": "baseline/baseline",
    "phase": "phase/phase",
    "quantiles": "quantiles/quantiles",
}
# Images with an axis before that of slices.
_STACKED = ("samples", "quantiles")


class Stored(Protocol):
    """The content of a result.

    Attributes:
        layout: Axes, units and title.
        settings: The resolved recipe, as nested mappings that JSON knows.
        provenance: Input, versions and command, as nested mappings.
    """

    @property
    def layout(self) -> Layout:
        """See above."""
        ...

    @property
    def settings(self) -> Mapping[str, Any]:
        """See above."""
        ...

    @property
    def provenance(self) -> Mapping[str, Any]:
        """See above."""
        ...

    def image(self, name: str, index: int | None = None) -> NDArray[np.floating] | None:
        """Images (slice, *image), or those of one slice; None if the result has none.

        Args:
            name: ``mean``, ``std``, ``baseline``, ``phase``, or ``samples`` and ``quantiles``,
                which have another axis first.
            index: Position of the slice; all slices when None.
        """
        ...

    def further(self, index: int | None = None) -> dict[str, FurtherImage]:
        """Further images by name, of one slice or (slice, *image) and (sample, slice, *image)."""
        ...

    def diagnostics(self, index: int) -> dict[str, Any]:
        """Certificate of one slice."""
        ...


@dataclass
class StoredInMemory:
    """Arrays of a result, with the methods of `tiltkit.io.result.ResultWriter` that fill it.

    Attributes:
        layout: Axes, units and title.
        settings: The resolved recipe.
        provenance: Input, versions and command.
        images: By name, see `Stored.image`.
        reports: Certificates of the finished slices by position.
        finished: Positions of the finished slices.
    """

    layout: Layout
    settings: Mapping[str, Any]
    provenance: Mapping[str, Any]
    images: dict[str, NDArray[np.floating]]
    reports: dict[int, dict[str, Any]] = field(default_factory=dict)
    finished: frozenset[int] = frozenset()
    _parts: dict[int, dict[Bounds, dict[str, Any]]] = field(default_factory=dict)
    _further: dict[str, FurtherImage] = field(default_factory=dict)

    @classmethod
    def empty(
        cls,
        layout: Layout,
        samples: int,
        settings: Mapping[str, Any],
        provenance: Mapping[str, Any],
        dtype: DTypeLike = np.float32,
    ) -> StoredInMemory:
        """Allocate the arrays of a result.

        Raises:
            MachineError: The memory is too small.
        """
        shapes = dict.fromkeys(("mean", "std", "baseline"), layout.shape)
        shapes |= {"samples": (samples, *layout.shape)}
        shapes |= {"quantiles": (len(QUANTILES), *layout.shape)}
        try:
            images = {name: np.zeros(shape, dtype) for name, shape in shapes.items()}
        except MemoryError as error:
            raise MachineError(
                f"The images of this result do not fit into memory: {error}.",
                "name a file with output=, or choose fewer slices or samples.",
                kind=Kind.MEMORY,
            ) from error
        return cls(layout, _plain(settings), dict(provenance), images)

    @classmethod
    def single(
        cls,
        layout: Layout,
        outcome: Outcome,
        settings: Mapping[str, Any],
        provenance: Mapping[str, Any],
    ) -> StoredInMemory:
        """Create a result of one slice that shares the arrays of an outcome."""
        images = {"mean": outcome.mean[None], "std": outcome.std[None]}
        images |= {"baseline": outcome.baseline[None], "samples": outcome.samples[:, None]}
        images["quantiles"] = np.stack([outcome.quantiles[q] for q in QUANTILES])[:, None]
        if outcome.phase is not None:
            images["phase"] = outcome.phase[None]
        result = cls(layout, _plain(settings), dict(provenance), dict(images))
        result._write_further((0,), outcome)
        result.close_slice(0, outcome.diagnostics)
        return result

    def write(self, index: int, outcome: Outcome) -> None:
        """Store one slice."""
        self._write_images(index, (), outcome)
        self.close_slice(index, outcome.diagnostics)

    def write_tile(self, index: int, window: tuple[slice, ...], outcome: Outcome) -> None:
        """Store a tile of a slice; call `close_slice` after the last one."""
        self._write_images(index, window, outcome)
        self._parts.setdefault(index, {})[window_bounds(window)] = dict(outcome.diagnostics)

    def tiles(self, index: int) -> dict[Bounds, dict[str, Any]]:
        """Certificates of the stored tiles of a slice, by position."""
        return dict(self._parts.get(index, {}))

    def close_slice(self, index: int, diagnostics: Mapping[str, Any]) -> None:
        """Mark a slice as finished, with its certificate."""
        self.reports[index] = {
            name: np.asarray(value, float) if _is_curve(value) else value
            for name, value in diagnostics.items()
            if value is not None
        }
        self.finished |= {index}

    def image(self, name: str, index: int | None = None) -> NDArray[np.floating] | None:
        """The array itself, not a copy; see `Stored`."""
        found = self.images.get(name)
        return found if found is None or index is None else found[_at(name, index)]

    def further(self, index: int | None = None) -> dict[str, FurtherImage]:
        """The arrays themselves, not copies; see `Stored`."""
        if index is None:
            return dict(self._further)
        return {
            name: replace(one, values=one.values[self._place(one.values, (index,))])
            for name, one in self._further.items()
        }

    def diagnostics(self, index: int) -> dict[str, Any]:
        """Certificate of one slice."""
        return dict(self.reports[index])

    def _write_images(self, index: int, window: tuple[slice, ...], outcome: Outcome) -> None:
        at: tuple[int | slice, ...] = (index, *window)
        for name in ("mean", "std", "baseline"):
            self.images[name][at] = getattr(outcome, name)
        self.images["samples"][(slice(None), *at)] = outcome.samples
        for position, level in enumerate(QUANTILES):
            self.images["quantiles"][(position, *at)] = outcome.quantiles[level]
        if outcome.phase is not None:
            if "phase" not in self.images:
                self.images["phase"] = np.zeros_like(self.images["mean"])
            self.images["phase"][at] = outcome.phase
        self._write_further(at, outcome)

    def _write_further(self, at: tuple[int | slice, ...], outcome: Outcome) -> None:
        for name, image in outcome.further.items():
            per_sample = image.values.ndim == len(self.layout.shape)
            if name not in self._further:
                lead = (len(image.values),) if per_sample else ()
                empty = np.zeros((*lead, *self.layout.shape), image.values.dtype)
                self._further[name] = replace(image, values=empty)
            values = self._further[name].values
            values[self._place(values, at)] = image.values

    def _place(self, values: NDArray[Any], at: tuple[int | slice, ...]) -> tuple[int | slice, ...]:
        """Index of a slice, or of a part of it, in images with or without an axis of samples."""
        return (slice(None), *at) if values.ndim > len(self.layout.shape) else at


class StoredInFile:
    """A result file, opened for every access and closed again.

    Args:
        path: The file.

    Raises:
        InputError: It cannot be read, is no result, or slices are not finished.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        total, finished = len(self.layout.axes[0].coordinates), len(read_finished(path))
        if finished < total:
            raise InputError(
                f"{finished} of {total} slices of {path} are finished.",
                "complete the run with resume=True, or with --resume on the command line.",
            )

    @cached_property
    def layout(self) -> Layout:
        """Axes, units, title and the copied header."""
        with open_result(self.path) as file:
            entry = file["entry"]
            data = entry["data"]
            axes = [
                Axis(
                    str(name),
                    data[name][:],
                    str(data[name].attrs.get("units", "")),
                    str(data[name].attrs.get("long_name", "")),
                )
                for name in data.attrs["axes"]
            ]
            return Layout(
                tuple(axes),
                units=str(data["data"].attrs["units"]),
                long_name=str(data["data"].attrs["long_name"]),
                title=str(entry["title"].asstr()[()]),
                metadata=tree(entry["scan_header"]) if "scan_header" in entry else {},
            )

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """The resolved recipe."""
        return read_recipe(self.path)

    @cached_property
    def provenance(self) -> Mapping[str, Any]:
        """Input, versions and command."""
        return read_provenance(self.path)

    def image(self, name: str, index: int | None = None) -> NDArray[np.floating] | None:
        """Read from the file; see `Stored`."""
        with open_result(self.path) as file:
            dataset = file["entry"].get(_DATASETS[name])
            if dataset is None:
                return None
            found: NDArray[np.floating] = dataset[() if index is None else _at(name, index)]
            return found

    def further(self, index: int | None = None) -> dict[str, FurtherImage]:
        """Read from the file; see `Stored`."""
        return read_further(self.path, index)

    def diagnostics(self, index: int) -> dict[str, Any]:
        """Certificate of one slice."""
        return read_slice_diagnostics(self.path, index)


def _at(name: str, index: int) -> tuple[int | slice, ...]:
    """The array index of a slice."""
    return (slice(None), index) if name in _STACKED else (index,)


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Convert settings to the values stored in files: paths become texts."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(settings), default=str))
    return plain


def _is_curve(value: Any) -> bool:
    """Return whether a diagnostic has one number per level."""
    if isinstance(value, str) or not isinstance(value, Sequence | np.ndarray) or not len(value):
        return False
    return isinstance(value[0], int | float | np.number)
